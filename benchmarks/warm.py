"""A2. What staying warm is worth: the same request on no gang and on a warm one; and that the model is built once."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import machine, stand
from benchmarks.figures import median, spread
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand, until
from benchmarks.wire import Line

METHOD = """
The request: template `digits` (4 ranks, FSDP2 + sequence-parallel attention, CPU), digit 3, seed 7, `Prefer: wait=30`,
its two pictures in storage at the end. Each round: *cold*, with the pool drained to zero before (gang launched by the
request, torch imported, group made, model built, request run), then one *warm* on the gang that it left. Seconds from
POST to the terminal answer, seen by the client.

Built once: in one incarnation of a gang, the processes of all ranks (`/v1/gangs`) are the same before and after the
warm request; `echo` counts its builds itself and reports them with the rank processes in every result.
"""
BODY = {"template": "digits", "input": {"digit": 3, "seed": 7}}
ECHOES = 20


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="warm", title="Cold against warm", method=METHOD, load_before=load)
    with stand.postgres() as url, stand.service(url) as muster:
        muster.apply("digits")
        rounds = [_round(muster) for _ in range(options.rounds)]
        muster.drain("digits")
        builds = _builds(muster)
    _report(result, rounds, builds)
    result.write()


def _round(muster: Stand) -> dict[str, Any]:
    muster.drain("digits")
    line = muster.line()
    cold_s, cold = _run(line)
    (gang,) = muster.gangs("digits")
    before = _processes(gang)
    warm_s, warm = _run(line)
    (gang,) = muster.gangs("digits")
    return {
        "cold_s": cold_s,
        "warm_s": warm_s,
        "cold_run_s": cold["metrics"]["run_s"],
        "warm_run_s": warm["metrics"]["run_s"],
        "same_processes": before == _processes(gang) and gang["incarnation"] == 1,
    }


def _run(line: Line) -> tuple[float, dict[str, Any]]:
    """Seconds to the end, and the request. A cold one may outlive the longest wait of one call."""
    begun = time.perf_counter()
    answer = line.good("POST", "/v1/requests", BODY, Prefer="wait=30")
    while not answer["is_terminal"]:
        answer = line.good("GET", f"/v1/requests/{answer['id']}?wait=30")
    seconds = time.perf_counter() - begun
    if answer["status"] != "succeeded":
        raise RuntimeError(f"the request is {answer['status']}: {answer['error']}")
    return seconds, answer


def _processes(gang: dict[str, Any]) -> list[tuple[int, int]]:
    return [(rank["rank"], rank["pid"]) for rank in gang["ranks"]]


def _builds(muster: Stand) -> list[tuple[int, tuple[int, ...]]]:
    """(builds, rank processes) that each of many requests on one warm gang saw."""
    muster.apply("echo", ranks_per_node=4, pool={"min": 1, "max": 1})
    until(lambda: any(gang["state"] == "idle" for gang in muster.gangs("echo")), "the gang of echo is warm")
    line = muster.line()
    seen = [line.good("POST", "/v1/requests", {"template": "echo"}, Prefer="wait=30")["result"] for _ in range(ECHOES)]
    return [(each["builds"], tuple(each["pids"])) for each in seen]


def _report(result: Result, rounds: list[dict[str, Any]], builds: list[tuple[int, tuple[int, ...]]]) -> None:
    cold, warm = ([each[name] for each in rounds] for name in ("cold_s", "warm_s"))
    ratio = median(warm) / median(cold)
    once = all(each["same_processes"] for each in rounds) and set(builds) == {(1, builds[0][1])}
    result.aims = [
        Aim(what="median warm / median cold", aim="<= 1/20", measured=f"1/{1 / ratio:.1f}", met=ratio <= 1 / 20),
        Aim(what="model built once per rank", aim="always", measured="yes" if once else "no", met=once),
    ]
    rows = [
        (
            what,
            len(rounds),
            spread([each[f"{what}_s"] for each in rounds]),
            spread([each[f"{what}_run_s"] for each in rounds]),
        )
        for what in ("cold", "warm")
    ]
    result.tables.append(("Seconds, median (range)", ("", "n", "POST to answer", "of that, the gang's run"), rows))
    result.notes.append(
        f"{ECHOES} requests to one gang of `echo`: {builds[0][0]} build, {len(set(builds))} set of processes"
    )
    result.samples = {"rounds": rounds, "echo": builds}


if __name__ == "__main__":
    main()
