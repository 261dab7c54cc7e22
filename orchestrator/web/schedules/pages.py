"""Schedules: all of them with what comes next, and one with what became of its ticks; trigger, pause, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from orchestrator.api import cursors
from orchestrator.api import schedules as api
from orchestrator.api.office import Office
from orchestrator.api.schedule_views import schedule as shown_schedule
from orchestrator.api.schedules import Ref
from orchestrator.domain.access import Permission
from orchestrator.domain.schedules import Policy
from orchestrator.store import agenda, schedules
from orchestrator.store.database import Record, Tx
from orchestrator.store.listing import Place
from orchestrator.web.frame.answers import said, went
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor
from orchestrator.web.schedules import rules

router = APIRouter()

FIRES = 25
At = Annotated[str | None, Query(max_length=400)]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One schedule of the list."""

    row: Record
    state: str
    template: str
    words: str | None
    next: datetime | None


@router.get("/schedules")
async def show_all(request: Request, here: Here, visitor: Guest) -> Response:
    return page(request, "schedules_list.html", visitor, board=await _list(here, visitor, base_of(request)))


@router.get("/live/schedules")
async def live_list(request: Request, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    return boards.stream(request, visitor, "schedules", partial(_list, here, visitor, base_of(request)))


async def _list(here: Office, visitor: Visitor, base: str) -> Markup:
    def work(tx: Tx) -> list[Line]:
        now = schedules.now(tx)
        return [_line(row, now) for row in agenda.schedules(tx, visitor.tenant)]

    return fragment(base, visitor, "schedules_list_board.html", lines=await here.look(work))


def _line(row: Record, now: datetime) -> Line:
    state = "ended" if row.ended_at is not None else "paused" if row.paused_at is not None else "active"
    return Line(
        row=row,
        state=state,
        template=rules.template_of(row.runs),
        words=rules.in_words(row.policy["cron"]),
        next=next(iter(rules.next_of(row, now)), None) if state == "active" else None,
    )


# --------------------------------------------------------------------------------------------------------- one schedule


@router.get("/schedules/{schedule}")
async def show(request: Request, schedule: Ref, here: Here, visitor: Guest, at: At = None) -> Response:
    row = await here.look(lambda tx: schedules.get(tx, visitor.tenant, schedule))
    board = await _board(here, visitor, row.id, at, base_of(request))
    query = urlencode({"at": at}) if at else ""
    return page(request, "schedules_one.html", visitor, one=row, board=board, at=query)


@router.get("/live/schedules/{schedule}")
async def live(request: Request, schedule: Ref, here: Here, visitor: Guest, at: At = None) -> Response:
    boards: Boards = request.app.state.boards
    render = partial(_board, here, visitor, schedule, at, base_of(request))
    return boards.stream(request, visitor, ("schedule", schedule, at), render)


async def _board(here: Office, visitor: Visitor, ref: str, at: str | None, base: str) -> Markup:
    """Raises NotFound; Invalid for a place that was not made here."""
    key, question = await here.secret("cursor"), f"ticks {ref}"
    before = datetime.fromisoformat(cursors.read(key, visitor.tenant, question, at).created_at) if at else None

    def work(tx: Tx) -> tuple[Record, datetime, Sequence[Record]]:
        row = schedules.get(tx, visitor.tenant, ref)
        return row, schedules.now(tx), agenda.fires(tx, row.id, before=before, limit=FIRES + 1)

    row, now, fires = await here.look(work)
    older = None
    if len(fires) > FIRES:
        place = Place(created_at=fires[FIRES - 1].tick.isoformat(), id=row.id)
        older = urlencode({"at": cursors.write(key, visitor.tenant, question, place)})
    policy = Policy.model_validate(row.policy)
    return fragment(
        base,
        visitor,
        "schedules_board.html",
        one=shown_schedule(row, now, None),
        words=rules.in_words(policy.cron),
        ticks=rules.upcoming(policy, now) if row.ended_at is None else [],
        template=rules.template_of(row.runs),
        fires=fires[:FIRES],
        older=older,
        at=at,
    )


# -------------------------------------------------------------------------------------------------------------- changes


@router.post("/schedules/{schedule}/trigger")
async def trigger(schedule: Ref, here: Here, visitor: Guest) -> Response:
    await api.trigger(schedule, here, visitor.allow(Permission.STEER))
    return said("it runs now; its ticks stay as they are")


@router.post("/schedules/{schedule}/pause")
async def pause(schedule: Ref, here: Here, visitor: Guest) -> Response:
    found: dict[str, Any] = await api.pause(schedule, here, visitor.allow(Permission.STEER))
    return said(f"{found['name']} is paused: its ticks are skipped until it is resumed")


@router.post("/schedules/{schedule}/resume")
async def resume(schedule: Ref, here: Here, visitor: Guest) -> Response:
    found: dict[str, Any] = await api.resume(schedule, here, visitor.allow(Permission.STEER))
    return said(f"{found['name']} runs again, from its next tick on")


@router.post("/schedules/{schedule}/delete")
async def delete(request: Request, schedule: Ref, here: Here, visitor: Guest) -> Response:
    await api.delete(schedule, here, visitor.allow(Permission.STEER))
    return went(request, "/schedules")
