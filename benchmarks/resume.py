"""S4. A request with checkpoints loses a rank at a random step, many times: its output is the uninterrupted one."""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, stand
from benchmarks.figures import median
from benchmarks.results import Aim, Result
from benchmarks.steps import Steps

STEPS, STEP_S, KEEP_EVERY = 24, 0.05, 3
ASKED = {"steps": STEPS, "step_s": STEP_S, "keep_every": KEEP_EVERY, "seed": 7}
RANKS, GANGS = 2, 2
GONE_S = 10.0
METHOD = f"""
{GANGS} warm gangs of {RANKS} ranks (CPU, gloo). The request: {STEPS} steps of {STEP_S:g} s, each folds its number into
1 MiB of floats and all-reduces it, so that a step left out or taken twice changes every byte; a checkpoint after every
{KEEP_EVERY} steps; the floats are its output. It runs once undisturbed on each gang. Then, time and again: after its
first step and a random time, SIGKILL to a random rank of its gang. The next attempt goes on on the other gang, or on
the same one with new ranks. Where the request was faster than the signal the try is repeated. Compared is the sha256 of
the published bytes, which the service verified. At the end no file may be left under any `checkpoints`.
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    result = Result(name="resume", title="Killed at a random step", method=METHOD, load_before=machine.load())
    with tempfile.TemporaryDirectory(prefix="muster-resume-") as folder, stand.postgres() as url:
        storage = Path(folder) / "storage"
        with stand.service(url, MUSTER_STORAGE_URL=storage.as_uri(), MUSTER_LEASE="9", MUSTER_BEAT="2") as muster:
            steps = Steps(muster, Path(folder))
            steps.apply(ranks_per_node=RANKS, pool={"min": GANGS, "max": GANGS})
            stand.until(lambda: len(_idle(steps)) == GANGS, "warm gangs", within_s=120)
            whole = {_bytes(steps.ended(steps.submit(**ASKED))) for _ in range(GANGS)}
            chance = random.Random(options.seed)
            seen: list[dict[str, Any]] = []
            while len(seen) < options.kills:
                if one := _kill_one(steps, chance):
                    seen.append(one)
                    print(f"{len(seen)}: {one}", flush=True)
            left = _left(storage)
    _report(result, whole, seen, left)
    result.write()


def _idle(steps: Steps) -> list[dict[str, Any]]:
    return [gang for gang in steps.stand.gangs("stepper") if gang["state"] == "idle"]


def _bytes(shown: dict[str, Any]) -> str:
    if shown["status"] != "succeeded":
        raise RuntimeError(f"the request is {shown['status']}: {shown['error']}")
    (output,) = shown["outputs"]
    return str(output["sha256"])


def _kill_one(steps: Steps, chance: random.Random) -> dict[str, Any] | None:
    """None: the request was over before the signal."""
    stand.until(lambda: _idle(steps), "an idle gang", within_s=120)
    request = steps.submit(**ASKED)
    first = steps.first_step(request)
    gang = _gang_of(steps, first["pid"])
    rank, after_s = chance.randrange(RANKS), chance.uniform(0, 0.95 * STEPS * STEP_S)
    time.sleep(max(0.0, first["at"] + after_s - time.time()))
    victim = next(one["pid"] for one in gang["ranks"] if one["rank"] == rank)
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    shown = steps.ended(request)
    if shown["status"] != "succeeded":
        return {**_LOST, "rank": rank, "after_s": round(after_s, 2), "attempts": shown["attempt"], "shown": shown}
    if shown["attempt"] == 1:
        return None
    resumed = steps.noted(request, "first_step", attempt=shown["attempt"])[-1]
    return {
        "rank": rank,
        "after_s": round(after_s, 2),
        "attempts": shown["attempt"],
        "resumed_at": shown["result"]["resumed_at"],
        "other_gang": resumed["pid"] not in [one["pid"] for one in gang["ranks"]]
        and _gang_of(steps, resumed["pid"])["id"] != gang["id"],
        "sha256": _bytes(shown),
        "done_s": round(time.monotonic() - killed, 2),
    }


_LOST = {"sha256": "", "resumed_at": 0, "other_gang": False, "done_s": 0.0}


def _gang_of(steps: Steps, pid: int) -> dict[str, Any]:
    return next(gang for gang in steps.stand.gangs("stepper") if pid in [one["pid"] for one in gang["ranks"]])


def _left(storage: Path) -> list[str]:
    """Files of checkpoints that stay."""

    def files() -> list[str]:
        return [str(path) for path in storage.glob("**/checkpoints/**/*") if path.is_file()]

    deadline = time.monotonic() + GONE_S
    while files() and time.monotonic() < deadline:
        time.sleep(0.5)
    return files()


def _report(result: Result, whole: set[str], seen: list[dict[str, Any]], left: list[str]) -> None:
    (reference,) = whole if len(whole) == 1 else ("",)
    equal = sum(one["sha256"] == reference for one in seen)
    resumed = [one for one in seen if one["resumed_at"]]
    could = [one for one in seen if one["after_s"] > (KEEP_EVERY + 3) * STEP_S * 2]
    result.aims = [
        Aim(what="output equal to the uninterrupted one", aim=f"{len(seen)} of {len(seen)}",
            measured=f"{equal}", met=equal == len(seen)),
        Aim(what="files of checkpoints left", aim="0", measured=str(len(left)), met=not left),
        Aim(what="went on from a checkpoint where one was whole for sure", aim=f"{len(could)}",
            measured=str(sum(bool(one["resumed_at"]) for one in could)), met=all(one["resumed_at"] for one in could)),
    ]  # fmt: skip
    done = [one["done_s"] for one in seen]
    rows = [
        ("kills", len(seen)),
        ("of rank 0", sum(one["rank"] == 0 for one in seen)),
        ("went on from a checkpoint", len(resumed)),
        ("on the other gang", sum(one["other_gang"] for one in seen)),
        ("attempts, at most", max(one["attempts"] for one in seen)),
        ("seconds from the kill to the result, median", f"{median(done):.1f}"),
        ("slowest", f"{max(done):.1f}"),
    ]
    result.tables.append(("What became of them", ("what", "figure"), rows))
    result.samples = {"reference": sorted(whole), "kills": seen, "left": left}


if __name__ == "__main__":
    main()
