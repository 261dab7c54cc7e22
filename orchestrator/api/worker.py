"""/internal/v1: the worker protocol of docs/protocol.md."""

from __future__ import annotations

import hashlib
import time
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from orchestrator.api.auth import Here, bearer
from orchestrator.api.body import StrictRoute
from orchestrator.api.hub import Waiter, gang_topic, request_topic, wait_for
from orchestrator.api.input_schema import Form
from orchestrator.api.office import Office
from orchestrator.api.reports import Beat, ErrorReport, FinishReport, Hello, Leave, LogReport, Ready
from orchestrator.domain.states import GangState, Outcome, Reason, RequestState
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid
from orchestrator.store import attempts, express, gangs, incarnations, logs, scheduling, templates
from orchestrator.store.attempts import Finish, Finished, Pulse
from orchestrator.store.database import Record, Tx
from orchestrator.store.express import Freed, Report
from orchestrator.store.finishing import Ending
from orchestrator.store.gangs import Ended
from orchestrator.store.incarnations import Member, Rank, RankError
from orchestrator.store.scheduling import Lease, Tick
from orchestrator.store.tokens import digest

router = APIRouter(prefix="/internal/v1", include_in_schema=False, route_class=StrictRoute)

LONGEST_POLL_S = 30.0
GangId = Annotated[str, Path(pattern=r"^gng_[0-9a-z]{26}$")]
AttemptId = Annotated[str, Path(pattern=r"^att_[0-9a-z]{26}$")]
RankNumber = Annotated[int, Path(ge=0, le=65535)]


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
        return incarnations.hello(tx, gang, token, nonce=nonce, world=world, rank=who, lease=settings.lease)

    born = await here.transact(work)
    _settle(here, Ended(gang=gang, requests=born.requests))
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
        member = incarnations.member(tx, gang, session)
        whole = incarnations.rank_ready(tx, gang, member.incarnation, rank, body.seconds, body.link)
        if whole is None:
            return False, Tick()
        if member.mode == "batch":
            return True, scheduling.assign_batch(tx, gang)
        return True, scheduling.assign_pool(tx, member.pool_id, here.settings.lease)

    whole, tick = await here.transact(work)
    here.wake(gangs=tick.gangs)
    if whole:
        here.ring("schedule")
    return {"gang_ready": whole}


# ---------------------------------------------------------------------------------------------- work, beat, finish


@router.get("/gangs/{gang}/work")
async def work(gang: GangId, http: Request, here: Here, wait: Annotated[float, Query(ge=0)] = 0.0) -> JSONResponse:
    """All live leases; parked while there is none. Costs no thread and no connection while it waits."""
    session = digest(bearer(http))
    deadline = time.monotonic() + min(wait, LONGEST_POLL_S)
    if place := here.parking.take(gang, session):
        try:
            lease = await _handed(place.waiter, place.incarnation, deadline)
        finally:
            here.parking.leave(place)
        if lease is not None:
            return _serve(_lease(here, lease))
    with here.hub.waiter(gang_topic(gang)) as woken:
        while True:
            member, leases = await here.transact(lambda tx: incarnations.work(tx, gang, session))
            here.parking.know(session, gang, member.incarnation)
            answer = _work(here, member, leases)
            if answer["work"] or answer["action"] == "drain" or deadline <= time.monotonic() or here.hub.closing:
                return JSONResponse(answer)
            if (lease := await _handed(woken, member.incarnation, deadline)) is not None:
                return _serve(_lease(here, lease))


def _serve(*leases: dict[str, Any]) -> JSONResponse:
    """What a gang that stays is told to do."""
    return JSONResponse({"action": "continue", "work": leases})


async def _handed(woken: Waiter, incarnation: int, deadline: float) -> Lease | None:
    """The lease that the gang is handed while it waits. None: something else happened, or nothing did."""
    await wait_for(woken, deadline - time.monotonic())
    lease = woken.lease
    return lease if lease is not None and lease.incarnation == incarnation else None


def _work(here: Office, member: Member, leases: list[Record]) -> dict[str, Any]:
    action = "drain" if member.state is GangState.DRAINING else "continue"
    return {"action": action, "work": [_lease(here, lease) for lease in leases]}


def _lease(here: Office, lease: Record | Lease) -> dict[str, Any]:
    limits = here.template(lease).limits
    return {
        "attempt": lease.attempt,
        "request": lease.request,
        "number": lease.number,
        "token": lease.token,
        "input": lease.input,
        "timeout_s": max(0.0, float(lease.timeout_s)),
        "no_progress_s": limits.no_progress_s,
        "cancel_grace_s": limits.cancel_grace_s,
        "max_output_bytes": limits.max_output_bytes,
        "output_prefix": f"{here.settings.outputs.rstrip('/')}/{lease.tenant}/{lease.request}/{lease.number}",
    }


@router.post("/gangs/{gang}/beat")
async def beat(gang: GangId, body: Beat, http: Request, here: Here) -> Any:
    session = digest(bearer(http))
    pulses = [
        Pulse(attempt=a.attempt, token=a.token, phase=a.phase, current=a.current, total=a.total) for a in body.attempts
    ]

    def work(tx: Tx) -> tuple[Member, list[attempts.Pulsed]]:
        member = incarnations.member(tx, gang, session)
        incarnations.beat(tx, gang, member.incarnation, [step.model_dump() for step in body.ranks])
        return member, [attempts.beat(tx, gang, member.incarnation, pulse) for pulse in pulses]

    member, pulsed = await here.transact(work)
    here.wake(requests=[p.request for p in pulsed if p.request])
    return {
        "action": "drain" if member.state is GangState.DRAINING else "continue",
        "attempts": {pulse.attempt: p.answer for pulse, p in zip(pulses, pulsed, strict=True)},
    }


@router.post("/attempts/{attempt}/finish")
async def finish(attempt: AttemptId, body: FinishReport, http: Request, here: Here) -> JSONResponse:
    """Record the end of an attempt; the answer may carry the gang's next lease."""
    session = digest(bearer(http))
    _check_uris(body, here.settings.outputs)
    report = _finish(body)
    if express.may_succeed(report) and (usual := await _succeed(here, attempt, session, report)) is not None:
        return usual

    def work(tx: Tx) -> tuple[Finished, Tick, dict[str, Any]]:
        finished = attempts.finish(tx, attempt, session, report)
        return finished, *_next(tx, here, finished, session, healthy=body.healthy)

    finished, tick, answer = await here.transact(work)
    here.wake(requests=[finished.request], gangs=[gang for gang in tick.gangs if gang != finished.gang])
    if tick.contended:
        here.ring("schedule")
    return JSONResponse(answer)


async def _succeed(here: Office, attempt: str, session: bytes, report: Finish) -> JSONResponse | None:
    """The usual end and the gang's next lease, if one is due. None: it is not the usual end, nothing was changed."""
    place = here.parking.reserve(session)  # what is granted from here on must not be missed
    kept = False
    try:
        ending = await here.finish(Report(attempt=attempt, session_hash=session, finish=report))
        if ending.freed is None:
            return None
        _tell(here, ending, ending.freed)
        if ending.lease is not None:
            return _serve(_lease(here, ending.lease))
        if ending.freed.pool is None:
            return JSONResponse(await _leftover(here, ending.freed, session))
        if place is not None:
            here.parking.keep(place)
            kept = True
        return _serve()
    finally:
        if place is not None and not kept:
            here.parking.leave(place)


def _tell(here: Office, ending: Ending, freed: Freed) -> None:
    """Wake whoever waits for what one report did."""
    if freed.shown is not None:
        here.hub.show(request_topic(freed.request), freed.shown)
    here.wake(requests=[freed.request])
    for lease in ending.others:
        here.wake(gangs=[lease.gang], lease=lease)
    if ending.contended or (freed.pool is not None and ending.lease is None and here.just_queued(freed.pool)):
        here.ring("schedule")


async def _leftover(here: Office, freed: Freed, session: bytes) -> dict[str, Any]:
    """What a gang does next that takes nothing from its pool: it was launched for one request, or is to leave."""
    finished = Finished(request=freed.request, state=RequestState.SUCCEEDED, gang=freed.gang)
    _, answer = await here.transact(lambda tx: _next(tx, here, finished, session, healthy=True))
    return answer


def _check_uris(body: FinishReport, storage: str) -> None:
    for output in body.outputs:
        if not output.uri.startswith(storage.rstrip("/") + "/") or "/../" in output.uri:
            raise Invalid(f"output {output.name!r} was written outside the storage", code="bad_output")


def _finish(body: FinishReport) -> Finish:
    return Finish(
        token=body.token,
        outcome=Outcome(body.outcome),
        digest=hashlib.sha256(body.model_dump_json().encode()).digest(),
        run_s=body.run_s,
        value=body.result,
        outputs=[output.model_dump() for output in body.outputs],
        error=None if body.error is None else body.error.model_dump(exclude_unset=True),
        metrics=body.metrics,
        healthy=body.healthy,
    )


def _next(tx: Tx, here: Office, finished: Finished, session: bytes, *, healthy: bool) -> tuple[Tick, dict[str, Any]]:
    """What the gang does now: nothing if unhealthy, leave if it was a batch gang, the next lease if one is due."""
    if not healthy and finished.replayed:
        return Tick(), {"action": "continue", "work": []}
    if not healthy:
        _break(tx, finished.gang, Reason.UNHEALTHY, "an error left the incarnation unusable", None, None)
        return Tick(), {"action": "continue", "work": []}
    member = incarnations.member(tx, finished.gang, session)
    if member.mode == "batch":
        gangs.drain(tx, finished.gang, Reason.DRAINED, "its request is done")
        return Tick(), {"action": "drain", "work": []}
    if member.state is not GangState.READY:
        return Tick(), {"action": "drain", "work": []}
    tick = scheduling.assign_pool(tx, member.pool_id, here.settings.lease)
    if finished.gang not in tick.gangs:
        return tick, {"action": "continue", "work": []}
    return tick, _work(here, *incarnations.work(tx, finished.gang, session))


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
        member = incarnations.last_word(tx, gang, session)
        incarnations.record_error(tx, gang, member.incarnation, error)
        cause = incarnations.root_cause(tx, gang, member.incarnation)
        why = f"{cause.type}: {cause.message}" if cause else body.message
        first = (cause.rank, cause.node) if cause else (rank, body.node)
        if body.attempt is None and body.phase in _START:
            return gangs.end(tx, gang, _START[body.phase], why, rank=first[0], node=first[1])
        return _break(tx, gang, _reason(cause), why, *first) if body.exiting else None

    _settle(here, await here.transact(work))
    return {}


_START = {"preflight": Reason.PREFLIGHT_FAILED, "setup": Reason.SETUP_FAILED, "warmup": Reason.WARMUP_FAILED}
"""The phases of a start; an error in one ends the gang."""


@router.post("/gangs/{gang}/leave")
async def leave(gang: GangId, body: Leave, http: Request, here: Here) -> Any:
    """A rank was told to go: the incarnation's leases end now, not when they expire."""
    session = digest(bearer(http))

    def work(tx: Tx) -> Ended | None:
        member = incarnations.last_word(tx, gang, session)
        if body.drained:
            return gangs.end(tx, gang, Reason.DRAINED, "drained in good order")
        if cause := incarnations.root_cause(tx, gang, member.incarnation):
            return _break(tx, gang, _reason(cause), f"{cause.type}: {cause.message}", cause.rank, cause.node)
        why = f"rank {body.rank} was ended" + (f" by signal {body.signal}" if body.signal else "")
        return _break(tx, gang, Reason.GANG_LOST, why, body.rank, None)

    _settle(here, await here.transact(work))
    return {}


def _reason(cause: Record | None) -> Reason:
    """What the first rank that complained says it was: a handler's own error is final even if its gang broke."""
    return Reason(cause.code) if cause is not None and cause.code in set(Reason) else Reason.RANK_FAILED


def _break(tx: Tx, gang: str, reason: Reason, why: str, rank: int | None, node: str | None) -> Ended | None:
    start = timedelta(seconds=templates.start_timeout_s(tx, gang))
    return incarnations.break_incarnation(tx, gang, reason, why, start, rank=rank, node=node)


def _settle(here: Office, ended: Ended | None) -> None:
    """Wake whoever waits for what just ended, and let the loops look for another gang."""
    if ended is None:
        return
    here.wake(gangs=[ended.gang], requests=[finished.request for finished in ended.requests])
    here.ring("schedule")
    here.ring("plan")


@router.post("/gangs/{gang}/logs")
async def keep_logs(gang: GangId, body: LogReport, http: Request, here: Here) -> Any:
    session = digest(bearer(http))
    chunks = [logs.Chunk(seq=c.seq, request=c.request, at=c.at, text=c.text) for c in body.chunks]

    def work(tx: Tx) -> None:
        member = incarnations.member(tx, gang, session)
        logs.append(tx, gang, member.incarnation, body.rank, chunks)

    await here.transact(work)
    return {}
