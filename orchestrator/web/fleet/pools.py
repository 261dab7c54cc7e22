"""Pools: how many gangs each may have, what waits, why it serves or does not, and what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from orchestrator.api import catalog
from orchestrator.api.body import as_model
from orchestrator.api.catalog import Name, PoolChange
from orchestrator.api.office import Office
from orchestrator.domain import advice, explaining
from orchestrator.domain.access import Permission
from orchestrator.domain.durations import duration
from orchestrator.errors import Invalid
from orchestrator.store import explaining as facts
from orchestrator.store import fleet, templates
from orchestrator.store.database import Record, Tx
from orchestrator.store.fleet import Load
from orchestrator.web.frame import gauges
from orchestrator.web.frame.answers import said
from orchestrator.web.frame.forms import fields
from orchestrator.web.frame.gauges import Gauge
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor

router = APIRouter()

MOST = 200
FIRST = 5
GANGS_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One with its gauge and what waits for it."""

    row: Record
    gauge: Gauge
    counts: dict[str, int]
    """Its serve gangs by state."""
    batch: dict[str, int]
    """Gangs of batches and of single requests."""
    load: Load

    @property
    def drained(self) -> bool:
        """Nothing is launched for it any more, at a person's word."""
        return bool(self.row.max_gangs == 0)


@router.get("/pools")
async def pools(request: Request, here: Here, visitor: Guest) -> Response:
    return page(request, "pools_list.html", visitor, board=await _list(here, visitor, base_of(request)))


@router.get("/live/pools")
async def live_pools(request: Request, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    return boards.stream(request, visitor, "pools", partial(_list, here, visitor, base_of(request)))


async def _list(here: Office, visitor: Visitor, base: str) -> Markup:
    def work(tx: Tx) -> tuple[list[Pool], Sequence[Record]]:
        loads = fleet.loads(tx, visitor.tenant)
        found = [pool_of(row, loads) for row in fleet.pools(tx, visitor.tenant, MOST + 1)]
        return found, fleet.old_pools(tx, visitor.tenant)

    found, old = await here.look(work)
    return fragment(
        base,
        visitor,
        "pools_list_board.html",
        pools=found[:MOST],
        more=len(found) > MOST,
        old=[pool_of(row, {}) for row in old],
    )


def pool_of(row: Record, loads: Mapping[str, Load]) -> Pool:
    """A row of `fleet.pools`, with what waits by template."""
    counts = _counts(row, "serve")
    return Pool(
        row=row,
        gauge=gauges.gauge(counts, row.min_gangs, row.max_gangs),
        counts=counts,
        batch=_counts(row, "batch"),
        load=loads.get(row.template) or Load(template=row.template, states={}, items=0, oldest=None),
    )


def _counts(row: Record, mode: str) -> dict[str, int]:
    """Its live gangs of this mode by state."""
    return {one["state"]: one["n"] for one in row.gangs if one["mode"] == mode}


# ------------------------------------------------------------------------------------------------------------- one pool


@router.get("/pools/{name}")
async def pool(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    board = await _board(here, visitor, name, base_of(request))
    policy = await _policy(here, visitor, name)
    return page(request, "pools_one.html", visitor, pool_name=name, board=board, policy=policy, wrong={})


@router.get("/live/pools/{name}")
async def live_pool(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    return boards.stream(request, visitor, ("pool", name), partial(_board, here, visitor, name, base_of(request)))


async def _board(here: Office, visitor: Visitor, name: str, base: str) -> Markup:
    """Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        known, usual = facts.pool(tx, visitor.tenant, name)
        row = fleet.pool(tx, visitor.tenant, name)
        assert row is not None, "facts.pool raises where there is none"
        failed = fleet.last_failed_start(tx, row.id)
        return {
            "pool": pool_of(row, fleet.loads(tx, visitor.tenant)),
            "first": fleet.first_in_line(tx, visitor.tenant, row.id, FIRST),
            "gangs": fleet.page(tx, visitor.tenant, gone=False, template=name, before=None, limit=GANGS_SHOWN + 1),
            "failed": failed,
            "advice": advice.of(failed.reason_code) if failed else None,
            "explained": explaining.explain_pool(known, usual),
        }

    return fragment(base, visitor, "pools_board.html", shown=GANGS_SHOWN, **await here.look(work))


async def _policy(here: Office, visitor: Visitor, name: str) -> dict[str, str]:
    """As the form has it. Raises NotFound."""
    row = await here.look(lambda tx: templates.current_pool(tx, visitor.tenant, name))
    return {"min": str(row.min_gangs), "max": str(row.max_gangs), "idle_timeout_s": f"{row.idle_timeout_s:g}"}


@router.post("/pools/{name}")
async def change(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    """The form of its policy."""
    identity = visitor.allow(Permission.MANAGE)
    sent = await fields(request)
    policy = {field: sent.get(field, "").strip() for field in ("min", "max", "idle_timeout_s")}
    try:
        changed = await catalog.patch_pool(name, as_model(PoolChange, _numbers(policy)), here, identity)
    except Invalid as error:
        wrong = {(error.pointer or "/min").strip("/"): error.message}
        return page(request, "pools_policy.html", visitor, status=422, pool_name=name, policy=policy, wrong=wrong)
    word = (
        f"{name} keeps {changed['min']} to {changed['max']} gangs, idle ones for {duration(changed['idle_timeout_s'])}"
    )
    return said(word)


def _numbers(policy: dict[str, str]) -> dict[str, float]:
    """Raises Invalid, with the field's name."""
    return {field: _number(field, text) for field, text in policy.items()}


def _number(field: str, text: str) -> float:
    try:
        return float(text) if field == "idle_timeout_s" else int(text)
    except ValueError:
        raise Invalid(f"{text!r} is no number", pointer=f"/{field}") from None


@router.post("/pools/{name}/drain")
async def drain(name: Name, here: Here, visitor: Guest) -> Response:
    found = await catalog.drain_pool(name, here, visitor.allow(Permission.MANAGE))
    return said(f"{_gangs(len(found['data']))} of {name} go when they are done; none is launched any more")


@router.post("/pools/{name}/recycle")
async def recycle(name: Name, here: Here, visitor: Guest) -> Response:
    found = await catalog.recycle_pool(name, here, visitor.allow(Permission.MANAGE))
    return said(
        f"{_gangs(len(found['data']))} of {name} finish what they have and go; new ones come as they are wanted"
    )


def _gangs(number: int) -> str:
    return "1 gang" if number == 1 else f"{number} gangs"
