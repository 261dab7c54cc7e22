"""/v1/schedules: rules that start requests and batches; make, look, change, trigger, pause, resume."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from orchestrator.api import cursors, firing
from orchestrator.api import schedule_shapes as shapes
from orchestrator.api import schedule_views as views
from orchestrator.api.auth import GuardedRoute, Here, Reader, Steerer
from orchestrator.api.body import as_model
from orchestrator.api.contract import Answer, operation
from orchestrator.api.office import Office
from orchestrator.api.schedule_shapes import ScheduleChange, ScheduleDraft
from orchestrator.domain.ids import new_id
from orchestrator.domain.schedules import Policy
from orchestrator.errors import Invalid
from orchestrator.store import fires, schedules
from orchestrator.store.database import Record, Tx
from orchestrator.store.listing import Place
from orchestrator.store.schedules import Said

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], route_class=GuardedRoute)

Ref = Annotated[str, Path(pattern=r"^(sch_[0-9a-z]{26}|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$", description="ID or name")]
_REFUSED = ("never_fires", "unknown_template", "not_found", "url_not_allowed", "webhook_url_refused")
_STARTED = ("not_found", "unknown_template", "invalid_input", "no_warm_pool", "queue_full", "too_many_batches")


@router.post(
    "",
    status_code=201,
    summary="Make a schedule",
    **operation(
        "create_schedule",
        *_REFUSED,
        "no_webhook_secret",
        "schedule_exists",
        "too_many_schedules",
        ok={201: Answer(means="with its next five fires", model=shapes.Schedule, headers=("Location",))},
    ),
)
async def create(body: ScheduleDraft, here: Here, identity: Steerer) -> JSONResponse:
    """All of it is looked at now, with the values of its first tick; and again at each tick."""
    said, schedule_id = _said(body), new_id("sch")

    def work(tx: Tx) -> dict[str, Any]:
        now = schedules.now(tx)
        _check(here, tx, identity.tenant, said, now)
        schedules.create(tx, schedule_id, identity.tenant, body.name, said, paused=body.paused, at=now)
        return _shown(tx, identity.tenant, schedule_id)

    shown = await here.transact(work)
    here.ring("ticks")
    return JSONResponse(shown, status_code=201, headers={"Location": f"/v1/schedules/{schedule_id}"})


@router.get(
    "",
    summary="List schedules by name",
    **operation("list_schedules", ok={200: Answer(means="all of the tenant", model=shapes.SchedulePage)}),
)
async def list_schedules(here: Here, identity: Reader) -> Any:
    def work(tx: Tx) -> list[dict[str, Any]]:
        now = schedules.now(tx)
        return [views.schedule(row, now, _last(tx, row)) for row in schedules.list_all(tx, identity.tenant)]

    return {"data": await here.look(work), "has_more": False, "next_cursor": None}


@router.get(
    "/{schedule}",
    summary="One schedule with its next five fires",
    **operation("get_schedule", "not_found", ok={200: Answer(means="as it is now", model=shapes.Schedule)}),
)
async def read(schedule: Ref, here: Here, identity: Reader) -> Any:
    return await here.look(lambda tx: _shown(tx, identity.tenant, schedule))


@router.patch(
    "/{schedule}",
    summary="Change a schedule from now on",
    **operation(
        "change_schedule",
        *_REFUSED,
        "no_webhook_secret",
        ok={200: Answer(means="a new version, with its next five fires", model=shapes.Schedule)},
    ),
)
async def change(schedule: Ref, body: ScheduleChange, here: Here, identity: Steerer) -> Any:
    """What is not named stays, null is the default. Ticks up to now are those of the version before, also where they
    still wait.
    """

    def work(tx: Tx) -> dict[str, Any]:
        row, now = _settled(tx, identity.tenant, schedule)
        said = _said(_changed(row, body))
        if said != Said(policy=row.policy, runs=row.runs):
            _check(here, tx, identity.tenant, said, now)
            schedules.revise(tx, row, said, now)
        return _shown(tx, identity.tenant, row.id)

    shown = await here.transact(work)
    here.ring("ticks")
    return shown


@router.delete(
    "/{schedule}",
    status_code=204,
    summary="Remove a schedule",
    **operation("delete_schedule", "not_found", ok={204: Answer(means="it fires no more")}),
)
async def delete(schedule: Ref, here: Here, identity: Steerer) -> None:
    """What it started goes on."""
    await here.transact(lambda tx: schedules.delete(tx, schedules.lock(tx, identity.tenant, schedule)))


@router.post(
    "/{schedule}/trigger",
    status_code=202,
    summary="Run it now, once, whatever else runs",
    **operation(
        "trigger_schedule",
        *_STARTED,
        "url_not_allowed",
        "webhook_url_refused",
        "no_webhook_secret",
        ok={202: Answer(means="its run is recorded", model=shapes.Fire)},
    ),
)
async def trigger(schedule: Ref, here: Here, identity: Steerer) -> JSONResponse:
    """Also while it is paused. The ticks of the rule stay as they are."""

    def work(tx: Tx) -> dict[str, Any]:
        row = schedules.lock(tx, identity.tenant, schedule)
        now = schedules.now(tx)
        fires.trigger(tx, row, now)
        fire = fires.of_tick(tx, row.id, now)
        fires.ran(tx, fire, firing.start(here.settings, tx, row, fire), now)
        return views.fire(fires.of_tick(tx, row.id, now))

    fired = await here.transact(work)
    for bell in ("read", "plan", "schedule"):
        here.ring(bell)
    return JSONResponse(fired, status_code=202)


@router.post(
    "/{schedule}/pause",
    summary="Let nothing run from now on",
    **operation("pause_schedule", "not_found", ok={200: Answer(means="paused", model=shapes.Schedule)}),
)
async def pause(schedule: Ref, here: Here, identity: Steerer) -> Any:
    """Its ticks are skipped, with that as their reason; what waits from before waits on."""

    def work(tx: Tx) -> dict[str, Any]:
        row, now = _settled(tx, identity.tenant, schedule)
        schedules.pause(tx, row, now)
        return _shown(tx, identity.tenant, row.id)

    return await here.transact(work)


@router.post(
    "/{schedule}/resume",
    summary="Let it run again, from now on",
    **operation("resume_schedule", "not_found", ok={200: Answer(means="active", model=shapes.Schedule)}),
)
async def resume(schedule: Ref, here: Here, identity: Steerer) -> Any:
    def work(tx: Tx) -> dict[str, Any]:
        row, now = _settled(tx, identity.tenant, schedule)
        schedules.resume(tx, row, now)
        return _shown(tx, identity.tenant, row.id)

    shown = await here.transact(work)
    here.ring("ticks")
    return shown


@router.get(
    "/{schedule}/fires",
    summary="What became of its ticks, newest first, and the next five",
    **operation("list_fires", "not_found", "bad_cursor", ok={200: Answer(means="a page", model=shapes.FirePage)}),
)
async def list_fires(
    schedule: Ref,
    here: Here,
    identity: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before")] = None,
) -> Any:
    key = await here.secret("cursor")

    def work(tx: Tx) -> dict[str, Any]:
        row, now = schedules.get(tx, identity.tenant, schedule), schedules.now(tx)
        question = f"fires {row.id}"
        before = cursors.read(key, identity.tenant, question, cursor).created_at if cursor is not None else None
        found = fires.page(tx, row.id, datetime.fromisoformat(before) if before else None, limit + 1)
        following = None
        if len(found) > limit:
            place = Place(created_at=found[limit - 1].tick.isoformat(), id=row.id)
            following = cursors.write(key, identity.tenant, question, place)
        return {
            "data": [views.fire(one) for one in found[:limit]],
            "next_fires": views.next_fires(row, now),
            "has_more": following is not None,
            "next_cursor": following,
        }

    return await here.look(work)


# ---------------------------------------------------------------------------------------------------------------- steps


def _said(body: ScheduleDraft) -> Said:
    """The two parts that are kept: when, and what."""
    policy = {name: value for name, value in body.model_dump().items() if name in Policy.model_fields}
    return Said(policy=policy, runs=body.runs.said)


def _changed(row: Record, body: ScheduleChange) -> ScheduleDraft:
    """Raises Invalid where old and new do not go together."""
    told = {**row.policy, "runs": row.runs, "name": row.name, **body.model_dump(exclude_unset=True)}
    told = {field: value for field, value in told.items() if value is not None}
    return as_model(ScheduleDraft, told)


def _check(here: Office, tx: Tx, tenant: str, said: Said, now: datetime) -> None:
    """Raises Invalid for what would never run."""
    policy = Policy.model_validate(said.policy)
    upcoming = policy.next(now, 1)
    if not upcoming:
        raise Invalid("/end_at: there is no tick between now and the end", code="never_fires", pointer="/end_at")
    firing.check(here.settings, tx, tenant, policy, said.runs, upcoming[0])


def _settled(tx: Tx, tenant: str, ref: str) -> tuple[Record, datetime]:
    """The schedule, locked, and the time up to which each of its ticks has a row: what follows is for later ones."""
    row = schedules.lock(tx, tenant, ref)
    now = schedules.now(tx)
    fires.mint_all(tx, row, now)
    return row, now


def _shown(tx: Tx, tenant: str, ref: str) -> dict[str, Any]:
    row = schedules.get(tx, tenant, ref)
    return views.schedule(row, schedules.now(tx), _last(tx, row))


def _last(tx: Tx, row: Record) -> Record | None:
    return next(iter(fires.page(tx, row.id, None, 1)), None)
