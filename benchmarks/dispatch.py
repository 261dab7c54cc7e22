"""A3. What Muster adds to a request: POST to terminal answer of a no-op handler on a warm gang of four ranks."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import machine, peers, stand
from benchmarks.figures import median, ms, quantile
from benchmarks.results import Aim, Result
from benchmarks.wire import Line

METHOD = """
One client, one kept-alive connection per target, one request after the other.

* *muster*: `POST /v1/requests` with `Prefer: wait=30` on template `echo` (one step: one all-reduce) with a warm gang of
  4 ranks; every move is committed by Postgres with fsync and synchronous commit.
* *ray*: Ray Serve (one replica) in front of 4 actors in a gloo group that do the same all-reduce; nothing is stored.
* *floor*: a FastAPI `POST` that does nothing.

All targets are up at the same time and take turns in blocks, in random order, with the same client. The ratio is that
of the quantiles over all rounds.
"""
RANKS = 4
Shot = Callable[[], None]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="per target and round")
    parser.add_argument("--block", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="dispatch", title="Dispatch overhead on a warm gang", method=METHOD, load_before=load)
    with _targets(result) as targets:
        for shot in targets.values():
            for _ in range(20):
                shot()
        rounds = [_round(targets, options.requests, options.block) for _ in range(options.rounds)]
    _report(result, rounds)
    result.write()


@contextlib.contextmanager
def _targets(result: Result) -> Iterator[dict[str, Shot]]:
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(peers.running("floor", interpreter=sys.executable))
        muster = stack.enter_context(stand.service(stack.enter_context(stand.postgres())))
        muster.apply("echo", ranks_per_node=RANKS, pool={"min": 1, "max": 1})
        stand.until(lambda: any(g["state"] == "idle" for g in muster.gangs("echo")), "the gang is warm")
        targets = {"floor": _plain(floor["url"] + "/noop"), "muster": _muster(muster.line())}
        if (version := peers.has("ray")) and peers.has("torch"):
            ray = stack.enter_context(peers.running("ray_gang", str(RANKS)))
            targets["ray"] = _plain(ray["url"] + "/")
            result.notes.append(f"Ray {version}")
        else:
            result.notes.append("Ray is not installed here: skipped. `pip install -c constraints.txt '.[bench]'`.")
        yield targets


def _plain(url: str) -> Shot:
    line, path = Line(url), "/" + url.split("/", 3)[3]
    return lambda: line.good("POST", path, {"text": "x"}) and None


def _muster(line: Line) -> Shot:
    def shot() -> None:
        answer = line.good("POST", "/v1/requests", {"template": "echo", "input": {"text": "x"}}, Prefer="wait=30")
        if answer["status"] != "succeeded":
            raise RuntimeError(f"the request is {answer['status']}: {answer['error']}")

    return shot


def _round(targets: dict[str, Shot], requests: int, block: int) -> dict[str, list[float]]:
    blocks = [name for name in targets for _ in range(requests // block)]
    random.shuffle(blocks)
    seconds: dict[str, list[float]] = {name: [] for name in targets}
    for name in blocks:
        for _ in range(block):
            begun = time.perf_counter()
            targets[name]()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def _report(result: Result, rounds: list[dict[str, list[float]]]) -> None:
    rows = [
        (name, number, len(samples), ms(min(samples)), ms(median(samples)), ms(quantile(samples, 0.99)))
        for name in rounds[0]
        for number, samples in enumerate((each[name] for each in rounds), start=1)
    ]
    result.tables.append(("Milliseconds", ("target", "round", "n", "min", "p50", "p99"), rows))
    whole = {name: [sample for each in rounds for sample in each[name]] for name in rounds[0]}
    totals = [(name, len(s), ms(min(s)), ms(median(s)), ms(quantile(s, 0.99))) for name, s in whole.items()]
    result.tables.append(("All rounds, milliseconds", ("target", "n", "min", "p50", "p99"), totals))
    result.samples = {name: [ms(sample) for sample in samples] for name, samples in whole.items()}
    if "ray" not in whole:
        result.aims.append(Aim(what="p50 / Ray's p50", aim="<= 0.5", measured="Ray is absent", met=None))
        return
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        ratio = quantile(whole["muster"], share) / quantile(whole["ray"], share)
        aim = "<= 0.5" if name == "p50" else "-"
        met = ratio <= 0.5 if name == "p50" else ratio <= 1
        result.aims.append(Aim(what=f"{name} / Ray's {name}", aim=aim, measured=f"{ratio:.2f}", met=met))


if __name__ == "__main__":
    main()
