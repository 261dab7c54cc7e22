"""Crashes and races of senders; secrets; what is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import builders as make
import pytest
from races import eventually, together
from receiver import Receiver, receiver
from sqlalchemy import text
from webhook_house import KEYS, House, house

from orchestrator.domain.ids import new_id
from orchestrator.domain.targets import Policy
from orchestrator.domain.webhooks import ENDS
from orchestrator.loops import upkeep
from orchestrator.store import outbox, requests, webhooks


def test_two_senders_that_race_never_send_one_delivery_at_once(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    for _ in range(12):
        sending.finished()
    with ExitStack() as stack:
        folder = sending.desk.settings.folder
        rivals = [sending, *(stack.enter_context(house(sending.database, folder, there.origin)) for _ in range(3))]
        while any(row.next_at for row in sending.deliveries(webhook)):
            together([rival.send for rival in rivals])
    assert len(there.heard) == 12 == len({one.id for one in there.heard})
    assert {(row.state, row.tries) for row in sending.deliveries(webhook)} == {("delivered", 1)}


def test_a_claim_that_two_replicas_chose_is_one_replicas(sending: House, there: Receiver) -> None:
    sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    due = sending.database.transact(outbox.due)
    claims = together([lambda: sending.database.transact(lambda tx: outbox.claim(tx, due)) for _ in range(4)])
    assert sorted(len(claim) for claim in claims if not isinstance(claim, Exception)) == [0, 0, 0, 1]
    _forget_claims(sending)


def test_a_crash_between_sending_and_recording_sends_the_same_id_again(sending: House, there: Receiver) -> None:
    """The receiver answers only after the claim was taken away, as it is when a replica dies and its claim runs out."""
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    crash = iter([lambda: _forget_claims(sending)])
    there.before = lambda: next(crash, lambda: None)()
    eventually(lambda: "delivered" in sending.send())
    assert len(there.heard) == 2 and there.heard[0].id == there.heard[1].id
    assert there.heard[0].body == there.heard[1].body
    assert [row.tries for row in sending.deliveries(webhook)] == [2]


def test_a_replica_that_is_killed_while_it_sends_is_replaced_and_the_id_stays(sending: House, there: Receiver) -> None:
    """A process of its own, killed by the receiver once the message has come."""
    webhook, secret = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    program = (
        "import sys; from pathlib import Path; from webhook_house import house;"
        "from orchestrator.store.database import Database\n"
        "with house(Database(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]) as mine: mine.send()"
    )
    arguments = [sending.database.url, str(sending.desk.settings.folder), there.origin]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    replica = subprocess.Popen([sys.executable, "-c", program, *arguments], env={**os.environ, "PYTHONPATH": path})
    there.before = replica.kill
    assert replica.wait(timeout=60) == -signal.SIGKILL
    there.before = lambda: None
    (row,) = sending.deliveries(webhook)
    assert row.state == "pending" and row.claim is not None and not sending.send(), "its claim still holds"
    assert sending.pass_until_next_try(webhook) > 30
    assert "delivered" in sending.send()
    assert len(there.heard) == 2 and there.heard[0].id == there.heard[1].id
    assert there.heard[0].verified(secret) == there.heard[1].verified(secret)


def _forget_claims(sending: House) -> None:
    """The claim of a dead replica runs out."""
    query = text("UPDATE delivery SET claim = NULL, next_at = clock_timestamp() WHERE claim IS NOT NULL")
    sending.database.transact(lambda tx: tx.execute(query))


def test_a_crash_between_the_move_and_the_sender_leaves_nothing_undelivered(sending: House, there: Receiver) -> None:
    """There is nothing in between: the connection dies with the move's transaction, or the delivery is there."""
    webhook, _ = sending.endpoint(there.url, "request.canceled")

    def dies(tx: make.Tx) -> None:
        requests.cancel(tx, "default", make.queued(tx, make.pool(tx)))
        tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    from orchestrator.errors import Unavailable

    with pytest.raises(Unavailable):
        sending.database.transact(dies)
    assert not sending.deliveries(webhook)
    for _ in range(3):
        sending.database.transact(lambda tx: requests.cancel(tx, "default", make.queued(tx, make.pool(tx))))
    with house(sending.database, sending.desk.settings.folder, there.origin) as heir:
        heir.send()
    assert len(there.heard) == 3


def test_a_dead_receiver_does_not_hold_up_another(sending: House, there: Receiver) -> None:
    hold = threading.Event()
    with ExitStack() as stack:
        slow = stack.enter_context(receiver(before=lambda: hold.wait(20) and None))
        mine = stack.enter_context(house(sending.database, sending.desk.settings.folder, there.origin, slow.origin))
        stack.callback(hold.set)
        stuck, _ = mine.endpoint(slow.url, "request.succeeded")
        quick, _ = mine.endpoint(there.url, "request.succeeded")
        for _ in range(10):
            mine.finished()
        eventually(lambda: mine.sender.run_once(mine.desk) is not None and _sent(mine, quick) == 10)
        assert slow.most_open == 4 and _sent(mine, stuck) == 0


def _sent(mine: House, webhook: str) -> int:
    return sum(row.state == "delivered" for row in mine.deliveries(webhook))


def test_while_a_secret_is_rotated_both_sign_and_then_only_the_new_one(sending: House, there: Receiver) -> None:
    webhook, old = sending.endpoint(there.url, "request.succeeded")
    seed = sending.database.transact(
        lambda tx: webhooks.rotate(tx, "default", webhook, KEYS.newest or "", timedelta(hours=1))
    )
    new = KEYS.secret(seed) or ""
    sending.finished()
    sending.send()
    assert there.heard[0].verified(old) == there.heard[0].verified(new)
    query = text("UPDATE webhook_secret SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL")
    sending.database.transact(lambda tx: tx.execute(query))
    sending.finished()
    sending.send()
    assert len(there.heard[1].headers["webhook-signature"].split()) == 1 and there.heard[1].verified(new)


def test_no_secret_is_in_the_database(sending: House, there: Receiver) -> None:
    _, secret = sending.endpoint(there.url)
    sending.finished()
    sending.send()
    query = "SELECT string_agg(t::text, '') FROM (SELECT w::text FROM webhook w UNION ALL SELECT s::text FROM"
    query += " webhook_secret s UNION ALL SELECT d::text FROM delivery d) t"
    everything = sending.database.transact(lambda tx: tx.execute(text(query)).scalar_one())
    assert secret.removeprefix("whsec_") not in everything and "k" * 32 not in everything and "whk_" in everything


def test_without_the_key_that_a_secret_came_from_nothing_is_sent_unsigned(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.database.transact(lambda tx: tx.execute(text("UPDATE webhook_secret SET key_id = 'lost'")))
    sending.finished()
    assert "put_off" in sending.send()
    assert there.heard == [] and sending.deliveries(webhook)[0].last_error == "no_key"


def test_old_deliveries_and_hooks_of_requests_that_are_over_are_forgotten(sending: House, there: Receiver) -> None:
    kept, _ = sending.endpoint(there.url, "request.succeeded")
    sending.database.transact(lambda tx: webhooks.renew_tenant_secret(tx, "default", KEYS.newest or "", timedelta()))
    target = Policy.read([there.origin]).target(there.url)
    over, came_to_nothing, open_ = (new_id("req") for _ in range(3))
    for request in (over, came_to_nothing, open_):
        sending.database.transact(
            lambda tx, r=request: webhooks.hear_request(tx, "default", r, b"digest", target, ENDS)
        )  # type: ignore[misc]
    sending.finished()
    sending.database.transact(lambda tx: make.queued(tx, make.pool(tx), id=over))
    sending.database.transact(lambda tx: requests.cancel(tx, "default", over))
    sending.database.transact(lambda tx: make.queued(tx, make.pool(tx), id=open_))
    sending.send()
    assert "forgot_deliveries" not in upkeep.run_once(sending.desk).did
    _pass(sending, "2 hours")
    assert upkeep.run_once(sending.desk).did["forgot_deliveries"] == ["1"], "what came to nothing"
    _pass(sending, "31 days")
    assert upkeep.run_once(sending.desk).did["forgot_deliveries"] == ["3"]
    left = sending.database.transact(lambda tx: tx.execute(text("SELECT hears FROM webhook")).scalars().all())
    assert sorted(left) == sorted(["t:default", open_]) and not sending.deliveries(kept)


def _pass(sending: House, time: str) -> None:
    """So much time passes for what is over."""
    for change in (
        f"UPDATE delivery SET last_at = last_at - interval '{time}'",
        f"UPDATE webhook SET created_at = created_at - interval '{time}'",
        f"UPDATE request SET finished_at = finished_at - interval '{time}' WHERE finished_at IS NOT NULL",
        f"UPDATE event SET at = at - interval '{time}'",
    ):
        sending.database.transact(lambda tx, c=change: tx.execute(text(c)))  # type: ignore[misc]


def test_what_was_written_for_a_webhook_that_is_deleted_meanwhile_is_not_kept(sending: House, there: Receiver) -> None:
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    sending.database.transact(lambda tx: tx.execute(text("DELETE FROM webhook WHERE id = :w"), {"w": webhook}))
    assert not sending.send() and there.heard == []
    upkeep.run_once(sending.desk)
    assert sending.deliveries(webhook) == []
