"""To cancel at once all open requests that fit the filters of the list."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from fastapi import APIRouter, Request, Response

from orchestrator.api.office import Office
from orchestrator.domain.access import Permission
from orchestrator.errors import Conflict, Invalid
from orchestrator.store import listing, requests
from orchestrator.store.database import Record, Tx
from orchestrator.store.listing import Filter
from orchestrator.web.frame.answers import said
from orchestrator.web.frame.visiting import Guest, Here
from orchestrator.web.requests import asked
from orchestrator.web.requests.asked import Asked

router = APIRouter()

MOST = 500
"""In one press: it answers within seconds, and says when more are open."""
AT_ONCE = 100
"""In one transaction."""


@router.post("/requests/_cancel")
async def cancel_fitting(request: Request, here: Here, visitor: Guest) -> Response:
    """Raises Invalid for a question that asks for all, or makes no sense: nobody meant that."""
    identity = visitor.allow(Permission.CANCEL)
    question = Asked.of(request.query_params)
    if question.is_all or question.problem:
        raise Invalid(question.problem or "set a filter first: this would cancel everything", code="invalid_value")
    wanted = replace(question.wanted(asked.now()), states=question.stoppable)
    stopped = await _stop(here, identity.tenant, wanted) if wanted.states else 0
    return said(_told(stopped), "good" if stopped else "bad")


async def _stop(here: Office, tenant: str, wanted: Filter) -> int:
    """The newest first; how many."""
    stopped = 0
    while stopped < MOST:
        rows = await here.transact(lambda tx: _stop_some(tx, tenant, wanted))
        if not rows:
            break
        stopped += len(rows)
        here.wake(requests=[row.id for row in rows], gangs=[row.last_gang for row in rows if row.last_gang])
        here.ring("plan")
    return stopped


def _stop_some(tx: Tx, tenant: str, wanted: Filter) -> Sequence[Record]:
    rows = []
    for one in sorted(row.id for row in listing.brief(tx, tenant, wanted, place=None, limit=AT_ONCE)):
        with suppress(Conflict):  # it ended meanwhile
            rows.append(requests.cancel(tx, tenant, one))
    return rows


def _told(stopped: int) -> str:
    if not stopped:
        return "None of these is open any more."
    more = " More may be open: ask once more." if stopped >= MOST else ""
    return f"{stopped} canceled, or asked to stop at the next step.{more}"
