"""The first page: what waits, what runs where, what went wrong, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from orchestrator.api import batch_views
from orchestrator.api.office import Office
from orchestrator.api.views import Json
from orchestrator.domain.states import BATCH_OVER, BatchState
from orchestrator.store import batch_figures, fleet, listing, schedules
from orchestrator.store.database import Record, Tx
from orchestrator.store.fleet import Load, Spent
from orchestrator.store.listing import Filter
from orchestrator.web.fleet.pools import Pool, pool_of
from orchestrator.web.frame import gauges
from orchestrator.web.frame.gauges import Piece
from orchestrator.web.frame.kept import Kept
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor
from orchestrator.web.schedules import rules

router = APIRouter()

MOST_POOLS = 12
GANGS_OF_EACH = 6
MOST_GANGS = 60
MOST_FAILURES = 6
MOST_BATCHES = 5
MOST_FIRES = 5
SPENT_OVER_S = 86400.0
SPENT_KEPT_S = 30.0
FIRES_KEPT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Fire:
    """The next tick of a schedule."""

    schedule: str
    at: datetime
    template: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All that the database said for one rendering."""

    pools: Sequence[Pool]
    more_pools: int
    loads: Sequence[Load]
    counts: Mapping[str, Mapping[str, int]]
    gangs: Sequence[Record]
    failures: Sequence[Record]
    batches: Sequence[Json]

    @property
    def is_new(self) -> bool:
        """Nothing was ever set up here."""
        return not (self.pools or self.loads or self.counts or self.failures or self.batches)

    @property
    def oldest(self) -> datetime | None:
        """When the request was recorded that waits longest."""
        return min((load.oldest for load in self.loads if load.oldest), default=None)

    @property
    def states(self) -> Mapping[str, int]:
        """Live gangs of all templates by state."""
        total: dict[str, int] = {}
        for of_one in self.counts.values():
            for state, number in of_one.items():
                total[state] = total.get(state, 0) + number
        return total


@router.get("/")
async def overview(request: Request, here: Here, visitor: Guest) -> Response:
    return page(request, "overview.html", visitor, board=await _board(request, here, visitor))


@router.get("/live/overview")
async def live(request: Request, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    return boards.stream(request, visitor, "overview", lambda: _board(request, here, visitor))


async def _board(request: Request, here: Office, visitor: Visitor) -> Markup:
    tenant, kept = visitor.tenant, _kept(request)
    seen = await here.look(lambda tx: look(tx, tenant))
    spent = await kept(("spent", tenant), SPENT_KEPT_S, lambda: here.look(lambda tx: _spent(tx, tenant)))
    fires = await kept(("fires", tenant), FIRES_KEPT_S, lambda: here.look(lambda tx: next_fires(tx, tenant)))
    return fragment(
        base_of(request), visitor, "overview_board.html", seen=seen, spent=spent, fires=fires, stack=_stack(spent)
    )


def _kept(request: Request) -> Kept:
    found: Kept = request.app.state.kept
    return found


# ---------------------------------------------------------------------------------------------------------------- looks


def look(tx: Tx, tenant: str) -> Seen:
    """Six statements, however much there is."""
    loads = fleet.loads(tx, tenant)
    pools = sorted((pool_of(row, loads) for row in fleet.pools(tx, tenant, 1000)), key=_by_weight)
    wanted = Filter(states=("failed", "expired"))
    open_batches = [str(state) for state in BatchState if state not in BATCH_OVER]
    return Seen(
        pools=pools[:MOST_POOLS],
        more_pools=max(0, len(pools) - MOST_POOLS),
        loads=sorted(loads.values(), key=lambda one: one.template),
        counts=fleet.counts(tx, tenant),
        gangs=fleet.some_of_each(tx, tenant, GANGS_OF_EACH, MOST_GANGS),
        failures=listing.page(tx, tenant, wanted, before=None, limit=MOST_FAILURES),
        batches=[
            batch_views.batch(one)
            for one in batch_figures.list_page(tx, tenant, states=open_batches, before=None, limit=MOST_BATCHES)
        ],
    )


def _by_weight(pool: Pool) -> tuple[bool, bool, bool, str]:
    """What asks for attention comes first."""
    return pool.row.held_until is None, not (pool.load.open or pool.load.items), not pool.counts, pool.row.template


def _spent(tx: Tx, tenant: str) -> list[Spent]:
    return fleet.spent(tx, tenant, SPENT_OVER_S)


def _stack(spent: Sequence[Spent]) -> dict[str, list[Piece]]:
    """A bar for each template, all on one scale."""
    whole = max((one.total for one in spent), default=0.0)
    return {one.template: gauges.stack(_kinds(one), whole) for one in spent}


def _kinds(one: Spent) -> list[tuple[str, float]]:
    return [("warm", one.warm), ("batch", one.batch), ("starting", one.starting), ("waste", one.idle)]


def next_fires(tx: Tx, tenant: str) -> list[Fire]:
    """The ticks that come next, of schedules that are neither paused nor at their end."""
    now = schedules.now(tx)
    found = [
        Fire(schedule=row.name, at=tick, template=rules.template_of(row.runs))
        for row in schedules.list_all(tx, tenant)
        if row.paused_at is None
        for tick in rules.next_of(row, now)[:1]
    ]
    return sorted(found, key=lambda fire: (fire.at, fire.schedule))[:MOST_FIRES]
