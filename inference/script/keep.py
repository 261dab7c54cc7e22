"""Models built once: constructors that give the same object for the same arguments, initialisers that run once.

Classes are patched in place, so that every name for them, `isinstance` and subclasses go on working.
"""

import argparse
import functools
import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from inference.environment import ConfigurationError
from inference.script import active
from inference.script.chance import Chance

_MEMOISED = "__muster_memoised__"


@dataclass(kw_only=True)
class Kept:
    maker: Any
    arguments: Any  # frozen
    value: Any
    chance: tuple[Chance, Chance]  # random state before and after it was made
    used: bool = True  # in the request that runs, or ran last


class Keep:
    def __init__(self) -> None:
        self.built = 0  # in the request that runs
        self.reused = 0
        self._kept: list[Kept] = []
        self._done: list[Kept] = []

    def begin(self) -> None:
        """A new request: nothing was asked for yet."""
        self.built = self.reused = 0
        for kept in self._kept:
            kept.used = False

    def drop(self) -> None:
        """Forgets every model: an error struck inside one, nobody knows in which state it left it."""
        self._kept.clear()

    def make(self, maker: Any, build: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `build` made when these arguments were first given."""
        kept = self.find(maker, args, kwargs)
        return kept.value if kept is not None else self.add(maker, build, args, kwargs)

    def find(self, maker: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kept | None:
        asked = frozen((args, kwargs))
        kept = next((one for one in self._kept if one.maker is maker and same(one.arguments, asked)), None)
        if kept is not None:
            kept.used = True
            self.reused += 1
            before, after = kept.chance
            if Chance.now() == before:  # a fresh process would have drawn the same numbers while building
                after.restore()
        return kept

    def add(self, maker: Any, build: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Other arguments than before: the models of this maker that the request did not use make room first."""
        self._kept = [one for one in self._kept if one.used or one.maker is not maker]
        arguments = frozen((args, kwargs))
        before = Chance.now()
        value = build()
        self._kept.append(Kept(maker=maker, arguments=arguments, value=value, chance=(before, Chance.now())))
        self.built += 1
        return value

    def holds(self, value: Any) -> bool:
        return any(one.value is value for one in self._kept)

    def once(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the first time only. Other arguments are its own affair: it is called, and most refuse."""
        asked = frozen((args, kwargs))
        done = next((one for one in self._done if one.maker is function and same(one.arguments, asked)), None)
        if done is None:
            now = Chance.now()
            done = Kept(maker=function, arguments=asked, value=function(*args, **kwargs), chance=(now, now))
            self._done.append(done)
        return done.value


def memoise(reference: str) -> None:
    """`module:Class` or `module:function` gives a kept object from now on, while a request runs."""
    found = resolve(reference)
    if isinstance(found, type):
        _memoise_class(found)
    else:
        replace_everywhere(found, memoised(found))


def memoised(maker: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> Any:
        run = active.current()
        build = functools.partial(maker, *args, **kwargs)
        return run.keep.make(maker, build, args, kwargs) if run is not None else build()

    return make


def guard(reference: str) -> None:
    """`module:function` runs once per process from now on."""
    found = resolve(reference)
    replace_everywhere(found, guarded(found))


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def once(*args: Any, **kwargs: Any) -> Any:
        run = active.current()
        return run.keep.once(function, args, kwargs) if run is not None else function(*args, **kwargs)

    return once


def resolve(reference: str) -> Any:
    module, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise ConfigurationError(f"{reference!r} of the script does not exist: {module} has no {name}") from None
    return found


def replace_everywhere(original: Any, replacement: Any) -> None:
    """Every module's own name for `original`: `from x import f` binds one that patching x would not reach."""
    for module in list(sys.modules.values()):
        names = [name for name, value in list(getattr(module, "__dict__", {}).items()) if value is original]
        for name in names:
            setattr(module, name, replacement)


def frozen(value: Any) -> Any:
    """What `value` says now, to be compared later: a constructor may change the configuration it is given.

    Containers and plain records are taken apart; everything else, a model say, stands for itself.
    """
    if isinstance(value, dict):
        return (type(value), {key: frozen(inner) for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return (type(value), [frozen(inner) for inner in value])
    if isinstance(value, argparse.Namespace | SimpleNamespace):
        return (type(value), frozen(vars(value)))
    return value


def same(one: Any, other: Any) -> bool:
    """Equal all the way down. What cannot be compared is only equal to itself."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    try:
        return bool(one == other)
    except Exception:  # tensors of many elements, say
        return False


def _memoise_class(kind: Any) -> None:
    if _MEMOISED in vars(kind):  # a script may know it by several names
        return
    setattr(kind, _MEMOISED, True)
    plain_new, plain_init = kind.__new__, kind.__init__

    def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
        run = active.current() if cls is kind else None
        kept = run.keep.find(kind, args, kwargs) if run is not None else None
        if kept is not None:
            return kept.value
        return plain_new(cls) if plain_new is object.__new__ else plain_new(cls, *args, **kwargs)

    @functools.wraps(plain_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        run = active.current() if type(self) is kind else None
        if run is None:
            plain_init(self, *args, **kwargs)
        elif not run.keep.holds(self):

            def build() -> Any:
                plain_init(self, *args, **kwargs)
                return self

            run.keep.add(kind, build, args, kwargs)

    kind.__new__ = make
    kind.__init__ = init


def install(memoise_these: Iterable[str], guard_these: Iterable[str]) -> None:
    for reference in memoise_these:
        memoise(reference)
    for reference in guard_these:
        try:
            guard(reference)
        except ImportError as error:  # of a library that this way of calling the script does not need
            print(f"muster: once {reference!r} is left out: {error}", flush=True)  # noqa: T201 (the gang's log)
