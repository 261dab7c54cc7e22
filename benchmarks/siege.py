"""D6. What others notice while the service is besieged: slow senders, idle crowds, huge bodies, floods of submits."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import uvloop

from benchmarks import crowd, machine, siege_attacks, stand
from benchmarks.figures import median, ms, quantile
from benchmarks.results import Aim, Result
from benchmarks.stand import Stand
from benchmarks.wire import AsyncLine
from orchestrator.store import tenants, tokens
from orchestrator.store.tokens import Scope

PACE_S = 0.05
RATE = 20
"""Submits per second that the attacking tenant may send where its rate is bounded."""
METHOD = f"""
One `muster up`. A well-behaved client of the tenant `default` submits a request and looks at it, every {1000 * PACE_S:.0f} ms,
on one kept connection: milliseconds of each call, and its errors. The attackers are another process, on the same two
cores; where they bear a token it is another tenant's. Each siege: calm, the attack, calm again.

* *slow*: {siege_attacks.LORIS} connections, half with a head and half with a body of one byte per second; who is sent away comes again.
* *idle*: {siege_attacks.IDLE:,} connections, {siege_attacks.CONNECTS_PER_S} more each second, that call once and then keep silent; who is sent away
  comes again.
* *huge*: {siege_attacks.SENDERS} senders of bodies of 1 GiB, half with a length and half in chunks, half of each without a token.
* *flood*: {siege_attacks.SUBMITTERS} connections that submit as fast as they are answered, with no bound on their rate: what this
  machine can take at most, many times what it can run.
* *flood, bounded*: the same where the tenant may send {RATE} submits per second: far over ten times of that is offered.
"""  # noqa: E501 - a list in Markdown

SIEGES = (("slow", "slow"), ("idle", "idle"), ("huge", "huge"), ("flood, bounded", "submit"), ("flood", "submit"))


@dataclass
class Seen:
    """What the well-behaved client saw in one phase."""

    submit_s: list[float] = field(default_factory=list)
    poll_s: list[float] = field(default_factory=list)
    errors: int = 0
    rss_mib: float = 0.0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--calm", type=float, default=5.0, help="seconds before and after")
    parser.add_argument("--only", help="one siege by its name; writes no result")
    options, load = machine.when_quiet(parser, argv)
    result = Result(name="siege", title="Under siege", method=METHOD, load_before=load)
    with stand.postgres() as url, stand.service(url) as muster:
        muster.apply("echo", pool={"min": 0, "max": 1})
        crowd.pretend(muster.database, "echo", 1, state="launching")
        token = _stranger(muster)
        for name, kind in [one for one in SIEGES if options.only in (None, one[0])]:
            _bound(muster, RATE if name == "flood, bounded" else None)
            _besiege(result, muster, name, kind, token, options.seconds, options.calm)
    if options.only is None:
        result.write()
    else:
        print(result.tables, result.notes)


def _stranger(muster: Stand) -> str:
    """The token of another tenant, with a template of its own."""

    def work(tx: Any) -> str:
        tenants.set_bounds(tx, "stranger", {})
        scopes = [Scope.ADMIN, Scope.SUBMIT]
        return tokens.create(tx, tenant="stranger", name="siege", scopes=scopes)[1]

    token = muster.database.transact(work)
    like = muster.line().good("GET", "/v1/templates/echo")["spec"]
    Stand(url=muster.url, token=token, pid=muster.pid, database=muster.database).line().good(
        "PUT", "/v1/templates/echo", {**like, "pool": {"min": 0, "max": 0}, "batch": {"max_gangs": 1}}
    )
    return token


def _bound(muster: Stand, rate: float | None) -> None:
    bounds = {"submit_rate": rate, "max_queued": 5_000.0}
    muster.database.transact(lambda tx: tenants.set_bounds(tx, "stranger", bounds))
    time.sleep(1.5)  # a replica looks once a second


def _besiege(result: Result, muster: Stand, name: str, kind: str, token: str, seconds: float, calm: float) -> None:
    phases = {"before": _watch(muster, calm)}
    command = [sys.executable, "-m", "benchmarks.siege_attacks", kind, muster.url, token, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
        phases["during"] = _watch(muster, seconds, attackers)
        told, _ = attackers.communicate(timeout=60)
    phases["after"] = _watch(muster, calm)
    rows = [(phase, *_figures(seen)) for phase, seen in phases.items()]
    columns = ("phase", "calls", "errors", "submit p50 ms", "p99", "poll p50 ms", "p99", "RSS MiB")
    result.tables.append((name, columns, rows))
    seen = json.loads(told)
    result.notes.append(f"{name}: {', '.join(f'{what} {count:,}' for what, count in sorted(seen.items()))}")
    errors, worst = phases["during"].errors, quantile(phases["during"].submit_s, 0.99)
    result.aims.append(Aim(what=f"{name}: errors of others", aim="0", measured=str(errors), met=errors == 0))
    result.aims.append(Aim(what=f"{name}: submit p99", aim="< 1 s", measured=f"{ms(worst)} ms", met=worst < 1))
    after, before = (quantile(phases[when].submit_s, 0.5) for when in ("after", "before"))
    healed = after < 2 * before + 0.01
    result.aims.append(
        Aim(what=f"{name}: afterwards", aim="as before", measured=f"p50 {ms(after)} ms of {ms(before)}", met=healed)
    )
    grown = phases["during"].rss_mib - phases["before"].rss_mib
    result.aims.append(Aim(what=f"{name}: memory", aim="< 300 MiB more", measured=f"{grown:.0f} MiB", met=grown < 300))
    result.samples[name] = {phase: vars(seen_) for phase, seen_ in phases.items()} | {"attack": seen}


def _figures(seen: Seen) -> tuple[object, ...]:
    submit, poll = seen.submit_s or [0.0], seen.poll_s or [0.0]
    timed = [ms(figure) for times in (submit, poll) for figure in (median(times), quantile(times, 0.99))]
    return (len(seen.submit_s) + len(seen.poll_s), seen.errors, *timed, f"{seen.rss_mib:.0f}")


def _watch(muster: Stand, seconds: float, attackers: subprocess.Popen[str] | None = None) -> Seen:
    return uvloop.run(_behave(muster, seconds, attackers))


async def _behave(muster: Stand, seconds: float, attackers: subprocess.Popen[str] | None) -> Seen:
    seen, process, until = Seen(), psutil.Process(muster.pid), time.monotonic() + seconds
    line = await AsyncLine(muster.url, muster.token).open()
    while time.monotonic() < until and (attackers is None or attackers.poll() is None):
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(30):
                made = await line.good("POST", "/v1/requests", {"template": "echo", "input": {"text": "x"}})
                submitted = time.perf_counter()
                await line.good("GET", f"/v1/requests/{made['id']}")
            seen.submit_s.append(submitted - begun)
            seen.poll_s.append(time.perf_counter() - submitted)
        except (OSError, RuntimeError, TimeoutError, asyncio.IncompleteReadError):
            seen.errors += 1
            await line.close()
            line = await AsyncLine(muster.url, muster.token).open()
        seen.rss_mib = max(seen.rss_mib, process.memory_info().rss / 2**20)
        await asyncio.sleep(max(0.0, PACE_S - (time.perf_counter() - begun)))
    await line.close()
    return seen


if __name__ == "__main__":
    main()
