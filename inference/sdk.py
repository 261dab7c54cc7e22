"""For a script that knows Muster and still runs without it (docs/sdk.md): every function here is a pass-through
under plain torchrun.

    from inference import sdk

    dist.init_process_group(...)          -> sdk.init_process_group(...)
    pipeline = WanT2V(...)                -> sdk.cached(WanT2V)(...)
    initialize_model_parallel(...)        -> sdk.once(initialize_model_parallel)(...)
    for t in tqdm(steps):                 -> for t in sdk.tqdm(steps):
    save(video, args.save_file)           -> save(video, sdk.output("video.mp4", args.save_file))
    generate(_parse_args())               -> sdk.main(lambda: generate(_parse_args()))

Imports neither torch nor tqdm before they are needed.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from inference.script import active

P = ParamSpec("P")
T = TypeVar("T")


def serving() -> bool:
    """Whether a request of Muster's runs in this process."""
    return active.run is not None


def cached(maker: Callable[P, T]) -> Callable[P, T]:
    """A constructor that gives the object it made for equal arguments, from one request to the next."""

    @functools.wraps(maker, updated=())
    def make(*args: P.args, **kwargs: P.kwargs) -> T:
        run = active.current()
        if run is None:
            return maker(*args, **kwargs)
        made: T = run.keep.make(maker, functools.partial(maker, *args, **kwargs), args, kwargs)
        return made

    return make


def once(function: Callable[P, T]) -> Callable[P, T]:
    """An initialiser that runs once per process and gives the same answer after that."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        run = active.current()
        if run is None:
            return function(*args, **kwargs)
        answer: T = run.keep.once(function, args, kwargs)
        return answer

    return call


def init_process_group(*args: Any, **kwargs: Any) -> None:
    """`torch.distributed.init_process_group`; under Muster the request gets the gang's group of that backend."""
    import torch.distributed as dist

    dist.init_process_group(*args, **kwargs)


def tqdm(iterable: Iterable[T], *args: Any, **kwargs: Any) -> Iterable[T]:
    """`tqdm.tqdm`; under Muster its items are the steps, wherever the loop is."""
    run = active.current()
    if run is not None:
        phase = str(kwargs.get("desc") or "steps").strip(" :")
        return run.context.steps(iterable, phase, kwargs.get("total"))
    from tqdm import tqdm as bar

    found: Iterable[T] = bar(iterable, *args, **kwargs)
    return found


def output(name: str, otherwise: Any = None) -> Any:
    """Where to save: under Muster a path that is published as `name`, else `otherwise` (or `name`)."""
    run = active.current()
    return str(run.context.output(name)) if run is not None else (otherwise or name)


def main(run: Callable[[], Any]) -> None:
    """The script's main part: what it returns as a dict is the request's result."""
    answer = run()
    if active.run is not None and isinstance(answer, dict):
        active.run.result = answer
