"""/internal/v1, what a gang is given and what it gives back: work by ID, and the end of an attempt."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from orchestrator import storage
from orchestrator.api.auth import Here, WorkerRoute, bearer
from orchestrator.api.endings import break_off
from orchestrator.api.hub import Waiter, gang_topic, request_topic, wait_for
from orchestrator.api.lane import Call, Way
from orchestrator.api.office import Office
from orchestrator.api.reports import MOST_SLOTS, AttemptId, FinishReport, GangId
from orchestrator.domain import tracing
from orchestrator.domain.states import GangState, Outcome, Reason, RequestState
from orchestrator.errors import Invalid, TooMany
from orchestrator.store import attempts, batches, express, gangs, items, members, scheduling
from orchestrator.store.attempts import Finish, Finished
from orchestrator.store.database import Record, Tx
from orchestrator.store.express import Freed, Report
from orchestrator.store.finishing import Ending
from orchestrator.store.members import Duty, Member
from orchestrator.store.scheduling import Lease, Tick
from orchestrator.store.tokens import digest
from orchestrator.store.trails import Trail

router = APIRouter(prefix="/internal/v1", include_in_schema=False, route_class=WorkerRoute)

LONGEST_POLL_S = 30.0
MOST_POLLS = 8
"""Of one replica of a gang: it needs one, and has more for a moment when it comes again after an answer was lost."""


@router.get("/gangs/{gang}/work")
async def work(
    gang: GangId,
    http: Request,
    here: Here,
    wait: Annotated[float, Query(ge=0)] = 0.0,
    slot: Annotated[int, Query(ge=0, lt=MOST_SLOTS)] = 0,
) -> JSONResponse:
    """All live leases of a slot; parked while there is none. Costs no thread and no connection while it waits."""
    return await _work_of(here, gang, digest(bearer(http)), wait, slot)


async def _work_of(here: Office, gang: str, session: bytes, wait: float, slot: int) -> JSONResponse:
    deadline = time.monotonic() + min(wait, LONGEST_POLL_S)
    if here.hub.crowd(gang_topic(gang), slot) >= MOST_POLLS:
        raise TooMany(f"{MOST_POLLS} polls of this gang are parked here", code="too_many_waits")
    if place := here.parking.take(gang, session, slot):
        try:
            lease = await _handed(place.waiter, place.incarnation, deadline)
        finally:
            here.parking.leave(place)
        if lease is not None:
            return _serve(_lease(here, lease))
    with here.hub.waiter(gang_topic(gang), slot=slot) as woken:
        while True:
            member, duty = await here.transact(lambda tx: members.work(tx, gang, session, slot))
            if slot >= member.replicas:
                raise Invalid(
                    f"gang {gang} has {member.replicas} replicas; there is no slot {slot}", code="wrong_world"
                )
            here.parking.know(session, gang, member.incarnation)
            answer = _work(here, duty)
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


def _work(here: Office, duty: Duty) -> dict[str, Any]:
    return {"action": "drain" if duty.drain else "continue", "work": [_lease(here, lease) for lease in duty.leases]}


def _lease(here: Office, lease: Record | Lease) -> dict[str, Any]:
    limits = here.template(lease).limits
    here.metrics.dispatched(_granted_ago_s(lease))
    said = tracing.read(lease.traceparent, lease.tracestate) if lease.traceparent else None
    trace = here.tracing.handed(lease.request, lease.attempt, said)
    return {
        "attempt": lease.attempt,
        "request": lease.request,
        "number": lease.number,
        "token": lease.token,
        "input": lease.input,
        "files": lease.files or {},
        "timeout_s": max(0.0, float(lease.timeout_s)),
        "no_progress_s": limits.no_progress_s,
        "cancel_grace_s": limits.cancel_grace_s,
        "max_output_bytes": limits.max_output_bytes,
        "output_prefix": f"{here.settings.outputs.rstrip('/')}/{lease.tenant}/{lease.request}/{lease.number}",
        **({"traceparent": trace.parent} if trace else {}),
        **({"tracestate": trace.state} if trace and trace.state else {}),
    }


def _granted_ago_s(lease: Record | Lease) -> float:
    """By the clock that knows when it was granted: ours where it was handed on, else the database's."""
    return time.monotonic() - lease.granted if isinstance(lease, Lease) else float(lease.granted_ago_s)


@router.post("/attempts/{attempt}/finish")
async def finish(attempt: AttemptId, body: FinishReport, http: Request, here: Here) -> JSONResponse:
    """Record the end of an attempt; the answer may carry the gang's next lease."""
    return await _finished(here, attempt, digest(bearer(http)), body)


async def _finished(here: Office, attempt: str, session: bytes, body: FinishReport) -> JSONResponse:
    _check_uris(body, here.settings.outputs)
    report = _finish(body)
    if express.may_succeed(report) and (usual := await _succeed(here, attempt, session, body.slot, report)) is not None:
        return usual

    def work(tx: Tx) -> tuple[Finished, Tick, dict[str, Any]]:
        finished = attempts.finish(tx, attempt, session, report)
        return finished, *_next(tx, here, finished, session, healthy=body.healthy)

    finished, tick, answer = await here.transact(work)
    here.wake(requests=[finished.request], gangs=_others(tick, finished.gang, len(answer["work"])))
    _pass_on(here, finished.gang, answer)
    if tick.contended:
        here.ring("schedule")
    return JSONResponse(answer)


async def _plain_work(here: Office, call: Call) -> JSONResponse | None:
    wait = _WAIT.fullmatch(call.query)
    if wait is None or (token := call.token) is None:
        return None
    return await _work_of(here, call.subject, digest(token), float(wait.group(1)), int(wait.group(2) or 0))


async def _plain_finish(here: Office, call: Call) -> JSONResponse | None:
    if (token := call.token) is None or (body := await call.read(FinishReport)) is None:
        return None
    return await _finished(here, call.subject, digest(token), body)


_WAIT = re.compile(rb"wait=(\d{1,4}(?:\.\d{1,6})?)(?:&slot=(\d{1,3}))?")
SHORT = (
    Way(method="GET", path="/internal/v1/gangs/{gang}/work", plain=_plain_work),
    Way(method="POST", path="/internal/v1/attempts/{attempt}/finish", plain=_plain_finish),
)


def _others(tick: Tick, gang: str, told: int) -> list[str]:
    """Who has to be told of what was granted: this gang only if another replica of it got something."""
    return [one for one in {*tick.gangs} if one != gang or tick.gangs.count(gang) > told]


def _pass_on(here: Office, gang: str, answer: dict[str, Any]) -> None:
    """Its other replicas wait for the last one to be done."""
    if answer["action"] == "drain":
        here.wake(gangs=[gang])


async def _succeed(here: Office, attempt: str, session: bytes, slot: int, report: Finish) -> JSONResponse | None:
    """The usual end and the gang's next lease, if one is due. None: it is not the usual end, nothing was changed."""
    place = here.parking.reserve(session, slot)  # what is granted from here on must not be missed
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
    if freed.pool is not None and ending.lease is None and here.just_queued(freed.pool):
        here.ring("schedule")


async def _leftover(here: Office, freed: Freed, session: bytes) -> dict[str, Any]:
    """What a gang does next that takes nothing from its pool: it was launched for one request, or is to leave."""
    finished = Finished(request=freed.request, state=RequestState.SUCCEEDED, gang=freed.gang, slot=freed.slot)
    _, answer = await here.transact(lambda tx: _next(tx, here, finished, session, healthy=True))
    _pass_on(here, freed.gang, answer)
    return answer


def _check_uris(body: FinishReport, prefix: str) -> None:
    for output in body.outputs:
        if not output.uri.startswith(prefix.rstrip("/") + "/") or storage.leads_away(output.uri):
            raise Invalid(f"output {output.name!r} was written outside the storage", code="bad_output")


def _finish(body: FinishReport) -> Finish:
    return Finish(
        token=body.token,
        outcome=Outcome(body.outcome),
        digest=hashlib.sha256(body.model_dump_json(exclude=_NEWER).encode()).digest(),
        run_s=body.run_s,
        value=body.result,
        outputs=[output.model_dump() for output in body.outputs],
        error=None if body.error is None else body.error.model_dump(exclude_unset=True),
        metrics=body.metrics,
        healthy=body.healthy,
        trail=None if body.trail is None else Trail(**body.trail.model_dump()),
    )


_NEWER = {"trail"}
"""Fields that older replicas do not know: to them the same report must be the same."""


def _next(tx: Tx, here: Office, finished: Finished, session: bytes, *, healthy: bool) -> tuple[Tick, dict[str, Any]]:
    """What the gang does now: nothing if unhealthy, the next lease if one is due, leave if nothing is left for it."""
    if not healthy and finished.replayed:
        return Tick(), _NOTHING
    if not healthy:
        why = "an error left the incarnation unusable"
        break_off(tx, finished.gang, Reason.UNHEALTHY, why, None, None, finished.slot)
        return Tick(), _NOTHING
    member = members.member(tx, finished.gang, session)
    if member.batch_id is not None:
        return Tick(), _next_item(tx, here, finished, member, member.batch_id)
    if member.mode == "batch":
        gangs.drain(tx, finished.gang, Reason.DRAINED, "its request is done")
        return Tick(), _LEAVE
    if member.state is not GangState.READY:
        return Tick(), _NOTHING if members.others_run(tx, member, finished.slot) else _LEAVE
    tick = scheduling.assign_pool(tx, member.pool_id, here.settings.lease)
    if finished.gang not in tick.gangs:
        return tick, _NOTHING
    return tick, _work(here, members.work(tx, finished.gang, session, finished.slot)[1])


_NOTHING: dict[str, Any] = {"action": "continue", "work": []}
_LEAVE: dict[str, Any] = {"action": "drain", "work": []}


def _next_item(tx: Tx, here: Office, finished: Finished, member: Member, batch: str) -> dict[str, Any]:
    """The next item of the gang's batch; its end if nothing is left for it, not even after a backoff.

    A gang ends as a whole: while another replica runs an item, that may still fail and come back.
    """
    if finished.state is RequestState.FAILED:
        batches.ring(tx, batch)
        here.ring("batches")
    ready = member.state is GangState.READY
    tick = scheduling.assign_batch(tx, finished.gang, finished.slot, carry=True) if ready else Tick()
    if tick.leases or (ready and items.any_left(tx, batch)):
        return {"action": "continue", "work": [_lease(here, lease) for lease in tick.leases]}
    if members.others_run(tx, member, finished.slot):
        return _NOTHING
    gangs.drain(tx, finished.gang, Reason.DRAINED, "nothing is left of its batch")
    batches.ring(tx, batch)
    here.ring("batches")
    return _LEAVE
