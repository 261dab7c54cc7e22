"""S5. A day of idling in minutes: every timeout that a warm gang meets while it waits, cut so that it passes often."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine, stand
from benchmarks.results import Aim, Result
from benchmarks.steps import Steps, resident_mib, slope

CUTS = (
    # what, real seconds, here, how it is set
    ("collective of the data group", 600.0, 1.0, "limits.data_timeout_s"),
    ("collective of the control group", 20 * 86400.0, 3.0, "INFERENCE_CONTROL_S"),
    ("poll for work", 15.0, 0.3, "MUSTER_POLL"),
    ("beat", 5.0, 1.1, "MUSTER_BEAT"),
    ("lease", 30.0, 3.4, "MUSTER_LEASE"),
    ("HTTP connection without a call", 75.0, 1.0, "MUSTER_KEEP_ALIVE"),
    ("orphaned: no answer of the service", 900.0, 15.0, "MUSTER_ORPHAN_S"),
    ("held: no answer, whatever the gang does", 21600.0, 20.0, "MUSTER_HOLD_S"),
    ("idle gang above the pool's minimum", 600.0, 1.0, "pool.idle_timeout_s"),
    ("setup", 810.0, 120.0, "limits.setup_timeout_s"),
)
SERVED = 20
SETTLED_S = 30.0
GROWTH_MIB_PER_DAY = 50
METHOD = """
One warm gang of 4 ranks (CPU, gloo) over `muster up`; it serves one request, then idles. Every timeout that can pass
while a gang waits is cut; the table says by what factor, how often each passes in this run and in a real day. An idle
gang that one of them could end would be ended. The beat is longer than the connection's keep-alive, so every beat finds
its connection closed by the service; polls are so short that their no-op frames keep the control group's timeout from
passing, as they must. The two clocks of a silent service must outlast a cold start. The store's own operations (5 s)
and torchrun's (600 s) are not cut: no idle gang waits for them. RSS is taken every second; the slope leaves the first
30 s out and is told per real day of polls. At the end 20 requests are served. It says nothing of what needs real hours,
such as a clock that jumps or a network that forgets.
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=220.0)
    options = parser.parse_args(argv)
    result = Result(name="long_idle", title="A day of idling, cut", method=METHOD, load_before=machine.load())
    cut = {name: here for _, _, here, name in CUTS}
    for name in ("INFERENCE_CONTROL_S", "MUSTER_ORPHAN_S", "MUSTER_HOLD_S"):
        os.environ[name] = str(cut[name])
    settings = {name: str(here) for name, here in cut.items() if name.startswith("MUSTER_")}
    with (
        tempfile.TemporaryDirectory(prefix="muster-idle-") as folder,
        stand.postgres() as url,
        stand.service(url, **settings) as muster,
    ):
        steps = Steps(muster, Path(folder))
        steps.apply(
            pool={"min": 1, "max": 2, "idle_timeout_s": cut["pool.idle_timeout_s"]},
            limits={
                "data_timeout_s": cut["limits.data_timeout_s"],
                "setup_timeout_s": cut["limits.setup_timeout_s"],
            },
            env={"INFERENCE_CONTROL_S": str(cut["INFERENCE_CONTROL_S"])},
        )
        steps.idle_gang()
        _serve(steps)
        before = steps.idle_gang()
        samples = _idle(muster.pid, before, options.seconds)
        after = steps.idle_gang()
        served = [_serve(steps) for _ in range(SERVED)]
        last = steps.idle_gang()
    _report(result, [before, after, last], samples, served, options.seconds)
    result.write()


def _serve(steps: Steps) -> dict[str, Any]:
    return steps.ended(steps.submit(steps=3), within_s=60)


def _idle(service: int, gang: dict[str, Any], seconds: float) -> list[dict[str, float]]:
    """MiB of every rank and of the service, once a second."""
    until, samples = time.monotonic() + seconds, []
    process = psutil.Process(service)
    while time.monotonic() < until:
        ranks = {f"rank {rank}": mib for rank, mib in resident_mib(gang).items()}
        samples.append({**ranks, "service": process.memory_info().rss / 2**20})
        time.sleep(1)
    return samples


def _identity(gang: dict[str, Any]) -> tuple[Any, ...]:
    return gang["id"], gang["incarnation"], tuple(rank["pid"] for rank in gang["ranks"])


def _report(
    result: Result,
    gangs: list[dict[str, Any]],
    samples: list[dict[str, float]],
    served: list[dict[str, Any]],
    seconds: float,
) -> None:
    same = len({_identity(gang) for gang in gangs}) == 1
    fine = sum(one["status"] == "succeeded" and one["attempt"] == 1 for one in served)
    settled = samples[int(SETTLED_S) :] or samples
    polls_a_day, polls = 86400 / 15, seconds / 0.3
    growth = {name: slope([one[name] for one in settled]) * len(samples) * polls_a_day / polls for name in samples[0]}
    worst = max(value for name, value in growth.items() if name != "service")
    result.aims = [
        Aim(what="same gang, incarnation and processes", aim="yes", measured="yes" if same else "no", met=same),
        Aim(what="served afterwards, at the first try", aim=str(SERVED), measured=str(fine), met=fine == SERVED),
        Aim(
            what="memory of a rank, per day of polls",
            aim=f"grows by less than {GROWTH_MIB_PER_DAY} MiB",
            measured=f"{worst:.1f} MiB",
            met=worst < GROWTH_MIB_PER_DAY,
        ),
    ]  # fmt: skip
    rows = [
        (
            what,
            f"{real:,.0f} s",
            f"{here:g} s",
            f"{real / here:,.0f}",
            f"{seconds / here:,.0f}",
            f"{86400 / real:,.0f}",
            f"`{name}`",
        )
        for what, real, here, name in CUTS
    ]
    columns = ("timeout", "default", "here", "factor", "passes here", "in a day", "set by")
    result.tables.append((f"{seconds:g} s of idling", columns, rows))
    result.tables.append(
        (
            "RSS in MiB",
            ("", "at first", "settled", "at last", "slope per day of polls"),
            [
                (name, f"{samples[0][name]:.1f}", f"{settled[0][name]:.1f}", f"{samples[-1][name]:.1f}", f"{value:.1f}")
                for name, value in growth.items()
            ],
        )
    )
    result.samples = {"rss_mib": samples}


if __name__ == "__main__":
    main()
