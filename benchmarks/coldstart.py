"""A8. What Muster adds to the start of a gang: from a request on an empty pool to its lease, against bare torchrun."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, stand
from benchmarks.figures import median, spread
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand

METHOD = """
A gang of 4 ranks on CPU that builds no model, in turns, in random order, each on a machine that rests.

* *torchrun*: `python -m torch.distributed.run --standalone --nproc-per-node 4 peers/bare_gang.py`, from the start of
  the process until rank 0 says that the handler's module is imported, the group stands and the handler's first
  collective is done.
* *muster*: `POST /v1/requests` on template `echo` with an empty pool, from the record of the request to its lease
  (`metrics.queue_s`): the decision, the launch, torch's import on all ranks, hello, both groups, the preflight, the
  handler's setup (the same collective), ready, and the assignment.

*launch to ready* is the part of it that the gang's processes took.
"""
RANKS = 4
BODY = {"template": "echo", "input": {"text": "x"}}
PEER = Path(__file__).parent / "peers" / "bare_gang.py"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="coldstart", title="Cold start against bare torchrun", method=METHOD, load_before=load)
    with stand.postgres() as url, stand.service(url) as muster:
        muster.apply("echo", ranks_per_node=RANKS, pool={"min": 0, "max": 1})
        _muster(muster)
        _bare()
        rounds = [_round(muster) for _ in range(options.rounds)]
    _report(result, rounds)
    result.write()


def _round(muster: Stand) -> dict[str, Any]:
    turns = [lambda: {"torchrun": _bare()}, lambda: _muster(muster)]
    random.shuffle(turns)
    return {name: seconds for turn in turns for name, seconds in turn().items()}


def _bare() -> float:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", str(PEER)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(stand.ROOT)}
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
        process.wait()
    if line.strip() != b"ready":
        raise RuntimeError(f"bare torchrun said {line!r} and ended with {process.returncode}")
    return seconds


def _muster(muster: Stand) -> dict[str, float]:
    """On an empty pool; empties it again."""
    answer = muster.line().good("POST", "/v1/requests", BODY, Prefer="wait=30")
    if answer["status"] != "succeeded":
        raise RuntimeError(f"the request is {answer['status']}: {answer['error']}")
    (gang,) = muster.gangs("echo")
    muster.drain("echo")
    time.sleep(1.0)  # its processes leave
    metrics = answer["metrics"]
    return {"muster": metrics["queue_s"], "ready": metrics["cold_start_s"], **_phases(gang)}


def _phases(gang: dict[str, Any]) -> dict[str, float]:
    return {f"phase {name}": seconds for name, seconds in gang["launch_seconds"].items()}


def _report(result: Result, rounds: list[dict[str, Any]]) -> None:
    bare, ours, ready = ([each[name] for each in rounds] for name in ("torchrun", "muster", "ready"))
    ratio = median([each["muster"] / each["torchrun"] for each in rounds])
    medians = median(ours) / median(bare)
    measured = f"{ratio:.3f} (of the medians: {medians:.3f})"
    result.aims.append(Aim(what="muster / torchrun", aim="<= 1.05", measured=measured, met=ratio <= 1.05))
    rows = [
        ("bare torchrun", len(bare), spread(bare)),
        ("muster: request to lease", len(ours), spread(ours)),
        ("muster: launch to ready", len(ready), spread(ready)),
    ]
    result.tables.append(("Seconds, median (range)", ("", "n", "seconds"), rows))
    phases = [(name[6:], f"{median([each[name] for each in rounds]):.3f}") for name in rounds[0] if "phase" in name]
    result.tables.append(("Phases that rank 0 tells, median", ("phase", "seconds"), phases))
    result.notes.append("The ratio is the median of the rounds' ratios: each round's two turns ran next to each other.")
    result.samples = {"rounds": rounds}


if __name__ == "__main__":
    main()
