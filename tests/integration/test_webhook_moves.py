"""What webhooks hear: written down by the statement that moves, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import builders as make
import pytest
from receiver import Receiver
from webhook_house import KEYS, House

from orchestrator.domain.ids import new_id
from orchestrator.domain.states import Outcome, Reason
from orchestrator.domain.targets import Policy
from orchestrator.domain.webhooks import ENDS, EVENTS
from orchestrator.errors import Conflict
from orchestrator.store import gangs, requests, webhooks
from orchestrator.store.database import Record


def test_a_success_is_told_once_signed_and_thin(sending: House, there: Receiver) -> None:
    webhook, secret = sending.endpoint(there.url)
    request = sending.finished()
    assert sending.send()["delivered"]
    assert not sending.send()
    assert sending.outcomes == ["delivered", "delivered"]
    told = {one.verified(secret)["type"]: one for one in there.heard}
    assert set(told) == {"gang.ready", "request.succeeded"} and len(there.heard) == 2
    row = sending.database.transact(lambda tx: make.request_row(tx, request))
    message = told["request.succeeded"].verified(secret)
    assert message["data"] == {
        "id": request,
        "status": "succeeded",
        "version": row.version,
        "url": f"https://muster.example/v1/requests/{request}",
    }
    assert told["request.succeeded"].id == f"msg_{request}_{row.version}"
    assert there.heard[0].headers["content-type"] == "application/json"
    assert {(d.state, d.tries, d.last_status) for d in sending.deliveries(webhook)} == {("delivered", 1, 204)}


MOVES: dict[str, Callable[[make.Tx, Record], object]] = {
    "running": lambda tx, pool: make.running(tx, pool),
    "succeeded": lambda tx, pool: make.finish(tx, make.running(tx, pool)),
    "failed": lambda tx, pool: make.finish(tx, make.leased(tx, pool), Outcome.FAILED),
    "failed unstarted": lambda tx, pool: requests.fail_queued(
        tx, make.queued(tx, pool), Reason.START_TIMEOUT, "no gang", cause={}
    ),
    "canceled unstarted": lambda tx, pool: requests.cancel(tx, "default", make.queued(tx, pool)),
    "canceled": lambda tx, pool: _canceled(tx, pool),
    "expired": lambda tx, pool: requests.expire(tx, make.queued(tx, pool)),
}


def _canceled(tx: make.Tx, pool: Record) -> None:
    lease = make.leased(tx, pool)
    requests.cancel(tx, "default", lease.request)
    make.finish(tx, lease, Outcome.CANCELED)


@pytest.mark.parametrize("name", MOVES)
def test_every_end_and_every_start_is_written_down_by_its_own_move(sending: House, there: Receiver, name: str) -> None:
    webhook, _ = sending.endpoint(there.url, *(event for event in EVENTS if event.startswith("request.")))
    sending.database.transact(lambda tx: MOVES[name](tx, make.pool(tx)))
    wanted = {"succeeded": ["running", "succeeded"]}.get(name, [name.partition(" ")[0]])
    assert [(d.type, d.status) for d in sending.deliveries(webhook)] == [
        (f"request.{state}", state) for state in wanted
    ]


def test_a_move_that_is_rolled_back_tells_nobody(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url)

    def work(tx: make.Tx) -> None:
        requests.cancel(tx, "default", make.queued(tx, make.pool(tx)))
        raise Conflict("the transaction ends sending")

    with pytest.raises(Conflict):
        sending.database.transact(work)
    assert not sending.deliveries(webhook) and not sending.send() and not there.heard


def test_a_gang_that_is_lost_is_told_one_that_is_sent_away_is_not(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, "gang.lost", "gang.ready")

    def work(tx: make.Tx) -> list[str]:
        pool = make.pool(tx)
        lost, away = make.ready(tx, pool), make.ready(tx, pool)
        gangs.end(tx, lost.id, Reason.GANG_LOST, "a node is gone")
        gangs.end(tx, away.id, Reason.IDLE, "not needed")
        return [lost.id, away.id]

    lost, away = sending.database.transact(work)
    told = [(d.type, d.subject, d.status) for d in sending.deliveries(webhook)]
    assert sorted(told) == sorted(
        [("gang.ready", lost, "idle"), ("gang.ready", away, "idle"), ("gang.lost", lost, "gone")]
    )


def test_nobody_hears_of_another_tenant_nor_of_what_was_not_asked_for(sending: House, there: Receiver) -> None:
    other = sending.database.transact(make.tenant)
    foreign, _ = sending.endpoint(there.url, tenant=other)
    picky, _ = sending.endpoint(there.url, "request.failed")
    sending.finished()
    assert not sending.deliveries(foreign) and not sending.deliveries(picky)


def test_the_hook_of_one_request_hears_only_that_and_is_signed_with_the_tenants_secret(
    sending: House, there: Receiver
) -> None:
    target = Policy.read([there.origin]).target(there.url)
    mine = new_id("req")

    def hear(tx: make.Tx) -> None:
        webhooks.hear_request(tx, "default", mine, b"digest", target, ENDS)

    with pytest.raises(Conflict) as refused:
        sending.database.transact(hear)
    assert refused.value.code == "no_webhook_secret"
    seed = sending.database.transact(
        lambda tx: webhooks.renew_tenant_secret(tx, "default", KEYS.newest or "", timedelta())
    )
    sending.database.transact(hear)
    sending.finished()

    def cancel(tx: make.Tx) -> None:
        make.queued(tx, make.pool(tx), id=mine)
        requests.cancel(tx, "default", mine)

    sending.database.transact(cancel)
    sending.send()
    assert [one.verified(KEYS.secret(seed) or "")["data"]["id"] for one in there.heard] == [mine]
