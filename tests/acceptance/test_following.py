"""Whoever follows a request over the death of the service sees every event, once (D4 of the doors)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from stage import Up, echo

from orchestrator.client import Client, Update

NAME = "followed"
PATIENCE = timedelta(seconds=120)


@pytest.mark.long
@pytest.mark.slow
def test_a_follower_sees_every_event_once_over_a_service_that_is_killed_and_one_that_is_stopped(up: Up) -> None:
    """Killed while ranks write; then stopped, which ends the gang, so that the request runs once more."""
    up.client.apply_template(echo(NAME, ranks=2, min=1))
    up.idle_gang(NAME)
    request = up.client.submit(NAME, {"sleep_s": 20, "steps": 200, "hooks": {"print": "a line of rank"}})
    token = up.client.create_token("follower", ["read"]).token
    with ThreadPoolExecutor(2) as threads:
        plain = threads.submit(follow, up.replica.url, token, request.id, logs=False)
        with_logs = threads.submit(follow, up.replica.url, token, request.id, logs=True)
        up.running(request.id, past_step=5)
        up.kill()
        up.start()
        up.running(request.id, past_step=20)
        assert up.stop() == 0
        up.start()
        ended = up.done(request.id, within=PATIENCE)
        seen, seen_with_logs = plain.result(60), with_logs.result(60)
    assert ended.succeeded and ended.attempt == 2
    table = [str(event.seq) for event in up.client.events(request.id)]
    for updates in (seen, seen_with_logs):
        assert [place(update) for update in updates if update.kind == "status"] == table
        assert place(updates[-1]) == f"{table[-1]}.1" and updates[-1].kind == "done"
        assert any(update.kind == "progress" for update in updates)
    lines = "".join(update.data["text"] for update in seen_with_logs if update.kind == "log")
    assert "a line of rank 0\n" in lines and lines == up.client.logs(request.id, tail=100_000)


def follow(url: str, token: str | None, request_id: str, *, logs: bool) -> list[Update]:
    with Client(url, token, retries=0) as client:
        return list(client.follow_events(request_id, logs=logs, patience=PATIENCE))


def place(update: Update) -> str:
    return (update.id or "").partition("~")[0]
