"""S2. Many cancels at random steps on one warm gang: what the next request waits, and what stays behind."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, stand
from benchmarks.figures import median, quantile
from benchmarks.results import Aim, Result
from benchmarks.steps import Steps, resident_mib, slope

STEP_S = 0.1
FARTHEST = 8
SLACK_S = 1.0
SETTLED = 100
FLAT_MIB = 1.0
METHOD = f"""
One gang of 4 ranks (CPU, gloo) walks requests of 10,000 steps of {STEP_S:g} s, each with an all-reduce of 1 MiB. While
one runs the next is already queued. After the first step of a request, and a random time of up to {FARTHEST} steps,
it is canceled; seconds count from before the POST of the cancel to the first step of the next request on rank 0 (both
by the clock of this machine). The default beat of 5 s. RSS of every rank is taken after each cancel; growth and slope
leave the first {SETTLED} out: the allocator takes that long to settle, in leaps of 1 to 7 MiB.
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancels", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    result = Result(name="cancels", title="Cancels at random steps", method=METHOD, load_before=machine.load())
    with (
        tempfile.TemporaryDirectory(prefix="muster-cancels-") as folder,
        stand.postgres() as url,
        stand.service(url) as muster,
    ):
        steps = Steps(muster, Path(folder))
        steps.apply()
        before = steps.idle_gang()
        seen = _cancel_many(steps, before, options.cancels, random.Random(options.seed))
        after = steps.idle_gang()
    _report(result, before, after, seen)
    result.write()


def _cancel_many(steps: Steps, gang: dict[str, Any], cancels: int, chance: random.Random) -> list[dict[str, Any]]:
    seen = []
    running = steps.submit(steps=10_000, step_s=STEP_S)
    first = steps.first_step(running)
    for number in range(cancels):
        waiting = steps.submit(steps=10_000, step_s=STEP_S)
        time.sleep(max(0.0, first["at"] + chance.uniform(0, FARTHEST * STEP_S) - time.time()))
        asked = time.time()
        steps.cancel(running)
        first = steps.first_step(waiting)
        ended = steps.ended(running)
        one = {"wait_s": first["at"] - asked, "after_s": asked - _began(steps, running), "status": ended["status"]}
        seen.append(one | {"rss_mib": resident_mib(gang)})
        print(f"{number + 1}: {one}", flush=True)
        running = waiting
    steps.cancel(running)
    steps.ended(running)
    return seen


def _began(steps: Steps, request: str) -> float:
    return float(steps.noted(request, "first_step")[0]["at"])


def _report(result: Result, before: dict[str, Any], after: dict[str, Any], seen: list[dict[str, Any]]) -> None:
    waits = [one["wait_s"] for one in seen]
    same = [one["pid"] for one in before["ranks"]] == [one["pid"] for one in after["ranks"]]
    same = same and before["incarnation"] == after["incarnation"]
    bound = STEP_S + SLACK_S
    memory = {rank: [one["rss_mib"][rank] for one in seen] for rank in seen[0]["rss_mib"]}
    settled = {rank: values[min(SETTLED, len(values) - 2) :] for rank, values in memory.items()}
    steepest = max(100 * slope(values) for values in settled.values())
    canceled = sum(one["status"] == "canceled" for one in seen)
    result.aims = [
        Aim(what="canceled", aim=f"{len(seen)}", measured=f"{canceled}", met=canceled == len(seen)),
        Aim(what="same processes and incarnation", aim="yes", measured="yes" if same else "no", met=same),
        Aim(
            what="slowest: cancel to the next request's first step",
            aim=f"<= {STEP_S:g} + {SLACK_S:g} s",
            measured=f"{max(waits):.2f} s",
            met=max(waits) <= bound,
        ),
        Aim(
            what="memory of the ranks",
            aim=f"grows by less than {FLAT_MIB:g} MiB in 100 cancels",
            measured=f"{steepest:.2f} MiB",
            met=steepest < FLAT_MIB,
        ),
    ]
    rows = [(name, f"{value:.3f}") for name, value in (
        ("median", median(waits)), ("90 %", quantile(waits, 0.9)), ("slowest", max(waits)))]  # fmt: skip
    result.tables.append((f"Seconds from a cancel to the next first step, {len(seen)} cancels", ("", "s"), rows))
    result.tables.append(
        (
            "RSS in MiB",
            ("rank", "after the first", f"after {SETTLED}", "after the last", "slope per 100"),
            [
                (
                    rank,
                    f"{values[0]:.1f}",
                    f"{settled[rank][0]:.1f}",
                    f"{values[-1]:.1f}",
                    f"{100 * slope(settled[rank]):.2f}",
                )
                for rank, values in sorted(memory.items())
            ],
        )
    )
    late = sum(wait > bound for wait in waits)
    result.notes.append(f"{late} of {len(waits)} waited longer than {bound:g} s")
    result.samples = {"cancels": seen}


if __name__ == "__main__":
    main()
