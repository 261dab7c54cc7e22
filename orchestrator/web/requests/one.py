"""One request on one screen: where it is and why, where its time went, what it said, what it made; and what to do."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from orchestrator.api import afterwards, looking
from orchestrator.api import requests as api
from orchestrator.api.hub import request_topic
from orchestrator.api.office import Office
from orchestrator.api.parameters import RequestId
from orchestrator.domain import advice, explaining
from orchestrator.domain.access import Permission
from orchestrator.domain.explaining import Explanation, RequestFacts
from orchestrator.store import explaining as stored
from orchestrator.store import pools, requests, timeline
from orchestrator.store.database import Record, Tx
from orchestrator.store.timeline import History
from orchestrator.web.frame import legible, spelling
from orchestrator.web.frame.answers import said, went
from orchestrator.web.frame.ids import short
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, origin_of, page
from orchestrator.web.frame.spelling import Sent
from orchestrator.web.frame.visiting import Guest, Here, Visitor
from orchestrator.web.requests import story
from orchestrator.web.requests.glance import about
from orchestrator.web.requests.previews import inputs_of, output_of

router = APIRouter()

LOOK_EVERY_S = 2.0
FINAL_LASTS_S = 60.0
"""How long the end of a request is shown as it was drawn; what still changes then is that files expire."""
MOST_RANKS_CHOSEN = 16
"""Of more ranks, those wanted are written instead of ticked."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """All that the page shows, as it was at one moment."""

    row: Record
    answer: dict[str, Any]
    explanation: Explanation
    facts: RequestFacts
    history: History
    spec: dict[str, Any]


@router.get("/requests/{request_id}")
async def show(request: Request, request_id: RequestId, here: Here, visitor: Guest) -> Response:
    look = await here.look(lambda tx: _look(tx, visitor.tenant, request_id))
    board = _drawn(base_of(request), visitor, origin_of(request), look)
    return page(
        request,
        "request.html",
        visitor,
        board=board,
        id=request_id,
        title=_title(look.answer),
    )


@router.get("/live/requests/{request_id}")
async def live(request: Request, request_id: RequestId, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    screen = Screen(here, visitor, base_of(request), origin_of(request), request_id)
    await here.look(lambda tx: requests.peek(tx, visitor.tenant, request_id))
    key, topics = ("request", request_id, screen.origin), (request_topic(request_id),)
    return boards.stream(request, visitor, key, screen.render, topics=topics, every_s=LOOK_EVERY_S)


class Screen:
    """The live part of the page. Of a request that is over, it is looked at whether it is still there."""

    def __init__(self, here: Office, visitor: Visitor, base: str, origin: str, request_id: str) -> None:
        self._here, self._visitor, self._base, self.origin, self._id = here, visitor, base, origin, request_id
        self._final: tuple[float, Markup] | None = None

    async def render(self) -> Markup:
        """Raises NotFound once it is deleted."""
        if self._final is not None and time.monotonic() - self._final[0] < FINAL_LASTS_S:
            await self._here.look(lambda tx: requests.peek(tx, self._visitor.tenant, self._id))
            return self._final[1]
        look = await self._here.look(lambda tx: _look(tx, self._visitor.tenant, self._id))
        drawn = _drawn(self._base, self._visitor, self.origin, look)
        if look.answer["is_terminal"]:
            self._final = time.monotonic(), drawn
        return drawn


def _look(tx: Tx, tenant: str, request_id: str) -> Look:
    """Raises NotFound."""
    row = requests.get(tx, tenant, request_id)
    answer, _ = looking.view(tx, row)
    facts = stored.request(tx, tenant, request_id)
    return Look(
        row=row,
        answer=answer,
        explanation=explaining.explain_request(*facts),
        facts=facts[0],
        history=timeline.of_request(tx, row),
        spec=pools.get(tx, row.pool_id).spec,
    )


def _title(answer: dict[str, Any]) -> str:
    """Of the tab: how it is doing comes first, for whoever works in another one."""
    share = answer["progress"] and answer["progress"]["fraction"]
    doing = answer["status"] if share is None or answer["is_terminal"] else f"{100 * share:.0f}%"
    return f"{doing} · {short(answer['id'])} · {answer['template']} · Muster"


def _drawn(base: str, visitor: Visitor, origin: str, look: Look) -> Markup:
    answer, row = look.answer, look.row
    sent = Sent(template=row.template, input=row.input, labels=row.labels, mode=row.mode, priority=answer["priority"])
    running = look.facts.gang.running if look.facts.gang else None
    world = int(look.spec["nodes"]) * int(look.spec["ranks_per_node"])
    first, count = answer["placement"]["first_rank"] or 0, answer["placement"]["ranks"] or world
    return fragment(
        base,
        visitor,
        "request_board.html",
        r=answer,
        short=short(answer["id"]),
        title=_title(answer),
        about=about(row.input),
        explanation=look.explanation,
        advice=advice.of(answer["error"]["code"]) if answer["error"] and answer["error"].get("code") else None,
        running=running,
        story=story.drawn(row, look.history),
        tries=_tries(look),
        inputs=inputs_of(answer["id"], row.input, look.history.files),
        outputs=[output_of(one) for one in answer["outputs"]],
        schedule=look.history.schedule,
        ranks=range(first, first + count) if count <= MOST_RANKS_CHOSEN else None,
        world=world,
        first_rank=(answer["error"] or {}).get("rank") or first,
        lines=spelling.lines(answer["id"], sent, look.spec.get("input"), origin),
        raw=legible.short(answer["input"]),
    )


def _tries(look: Look) -> list[dict[str, Any]]:
    """Newest first, each with what went wrong on it."""
    lost = {loss["attempt"]: loss for loss in look.answer["losses"]}
    names = {gang.id: gang.name for gang in look.history.gangs}
    return [
        {
            "number": one.number,
            "gang": one.gang_id,
            "gang_name": names.get(one.gang_id, one.gang_id),
            "incarnation": one.incarnation,
            "outcome": one.outcome or "running",
            "reason": one.reason_code,
            "message": one.reason,
            "rank": lost.get(one.number, {}).get("rank", one.rank),
            "node": lost.get(one.number, {}).get("node") or one.node,
            "granted_at": one.granted_at,
            "ran_s": one.run_s if one.ended_at else None,
            "loss": lost.get(one.number),
        }
        for one in reversed(look.history.tries)
    ]


# --------------------------------------------------------------------------------------------------------- what to do


@router.post("/requests/{request_id}/cancel")
async def cancel(request_id: RequestId, here: Here, visitor: Guest) -> Response:
    answer = await api.cancel(request_id, here, visitor.allow(Permission.CANCEL))
    status = json.loads(bytes(answer.body))["status"]
    return said(
        "It is being canceled: its gang stops at the next step." if status == "canceling" else f"It is {status}."
    )


@router.post("/requests/{request_id}/retry")
async def retry(request: Request, request_id: RequestId, here: Here, visitor: Guest) -> Response:
    answer = await afterwards.retry(request_id, request, here, visitor.allow(Permission.SUBMIT))
    return went(request, f"/requests/{json.loads(bytes(answer.body))['id']}")


@router.post("/requests/{request_id}/delete")
async def delete(request: Request, request_id: RequestId, here: Here, visitor: Guest) -> Response:
    await afterwards.delete(request_id, here, visitor.allow(Permission.CANCEL))
    return went(request, "/requests")
