"""/internal/v1, the life of a gang: hello, ready, beat, errors, leave, logs. Its work is in leases.py."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter, Request

from orchestrator.api.auth import Here, WorkerRoute, bearer
from orchestrator.api.endings import break_off, settle
from orchestrator.api.hub import log_topic
from orchestrator.api.input_schema import Form
from orchestrator.api.leases import LONGEST_POLL_S
from orchestrator.api.reports import Beat, ErrorReport, GangId, Hello, Leave, LogReport, RankNumber, Ready, Recall
from orchestrator.domain.states import GangState, Reason
from orchestrator.domain.template import Template
from orchestrator.errors import TooMany
from orchestrator.store import gangs, incarnations, logs, members, pulses, rank_errors, scheduling
from orchestrator.store.database import Record, Tx
from orchestrator.store.gangs import Ended
from orchestrator.store.incarnations import Rank
from orchestrator.store.members import Member
from orchestrator.store.pulses import Pulse, Pulsed
from orchestrator.store.rank_errors import RankError
from orchestrator.store.scheduling import Tick
from orchestrator.store.tokens import digest
from orchestrator.store.trails import Trail

BEATS_PER_S, BEATS_AT_ONCE = 20.0, 100.0
"""Of one incarnation; it beats every few seconds, and at once when an attempt is new."""
_BUCKETS = 8
"""Replicas of a gang share so many: what they say is believed only when it is looked at."""

router = APIRouter(prefix="/internal/v1", include_in_schema=False, route_class=WorkerRoute)


# ---------------------------------------------------------------------------------------------- hello and ready


@router.post("/gangs/{gang}/ranks/{rank}/hello")
async def hello(gang: GangId, rank: RankNumber, body: Hello, http: Request, here: Here) -> Any:
    """Rank 0 opens a new incarnation with the gang token; the others join it with the incarnation token."""
    token = bearer(http)
    who = Rank(rank=rank, node=body.node, pid=body.pid, local_rank=body.local_rank, device=body.device)
    if rank > 0:
        return {"incarnation": await here.transact(lambda tx: incarnations.join(tx, gang, digest(token), who))}
    nonce, world = body.nonce or hashlib.sha256(f"{body.pid}".encode()).hexdigest()[:32], body.world or 1
    settings = here.settings

    def work(tx: Tx) -> incarnations.Born:
        return incarnations.hello(
            tx, gang, token, nonce=nonce, world=world, rank=who, lease=settings.lease, replicas=body.replicas
        )

    born = await here.transact(work)
    settle(here, Ended(gang=gang, requests=born.requests))
    return {
        "incarnation": born.incarnation,
        "token": born.session,
        "config": _config(here.template(born.gang), born.gang),
        "beat_s": settings.beat.total_seconds(),
        "poll_s": min(LONGEST_POLL_S, settings.poll.total_seconds()),
        "lease_s": settings.lease.total_seconds(),
        "log_flush_s": 1.0,
    }


def _config(template: Template, gang: Record) -> dict[str, Any]:
    return {
        "template": template.name,
        "version": gang.version_of,
        "mode": gang.mode,
        "handler": template.handler,
        "args": template.handler_args,
        "workdir": template.workdir,
        "data_backend": template.data_backend,
        "data_timeout_s": template.limits.data_timeout_s,
        "setup_timeout_s": template.setup_timeout_s,
        "preflight": {
            **template.preflight.model_dump(),
            "nodes": template.nodes,
            "ranks_per_node": template.ranks_per_node,
        },
        "warmup": _warmup(template),
    }


def _warmup(template: Template) -> dict[str, Any] | None:
    if template.warmup is None:
        return None
    return {
        "input": Form(template.input).fit(template.warmup.input),
        "no_progress_s": template.limits.no_progress_s,
        "cancel_grace_s": template.limits.cancel_grace_s,
    }


@router.post("/gangs/{gang}/ranks/{rank}/ready")
async def ready(gang: GangId, rank: RankNumber, body: Ready, http: Request, here: Here) -> Any:
    session = digest(bearer(http))

    def work(tx: Tx) -> tuple[bool, Tick]:
        member = members.member(tx, gang, session)
        whole = incarnations.rank_ready(tx, gang, member.incarnation, rank, body.seconds, body.link)
        if whole is None:
            return False, Tick()
        if member.mode == "batch":
            ticks = [scheduling.assign_batch(tx, gang, slot) for slot in range(member.replicas)]
            return True, next((tick for tick in ticks if tick.gangs), Tick())
        return True, scheduling.assign_pool(tx, member.pool_id, here.settings.lease)

    whole, tick = await here.transact(work)
    here.wake(gangs=tick.gangs)
    if whole:
        here.ring("schedule")
    return {"gang_ready": whole}


# ---------------------------------------------------------------------------------------------- beat


@router.post("/gangs/{gang}/beat")
async def beat(gang: GangId, body: Beat, http: Request, here: Here) -> Any:
    session = digest(bearer(http))
    who = session + bytes([body.slot % _BUCKETS])
    if late := here.beats.take(who, BEATS_PER_S, BEATS_AT_ONCE):
        raise TooMany("a gang beats every few seconds", code="rate_limited", retry_after_s=late)
    said = [
        Pulse(
            attempt=a.attempt,
            token=a.token,
            phase=a.phase,
            current=a.current,
            total=a.total,
            trail=None if a.trail is None else Trail(**a.trail.model_dump()),
        )
        for a in body.attempts
    ]

    def work(tx: Tx) -> tuple[Member, list[Pulsed]]:
        member = members.member(tx, gang, session)
        ranks = [step.model_dump() for step in body.ranks]
        if member.replicas == 1:
            members.beat(tx, gang, member.incarnation, ranks, body.starting)
        else:
            members.beat_of_replica(tx, member, body.slot, ranks, body.starting)
        return member, [pulses.beat(tx, gang, member.incarnation, pulse) for pulse in said]

    member, pulsed = await here.transact(work)
    here.wake(requests=[p.request for p in pulsed if p.request])
    return {
        "action": "drain" if member.state is GangState.DRAINING else "continue",
        "attempts": {pulse.attempt: p.answer for pulse, p in zip(said, pulsed, strict=True)},
    }


# ---------------------------------------------------------------------------------------------- errors, leave, logs


@router.post("/gangs/{gang}/ranks/{rank}/error")
async def rank_error(gang: GangId, rank: RankNumber, body: ErrorReport, http: Request, here: Here) -> Any:
    """The first error of an incarnation is its root cause. A rank that exits ends the incarnation's leases now."""
    session = digest(bearer(http))
    error = RankError(
        rank=rank,
        node=body.node,
        attempt=body.attempt,
        phase=body.phase,
        step=body.step,
        type=body.type,
        message=body.message,
        traceback=body.traceback,
        code=body.code,
        stacks=[stack.model_dump() for stack in body.stacks],
    )

    def work(tx: Tx) -> Ended | None:
        member = members.last_word(tx, gang, session)
        rank_errors.record(tx, gang, member.incarnation, error)
        cause = rank_errors.root_cause(tx, gang, member.incarnation)
        why = f"{cause.type}: {cause.message}" if cause else body.message
        first = (cause.rank, cause.node) if cause else (rank, body.node)
        if body.attempt is None and body.phase in _START:
            return gangs.end(tx, gang, _START[body.phase], why, rank=first[0], node=first[1])
        return break_off(tx, gang, _reason(cause), why, *first) if body.exiting else None

    settle(here, await here.transact(work))
    return {}


_START = {"preflight": Reason.PREFLIGHT_FAILED, "setup": Reason.SETUP_FAILED, "warmup": Reason.WARMUP_FAILED}
"""The phases of a start; an error in one ends the gang."""


@router.post("/gangs/{gang}/leave")
async def leave(gang: GangId, body: Leave, http: Request, here: Here) -> Any:
    """A rank was told to go: the incarnation's leases end now, not when they expire."""
    session = digest(bearer(http))

    def work(tx: Tx) -> Ended | None:
        member = members.last_word(tx, gang, session)
        if body.drained:
            return gangs.end(tx, gang, Reason.DRAINED, "drained in good order")
        if cause := rank_errors.root_cause(tx, gang, member.incarnation):
            return break_off(tx, gang, _reason(cause), f"{cause.type}: {cause.message}", cause.rank, cause.node)
        why = f"rank {body.rank} was ended" + (f" by signal {body.signal}" if body.signal else "")
        return break_off(tx, gang, Reason.GANG_LOST, why, body.rank, None)

    settle(here, await here.transact(work))
    return {}


@router.post("/gangs/{gang}/recall")
async def recall(gang: GangId, body: Recall, http: Request, here: Here) -> Any:
    """A node is to go, and says so with the gang token before its ranks are told: the gang gets no new work."""
    token = bearer(http)
    stay = await here.transact(lambda tx: incarnations.recall(tx, gang, token, body.node))
    here.wake(gangs=[gang])
    here.ring("plan")
    return {"stay": stay}


def _reason(cause: Record | None) -> Reason:
    """What the first rank that complained says it was: a handler's own error is final even if its gang broke."""
    return Reason(cause.code) if cause is not None and cause.code in set(Reason) else Reason.RANK_FAILED


@router.post("/gangs/{gang}/logs")
async def keep_logs(gang: GangId, body: LogReport, http: Request, here: Here) -> Any:
    session = digest(bearer(http))
    chunks = [logs.Chunk(seq=c.seq, request=c.request, at=c.at, text=c.text) for c in body.chunks]

    def work(tx: Tx) -> None:
        member = members.member(tx, gang, session)
        logs.append(tx, gang, member.incarnation, body.rank, chunks)

    await here.transact(work)
    here.hub.wake({log_topic(chunk.request) for chunk in chunks if chunk.request is not None})
    return {}
