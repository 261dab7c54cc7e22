"""Seconds to recovery after each kind of death, and a gang that idles for twelve times its collective timeout (A4, A5).

`python -m benchmarks.recovery` writes results/recovery.md; takes about two minutes. The blows are those of the
acceptance tests, and so are the promises, checked after each one.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

from benchmarks.results import Aim, Result
from benchmarks.staged import Up, blows, echo, staged, until

NAME = "two-nodes"
IDLER, DATA_TIMEOUT_S, IDLE = "idler", 5, timedelta(seconds=60)
BOUND_S = 60.0
METHOD = """
`muster up` with its embedded Postgres and one warm gang of 4 ranks on 2 torchrun agents, all on this machine (lease
6 s, beat 1 s). SIGKILL to one victim at a time: in the middle of a request of 3 s, or while the gang is idle; then a
request follows at once. A killed service is started again at once, by the same command on the same folder; a killed
Postgres is started again by the service. Seconds count from the signal. Ranks of a new incarnation import torch anew.
"""
COLUMNS = ("killed", "when", "request ends after", "attempts", "a whole gang after", "gang", "request")


def main() -> None:
    result = Result(name="recovery", title="Recovery after a death", method=METHOD)
    with staged("recovery") as up:
        up.client.apply_template(echo(IDLER, ranks=2, min=1, limits={"data_timeout_s": DATA_TIMEOUT_S}))
        up.client.apply_template(echo(NAME, nodes=2, ranks=2, min=1))
        recoveries = [_strike(up, blow, busy=busy) for blow in blows.ALL for busy in (True, False)]
        idled = _idle(up)
    _report(result, recoveries, idled)
    result.write()


def _strike(up: Up, blow: blows.Blow, *, busy: bool) -> blows.Recovery:
    recovery = blows.strike_and_recover(up, NAME, blow, busy=busy)
    if broken := up.violations():
        raise SystemExit(f"{blow.victim} {recovery.moment}: {broken}")
    print(f"{recovery.victim} {recovery.moment}: {recovery.done_s:.1f} s", file=sys.stderr, flush=True)
    return recovery


def _idle(up: Up) -> str:
    """What became of a request to a gang that had idled for so long."""
    gang = up.idle_gang(IDLER)
    since = gang.idle_since or datetime.now(UTC)
    until(lambda: datetime.now(UTC) - since > IDLE, "the gang has idled", within=2 * IDLE)
    began = time.monotonic()
    request = up.run(IDLER)
    same = [rank.pid for rank in gang.ranks or ()] == request.result["pids"]
    return f"{request.status} in {time.monotonic() - began:.2f} s, {'the same' if same else 'other'} ranks"


def _report(result: Result, recoveries: list[blows.Recovery], idled: str) -> None:
    slowest = max(recovery.done_s for recovery in recoveries)
    lost = [recovery for recovery in recoveries if not recovery.request.succeeded]
    twice = [recovery for recovery in recoveries if recovery.moves.count("succeed") != 1]
    result.aims = [
        Aim(what="requests lost", aim="0", measured=str(len(lost)), met=not lost),
        Aim(what="requests finished twice", aim="0", measured=str(len(twice)), met=not twice),
        Aim(
            what="slowest recovery",
            aim=f"under {BOUND_S:g} s (I21)",
            measured=f"{slowest:.1f} s",
            met=slowest < BOUND_S,
        ),
        Aim(
            what=f"idle for {IDLE.total_seconds():g} s, collectives time out after {DATA_TIMEOUT_S} s",
            aim="serves",
            measured=idled,
            met=idled.startswith("succeeded") and "the same" in idled,
        ),
    ]
    result.tables = [("Each death", COLUMNS, [_row(recovery) for recovery in recoveries])]
    result.samples = {
        f"{one.victim}, {one.moment}": {"done_s": one.done_s, "whole_s": one.whole_s} for one in recoveries
    }


def _row(one: blows.Recovery) -> tuple[object, ...]:
    whole = f"{one.whole_s:.1f} s" if one.whole_s else "never broke"
    return one.victim, one.moment, f"{one.done_s:.1f} s", one.request.attempt, whole, one.gang, one.request.status


if __name__ == "__main__":
    main()
