"""Receivers that are away, gone, slow or rude: the schedule, 410, Retry-After, redirects, replays."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import pytest
from receiver import Receiver, receiver
from webhook_house import HOUR, House, house

from orchestrator.domain.webhooks import JITTER, SCHEDULE
from orchestrator.errors import Conflict
from orchestrator.loops import egress
from orchestrator.loops.egress import LARGEST_REPLY_BYTES
from orchestrator.store import webhooks


def test_a_receiver_that_is_down_for_an_hour_hears_once_on_the_documented_schedule(
    sending: House, there: Receiver
) -> None:
    with receiver() as other:
        port = other.port
    with house(sending.database, sending.desk.settings.folder, f"http://127.0.0.1:{port}") as mine:
        webhook, secret = mine.endpoint(f"http://127.0.0.1:{port}/hook", "request.succeeded")
        mine.finished()
        pauses: list[float] = []
        while sum(pauses) < HOUR:
            assert mine.send() == {"put_off": [f"{webhook}/{_key(mine, webhook)}"]}
            pauses.append(mine.pass_until_next_try(webhook))
        with receiver(port=port) as up:
            assert mine.send()["delivered"] and not mine.send()
            assert [one.verified(secret)["type"] for one in up.heard] == ["request.succeeded"]
        for pause, planned in zip(pauses, SCHEDULE[1:], strict=False):
            assert planned.total_seconds() - 2 <= pause <= planned.total_seconds() * (1 + JITTER)
        assert len(pauses) == 4
        (row,) = mine.deliveries(webhook)
        assert (row.state, row.tries, row.next_at) == ("delivered", 5, None)


def _key(mine: House, webhook: str) -> str:
    (row,) = mine.deliveries(webhook)
    return f"{row.subject}_{row.seq}"


def test_after_the_last_try_it_is_given_up_and_a_replay_begins_anew_with_the_same_id(
    sending: House, there: Receiver
) -> None:
    there.status = 500
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    for _ in range(len(SCHEDULE) - 1):
        assert "put_off" in sending.send()
        sending.pass_until_next_try(webhook)
    assert "gave_up" in sending.send()
    assert len(there.heard) == 10 and len({one.id for one in there.heard}) == 1
    (row,) = sending.deliveries(webhook)
    assert (row.state, row.last_status, row.last_error, row.next_at) == ("failed", 500, "status", None)
    there.status = 200
    sending.database.transact(lambda tx: webhooks.replay(tx, "default", webhook, there.heard[0].id))
    assert "delivered" in sending.send()
    assert there.heard[-1].id == there.heard[0].id and there.heard[-1].body == there.heard[0].body


def test_410_disables_the_webhook_and_gives_up_what_waits_until_it_is_enabled(sending: House, there: Receiver) -> None:
    there.status = 410
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    assert "gave_up" in sending.send()
    assert sending.disabled(webhook) == "the receiver answered 410 Gone"
    sending.finished()
    assert len(sending.deliveries(webhook)) == 1 and not sending.send() and len(there.heard) == 1
    with pytest.raises(Conflict) as refused:
        sending.database.transact(lambda tx: webhooks.ping(tx, "default", webhook))
    assert refused.value.code == "webhook_disabled"
    sending.database.transact(lambda tx: webhooks.enable(tx, "default", webhook))
    there.status = 200
    sending.finished()
    assert "delivered" in sending.send() and len(there.heard) == 2


def test_what_waits_when_410_comes_is_given_up_with_it(sending: House, there: Receiver) -> None:
    there.status = 503
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    sending.send()
    there.status = 410
    sending.finished()
    sending.send()
    assert {(d.state, d.last_error) for d in sending.deliveries(webhook)} == {
        ("failed", "status"),
        ("failed", "disabled"),
    }
    assert sending.outcomes == ["status", "status"]
    assert not sending.send()


def test_retry_after_is_honoured(sending: House, there: Receiver) -> None:
    there.status, there.headers = 429, {"Retry-After": "900"}
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    sending.send()
    assert 895 <= sending.pass_until_next_try(webhook) <= 900


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_is_no_success(sending: House, there: Receiver, status: int) -> None:
    with receiver() as inside:
        there.status, there.headers = status, {"Location": f"{inside.origin}/latest/meta-data/"}
        webhook, _ = sending.endpoint(there.url, "request.succeeded")
        sending.finished()
        assert "put_off" in sending.send()
        assert inside.heard == [] and len(there.heard) == 1
    (row,) = sending.deliveries(webhook)
    assert (row.state, row.last_status, row.last_error) == ("pending", status, "redirect")


def test_a_reply_without_end_is_not_read_to_its_end(sending: House, there: Receiver) -> None:
    there.status, there.reply = 200, b"x" * (LARGEST_REPLY_BYTES * 200)
    _webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    assert "delivered" in sending.send()


def test_a_receiver_that_does_not_speak_http_is_an_error_like_any_other(sending: House) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        thread = threading.Thread(target=_babble, args=(listening,), daemon=True)
        thread.start()
        with house(sending.database, sending.desk.settings.folder, f"http://127.0.0.1:{port}") as mine:
            webhook, _ = mine.endpoint(f"http://127.0.0.1:{port}/x", "request.succeeded")
            mine.finished()
            assert "put_off" in mine.send()
        thread.join(timeout=10)
    assert sending.deliveries(webhook)[0].last_error == "broken"


def _babble(listening: Any) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def test_a_receiver_that_does_not_answer_in_time_is_left(
    sending: House, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()
    there.before = lambda: hold.wait(20) and None
    monkeypatch.setattr(egress, "TOTAL_S", 0.2)
    webhook, _ = sending.endpoint(there.url, "request.succeeded")
    sending.finished()
    assert "put_off" in sending.send()
    hold.set()
    assert sending.deliveries(webhook)[0].last_error == "timeout"


def test_a_name_that_does_not_exist_is_an_error_like_any_other(sending: House) -> None:
    webhook, _ = sending.endpoint("https://no-such-name.invalid/x", "request.succeeded")
    sending.finished()
    assert "put_off" in sending.send()
    assert sending.deliveries(webhook)[0].last_error in ("connect", "timeout")


def test_a_success_whose_reply_never_ends_is_a_success(sending: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "TOTAL_S", 0.5)
    over = threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        place = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=_drip, args=(listening, over), daemon=True)
        thread.start()
        with house(sending.database, sending.desk.settings.folder, place) as mine:
            webhook, _ = mine.endpoint(f"{place}/x", "request.succeeded")
            mine.finished()
            assert "delivered" in mine.send()
        over.set()
        thread.join(timeout=10)
    assert sending.deliveries(webhook)[0].last_status == 200


def _drip(listening: socket.socket, over: threading.Event) -> None:
    connection, _ = listening.accept()
    with connection, suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not over.wait(0.02):
            connection.sendall(b"x")
