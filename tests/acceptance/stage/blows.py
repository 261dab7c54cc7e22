"""One blow to a running service: what is killed, and how long it takes until everything is as it was.

A blow falls while a gang runs a request, or while it is idle; then the request comes right after the blow. Either way
the request must succeed, and a gang must be whole in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

from orchestrator.client import Gang, Request

from . import processes
from .services import Up
from .waiting import until

RUN = {"sleep_s": 3, "steps": 30}
PATIENCE = timedelta(seconds=120)


@dataclass(frozen=True, kw_only=True)
class Blow:
    victim: str
    strike: Callable[[Up, Gang], None]
    """Returns when the victim and all that dies with it are dead."""
    breaks: bool = False
    """Whether ranks die."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a blow cost. Seconds count from the blow."""

    victim: str
    moment: str
    request: Request
    moves: tuple[str, ...]
    done_s: float
    """Until the request had succeeded; 3 s of that are its run, if it ran."""
    whole_s: float
    """Until a gang with all its ranks was ready; 0 if it never broke."""
    before: Gang
    after: Gang

    @property
    def gang(self) -> str:
        """What became of the gang."""
        if self.after.id != self.before.id:
            return "another one"
        return "the same, new ranks" if self.after.incarnation != self.before.incarnation else "untouched"


def strike_and_recover(up: Up, template: str, blow: Blow, *, busy: bool) -> Recovery:
    before = up.idle_gang(template)
    request_id = _run_something(up, template) if busy else ""
    struck, struck_at = time.monotonic(), datetime.now(UTC)
    blow.strike(up, before)
    request_id = request_id or until(lambda: up.client.submit(template, {}).id, "a request is accepted")
    request = up.done(request_id, within=PATIENCE)
    done_s = time.monotonic() - struck
    after = until(lambda: _whole(up, template, unlike=before if blow.breaks else None), "a whole gang is idle")
    ready_at = after.ready_at or struck_at
    return Recovery(
        victim=blow.victim,
        moment="while it runs a request" if busy else "while idle",
        request=request,
        moves=tuple(up.moves(request_id)),
        done_s=done_s,
        whole_s=max(0.0, (ready_at - struck_at).total_seconds()),
        before=before,
        after=after,
    )


def _whole(up: Up, template: str, *, unlike: Gang | None) -> Gang | None:
    """An idle gang; not the incarnation that was hit, which the service may still take for alive."""
    old = (unlike.id, unlike.incarnation) if unlike else None
    found = (gang for gang in up.gangs(template) if gang.state == "idle" and (gang.id, gang.incarnation) != old)
    return next(found, None)


def _run_something(up: Up, template: str) -> str:
    request = up.client.submit(template, RUN)
    up.running(request.id, past_step=3)
    return request.id


def rank(number: int, name: str) -> Blow:
    def strike(up: Up, gang: Gang) -> None:
        _kill(processes.ranks(gang.id)[number])

    return Blow(victim=name, strike=strike, breaks=True)


def agent(node: int, name: str) -> Blow:
    def strike(up: Up, gang: Gang) -> None:
        _kill(processes.agents(gang.id)[node])

    return Blow(victim=name, strike=strike, breaks=True)


def _kill_service(up: Up, gang: Gang) -> None:
    up.kill()
    up.start()


def _kill_postmaster(up: Up, gang: Gang) -> None:
    _kill(up.postmaster())


def _kill(victim: psutil.Process) -> None:
    """Until it is dead, and the children that the kernel kills with it."""
    family = [victim, *victim.children()]
    victim.kill()
    until(lambda: not any(_lives(process) for process in family), f"process {victim.pid} is dead")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


RANK_0 = rank(0, "rank 0")
LAST_RANK = rank(-1, "the last rank")
AGENT = agent(1, "the torchrun agent of node 1")
SERVICE = Blow(victim="the service, with its Postgres", strike=_kill_service)
POSTMASTER = Blow(victim="the Postgres postmaster", strike=_kill_postmaster)
ALL = (RANK_0, LAST_RANK, AGENT, SERVICE, POSTMASTER)
