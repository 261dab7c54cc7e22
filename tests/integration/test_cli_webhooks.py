"""`muster webhook` and the client's webhooks, against a real replica and a real receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver
from replica import Replica, replica
from webhook_house import house

from orchestrator.cli import webhooks as commands
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import run
from orchestrator.client import Client
from orchestrator.store.database import Database


class Muster:
    """The command line of an admin of a tenant of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        self._capsys = capsys
        self.url = url

    def __call__(self, *arguments: str) -> int:
        code = run(arguments)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        assert self(*arguments, "--json") == ExitCode.OK, self.err
        return json.loads(self.out)


@pytest.fixture
def here(database: Database, tmp_path: Path, there: Receiver) -> Iterator[Replica]:
    """A replica whose sender passes all the time."""
    stop = threading.Event()
    with ExitStack() as stack:
        keys, hosts = ("k" * 32,), (there.origin,)
        running = stack.enter_context(replica(database, tmp_path, webhook_keys=keys, webhook_hosts=hosts))
        sending = stack.enter_context(house(database, tmp_path, there.origin))

        def passes() -> None:
            while not stop.wait(0.02):
                sending.sender.run_once(sending.desk)

        thread = threading.Thread(target=passes, daemon=True)
        thread.start()
        stack.callback(thread.join, 10)
        stack.callback(stop.set)
        yield running


@pytest.fixture
def muster(
    here: Replica, there: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Muster:
    caller = here.caller()
    assert caller.put("/v1/templates/echo", json={"handler": "samples.echo:Echo"}).status_code == 200
    monkeypatch.setenv("MUSTER_URL", here.url)
    monkeypatch.setenv("MUSTER_TOKEN", caller.headers["authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(commands, "LOOK_EVERY_S", 0.01)
    return Muster(capsys, there.url)


def test_a_webhook_is_made_tested_listed_and_removed(muster: Muster, there: Receiver) -> None:
    assert muster("webhook", "create", muster.url, "-e", "request.failed,gang.lost") == 0
    secret, webhook = muster.out.strip(), muster.err.split(":")[0]
    assert secret.startswith("whsec_") and webhook.startswith("whk_")
    assert muster("webhook", "ls") == 0
    columns = muster.out.strip().split("\t")
    assert columns[:3] == [webhook, "enabled", "gang.lost,request.failed"] and columns[4] == muster.url
    assert muster("webhook", "test", webhook) == ExitCode.OK
    ping = there.heard[-1]
    assert ping.verified(secret)["type"] == "webhook.ping"
    assert muster.out.split("\t")[:5] == [ping.id, "delivered", "webhook.ping", "1", "204"]
    assert muster("webhook", "deliveries", webhook, "-s", "delivered") == 0 and ping.id in muster.out
    assert muster("webhook", "rm", webhook) == 0
    assert muster("webhook", "ls") == 0 and muster.out == ""
    assert muster("webhook", "test", webhook) == ExitCode.NOT_FOUND


def test_a_ping_that_does_not_arrive_says_why_and_a_replay_sends_it_again(muster: Muster, there: Receiver) -> None:
    there.status = 500
    made = muster.json("webhook", "create", muster.url)
    assert muster("webhook", "test", made["id"]) == ExitCode.FAILED
    ping = muster.out.split("\t")
    assert ping[1] == "pending" and ping[4] == "500" and ping[6].strip()
    there.status = 410
    assert muster("webhook", "replay", made["id"], ping[0]) == 0
    with Client.from_env() as client:
        gone = commands._first_try(client, client.webhooks.delivery(made["id"], ping[0]))
        while gone.state == "pending":
            gone = client.webhooks.delivery(made["id"], ping[0])
        assert (gone.state, gone.last_status) == ("failed", 410)
        assert client.webhooks.get(made["id"]).disabled_reason == "the receiver answered 410 Gone"
    assert muster("webhook", "ls") == 0 and "disabled: the receiver answered 410 Gone" in muster.out
    assert muster("webhook", "test", made["id"]) == ExitCode.FAILED and "enable" in muster.err
    assert muster("webhook", "enable", made["id"]) == 0
    there.status = 200
    assert muster("webhook", "test", made["id"]) == 0


def test_secrets_are_rotated_and_a_request_has_a_hook_of_its_own(muster: Muster, there: Receiver) -> None:
    made = muster.json("webhook", "create", muster.url, "-e", "request.running")
    assert muster("webhook", "rotate", made["id"], "--overlap", "1h") == 0
    new = muster.out.strip()
    assert muster("webhook", "test", made["id"]) == 0
    assert there.heard[-1].verified(made["secret"]) == there.heard[-1].verified(new)
    assert (
        muster("submit", "echo", "--webhook", muster.url) == ExitCode.FAILED and "muster webhook secret" in muster.err
    )
    secret = muster.json("webhook", "secret")["secret"]
    assert muster("submit", "echo", "--webhook", muster.url) == 0
    request = muster.out.strip()
    assert muster("cancel", request) == 0
    with Client.from_env() as client:
        assert client.wait(request, timeout=timedelta(seconds=10)).status == "canceled"
        (hook,) = client.webhooks.list(request=request)
        (told,) = client.webhooks.deliveries(hook.id)
        while told.state == "pending":
            told = client.webhooks.delivery(hook.id, told.id)
    assert there.heard[-1].verified(secret)["data"]["id"] == request
    assert muster.json("webhook", "ls", "--request", request)["data"][0]["request"] == request


@pytest.mark.parametrize("command", ["create", "rm", "rotate", "test", "deliveries", "replay", "enable"])
def test_what_is_missing_is_asked_for(muster: Muster, command: str) -> None:
    assert muster("webhook", command) == ExitCode.USAGE


def test_a_url_that_is_refused_says_why(muster: Muster) -> None:
    assert muster("webhook", "create", "http://169.254.169.254/") == ExitCode.USAGE
    assert "not among the places" in muster.err
