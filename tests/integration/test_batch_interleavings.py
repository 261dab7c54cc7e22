"""Moves of batches, items, gangs and loops at once over several connections, at random: every promise holds after each.

What a seed does is the same each time; how Postgres interleaves it is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as make
import promises
import pytest
from builders import Gang, Lease
from races import together
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.api import batch_common
from orchestrator.backends.places import Places
from orchestrator.domain.states import BATCH_OVER, BatchReason, BatchState, Outcome, Reason
from orchestrator.errors import MusterError
from orchestrator.loops import batches as batch_loop
from orchestrator.loops import plan, schedule
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import (
    attempts,
    batch_figures,
    batch_retention,
    batches,
    gangs,
    items,
    members,
    requests,
    scheduling,
)
from orchestrator.store.attempts import Finish
from orchestrator.store.database import Database, Tx

ROUNDS = 12
AT_ONCE = 5


class House:
    """A template with batches of their own gangs and of lent ones, whose gangs start as soon as they are planned."""

    def __init__(self, database: Database, folder: Path, seed: int) -> None:
        self.database, self.chance = database, random.Random(seed)
        places = Places(ScriptedBackend())
        self.desk = Desk(database=database, places=places, settings=Settings(folder=folder), wake=lambda **_: None)
        self.gangs: dict[str, Gang] = {}
        self.pool, self.batches = database.transact(self._begin)

    def _begin(self, tx: Tx) -> tuple[Any, list[str]]:
        of = make.pool(tx, batch={"max_gangs": 3}, replicas=2, ranks_per_node=2)
        for gang in [make.ready(tx, of) for _ in range(2)]:
            self.gangs[gang.id] = gang
        of_each = (
            {"shared": True, "max_parallel": 1},
            {"max_parallel": 3, "max_failed": "2", "on_max_failed": "pause"},
            {"max_parallel": 2, "max_failed": "30%", "shared": True},
        )
        return of, [make.batch(tx, of, 8, **said) for said in of_each]

    def act(self) -> Callable[[], Any]:
        """One of the acts, with what it is about; chosen here, on the test's own thread."""
        chosen = self.chance.choices(list(_ACTS), weights=list(_ACTS.values()))[0]
        batch_id = self.chance.choice(self.batches)
        gang = self.chance.choice(sorted(self.gangs))
        number, slot = self.chance.randint(1, 8), self.chance.randint(0, 1)
        return lambda: chosen(self, batch_id=batch_id, gang=self.gangs[gang], number=number, slot=slot)

    def start_what_is_planned(self) -> None:
        """Every planned gang becomes ready at once."""
        planned = "SELECT id, batch_id, request_id FROM gang WHERE state = 'planned' AND pool_id = :p"

        def work(tx: Tx) -> None:
            for row in tx.execute(text(planned), {"p": self.pool.id}).all():
                token = make.new_token()
                gangs.add_token(tx, row.id, token)
                gangs.launched(tx, row.id, make.START)
                gang = make.hello(tx, Gang(id=row.id, token=token))
                make.all_ranks_ready(tx, gang)
                self.gangs[gang.id] = gang

        self.database.transact(work)


def _leases(tx: Tx, gang: Gang, slot: int) -> list[Lease]:
    _, duty = members.work(tx, gang.id, gang.session_hash, slot)
    return [Lease(attempt=one.attempt, token=one.token, request=one.request, gang=gang) for one in duty.leases]


def _report(house: House, gang: Gang, slot: int, report: Callable[[Lease], Finish]) -> None:
    """In two transactions, as a gang does: in between, anything may happen to its lease."""
    for lease in house.database.transact(lambda tx: _leases(tx, gang, slot)):
        house.database.transact(
            lambda tx, one=lease: attempts.finish(tx, one.attempt, gang.session_hash, report(one))  # type: ignore[misc]
        )


def succeed(house: House, *, gang: Gang, slot: int, **_: Any) -> None:
    _report(house, gang, slot, lambda lease: make.report(lease))


def fail(house: House, *, gang: Gang, slot: int, **_: Any) -> None:
    _report(house, gang, slot, lambda lease: make.report(lease, Outcome.FAILED))


def pull(house: House, *, gang: Gang, slot: int, **_: Any) -> None:
    house.database.transact(lambda tx: scheduling.assign_batch(tx, gang.id, slot))


def lend(house: House, **_: Any) -> None:
    house.database.transact(lambda tx: scheduling.assign_pool(tx, house.pool.id, make.LEASE))


def lose(house: House, *, gang: Gang, **_: Any) -> None:
    house.database.transact(lambda tx: gangs.end(tx, gang.id, Reason.GANG_LOST, "its node is gone"))


def drain(house: House, *, gang: Gang, **_: Any) -> None:
    house.database.transact(lambda tx: gangs.drain(tx, gang.id, Reason.DRAINED, "its node was told to go"))


def look(house: House, **_: Any) -> None:
    due = "UPDATE batch SET next_check_at = clock_timestamp() WHERE next_check_at IS NOT NULL"
    house.database.transact(lambda tx: tx.execute(text(due)))
    batch_loop.run_once(house.desk)


def plan_gangs(house: House, **_: Any) -> None:
    plan.run_once(house.desk)


def serve(house: House, **_: Any) -> None:
    schedule.run_once(house.desk)


def pause(house: House, *, batch_id: str, **_: Any) -> None:
    def work(tx: Tx) -> None:
        batches.refuse_to_pause(batch_figures.lock_own(tx, "default", batch_id))
        batches.pause(tx, batch_id, BatchReason.ASKED, "somebody asked")

    house.database.transact(work)


def cancel(house: House, *, batch_id: str, **_: Any) -> None:
    def work(tx: Tx) -> None:
        batch_figures.lock_own(tx, "default", batch_id)
        batches.cancel(tx, batch_id, "somebody asked")

    house.database.transact(work)


def expire(house: House, *, batch_id: str, **_: Any) -> None:
    house.database.transact(lambda tx: batches.end(tx, batch_id, BatchState.EXPIRED, BatchReason.DEADLINE, "too late"))


def resume(house: House, *, batch_id: str, **_: Any) -> None:
    def work(tx: Tx) -> None:
        row = batch_figures.lock_own(tx, "default", batch_id)
        if row.state == BatchState.PAUSED:
            batches.resume(tx, batch_id, int(row.failed))
        elif row.state in BATCH_OVER:
            batch_common.open_again(tx, row)
            items.repeat(tx, row, limit=3)

    house.database.transact(work)


def retry(house: House, *, batch_id: str, number: int, **_: Any) -> None:
    def work(tx: Tx) -> None:
        row = batch_figures.lock_own(tx, "default", batch_id)
        if make.item(tx, batch_id, number).state in items.UNDONE:
            batch_common.open_again(tx, row)
            items.repeat(tx, row, custom_id=f"i-{number}")

    house.database.transact(work)


def cancel_item(house: House, *, batch_id: str, number: int, **_: Any) -> None:
    house.database.transact(lambda tx: requests.cancel(tx, "default", make.item(tx, batch_id, number).id))


def submit(house: House, **_: Any) -> None:
    house.database.transact(lambda tx: make.queued(tx, house.pool))


def fold(house: House, *, batch_id: str, **_: Any) -> None:
    def work(tx: Tx) -> None:
        batch_figures.lock_own(tx, "default", batch_id)
        batch_figures.recount(tx, batch_id)

    house.database.transact(work)


_ACTS: dict[Callable[..., None], int] = {
    pull: 6, lend: 4, succeed: 5, fail: 4, lose: 2, drain: 1, look: 4, plan_gangs: 2, serve: 1, pause: 1, cancel: 1,
    expire: 1, resume: 3, retry: 2, cancel_item: 1, submit: 1, fold: 1,
}  # fmt: skip


def _live(database: Database, folder: Path, seed: int) -> None:
    house = House(database, folder, seed)
    for _ in range(ROUNDS):
        for got in together([house.act() for _ in range(AT_ONCE)]):
            if isinstance(got, Exception) and not isinstance(got, MusterError):
                raise got
        house.start_what_is_planned()
        assert database.transact(promises.broken) == {}
    for batch_id in house.batches:
        _end(house, batch_id)


def _end(house: House, batch_id: str) -> None:
    """Whatever became of it: it can be canceled, ends, and can be deleted."""
    cancel(house, batch_id=batch_id)
    for gang in list(house.gangs.values()):
        lose(house, gang=gang)
    look(house)
    look(house)
    state = house.database.transact(lambda tx: make.batch_row(tx, batch_id)).state
    assert state in BATCH_OVER
    house.database.transact(lambda tx: batch_retention.purge(tx, "default", batch_id))
    assert house.database.transact(promises.broken) == {}


@pytest.mark.parametrize("seed", range(2))
def test_every_promise_holds_after_each_round_of_moves_at_once(database: Database, tmp_path: Path, seed: int) -> None:
    _live(database, tmp_path, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 60))
def test_every_promise_holds_for_many_more_seeds(database: Database, tmp_path: Path, seed: int) -> None:
    _live(database, tmp_path, seed)
