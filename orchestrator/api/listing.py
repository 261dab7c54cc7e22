"""GET /v1/requests: which requests there are, page by page, by what people ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from orchestrator.api import cursors, shapes, views
from orchestrator.api.auth import GuardedRoute, Here, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.parameters import moment
from orchestrator.api.submission import LABEL_KEY
from orchestrator.domain.states import RequestState
from orchestrator.errors import Invalid
from orchestrator.store import listing
from orchestrator.store.listing import Filter, Place

F = TypeVar("F", bound=Callable[..., Any])

router = APIRouter(prefix="/v1/requests", tags=["requests"], route_class=GuardedRoute)

LABEL = "label."
MOST_LABELS = 8
_LABEL_KEY = re.compile(LABEL_KEY, re.ASCII)

Name = Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")]
Moment = Annotated[
    str | None,
    Query(
        max_length=40,
        description="RFC 3339 with a zone; not included itself",
        json_schema_extra={"format": "date-time"},
    ),
]


def taking(*families: str) -> Callable[[F], F]:
    """The route takes query parameters whose names begin like this; the rest of the name is the caller's."""

    def mark(route: F) -> F:
        route.families = families  # type: ignore[attr-defined]
        return route

    return mark


@router.get(
    "",
    summary="List requests, newest first",
    **operation("list_requests", "bad_cursor", ok={200: Answer(means="a page", model=shapes.RequestPage)}),
)
@taking(LABEL)
async def list_requests(
    http: Request,
    here: Here,
    identity: Reader,
    status: Annotated[str | None, Query(max_length=200, description="comma separated")] = None,
    template: Name = None,
    pool: Name = None,
    mode: Literal["auto", "warm", "batch"] | None = None,
    created_after: Moment = None,
    created_before: Moment = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before")] = None,
) -> JSONResponse:
    """`label.KEY=VALUE` asks for a label, up to eight of them. A cursor is good for the same question only."""
    wanted = Filter(
        states=_states(status),
        template=template,
        pool=pool,
        mode=mode,
        labels=labels_asked(http),
        created_after=_moment("created_after", created_after),
        created_before=_moment("created_before", created_before),
    )
    key, question = await here.secret("cursor"), _question(wanted)
    before = cursors.read(key, identity.tenant, question, cursor) if cursor is not None else None
    rows = await here.look(lambda tx: listing.page(tx, identity.tenant, wanted, before=before, limit=limit + 1))
    page, following = rows[:limit], None
    if len(rows) > limit:
        place = Place(created_at=page[-1].created_at.isoformat(), id=page[-1].id)
        following = cursors.write(key, identity.tenant, question, place)
    data = [views.request(row) for row in page]
    return JSONResponse({"data": data, "has_more": following is not None, "next_cursor": following})


def _states(status: str | None) -> tuple[str, ...]:
    if not status:
        return ()
    asked = {"canceled" if part == "cancelled" else part for part in status.split(",")}
    if unknown := sorted(asked - set(RequestState)):
        raise Invalid(f"no status {unknown[0][:40]!r}; there are {', '.join(RequestState)}", pointer="/status")
    return tuple(sorted(asked))


def labels_asked(http: Request) -> dict[str, str]:
    """Of `label.KEY=VALUE` in the query. Raises Invalid."""
    labels = {name.removeprefix(LABEL): value for name, value in http.query_params.items() if name.startswith(LABEL)}
    if len(labels) > MOST_LABELS:
        raise Invalid(f"{len(labels)} labels: ask for at most {MOST_LABELS}", pointer="/label")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or len(value) > 255 or "\0" in value:
            raise Invalid(f"nothing can have a label {key[:80]!r} of this value", pointer=f"/{LABEL}{key[:80]}")
    return labels


def _moment(name: str, said: str | None) -> datetime | None:
    if said is None:
        return None
    if found := moment(said):
        return found
    raise Invalid(
        f"{name}={said!r} is no moment: write 2026-01-31T12:00:00Z, or +02:00 for Z, with + as %2B", pointer=f"/{name}"
    )


def _question(wanted: Filter) -> str:
    return json.dumps(vars(wanted), sort_keys=True, default=str)
