"""`muster batch` and `Client.batches` against the real API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import builders as make
import httpx
import pytest
from http_gang import HttpGang
from replica import Replica, replica
from scripted_backend import ScriptedBackend

from orchestrator.api.intake import read_named
from orchestrator.backends.places import Places
from orchestrator.cli.main import run
from orchestrator.client import Client
from orchestrator.errors import Invalid
from orchestrator.loops import batches as batch_loop
from orchestrator.loops import reading
from orchestrator.loops.desk import Desk
from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

TEMPLATE = {
    "name": "digits",
    "handler": "samples.digits:Digits",
    "input": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 9}}},
}
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[Replica]:
    with replica(database, tmp_path / "replica") as running:
        (tmp_path / "replica").mkdir(exist_ok=True)
        yield running


@pytest.fixture
def client(here: Replica) -> Iterator[Client]:
    token = here.database.transact(
        lambda tx: tokens.create(tx, tenant=make.tenant(tx), name="test", scopes=[*Scope])[1]
    )
    with Client(here.url, token) as client:
        client.apply_template(TEMPLATE)
        yield client


@pytest.fixture
def shell(client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A command line as a person types it: exit code, stdout, stderr."""
    monkeypatch.setenv("MUSTER_URL", client.url)
    monkeypatch.setenv("MUSTER_TOKEN", client._transport._http.headers["authorization"].removeprefix("Bearer "))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def looked(here: Replica) -> None:
    desk = Desk(
        database=here.database, places=Places(ScriptedBackend()), settings=here.office.settings, wake=here.office.wake
    )
    for _ in range(3):
        while reading.run_once(desk, partial(read_named, here.database, here.office.settings)):
            pass
        batch_loop.run_once(desk)


def drain(here: Replica, batch_id: str, *outcomes: str) -> None:
    """A gang runs the items: each ends as said."""
    its_pool = make.text("SELECT p.* FROM pool p JOIN batch b ON b.pool_id = p.id WHERE b.id = :b")

    def work(tx: make.Tx) -> make.Gang:
        return make.launching(tx, tx.execute(its_pool, {"b": batch_id}).one(), batch_id=batch_id)

    gang = HttpGang(here, here.database.transact(work)).begin()
    for outcome in outcomes:
        error = {"code": "handler_error", "message": "it broke"} if outcome == "failed" else None
        assert gang.finish(gang.lease(), outcome=outcome, error=error).status_code == 200
    looked(here)


@pytest.fixture
def three(tmp_path: Path) -> str:
    path = tmp_path / "three.jsonl"
    path.write_text("".join(json.dumps({"custom_id": f"i-{n}", "input": {"n": n}}) + "\n" for n in (1, 2, 3)))
    return str(path)


def test_from_a_file_to_results_with_the_exit_code_of_a_partial_success(
    here: Replica, shell: Shell, three: str
) -> None:
    code, batch_id, _ = shell("batch", "submit", "digits", three, "--max-parallel", "2", "--label", "team=red")
    assert code == 0
    batch_id = batch_id.strip()
    drain(here, batch_id, "succeeded", "failed", "succeeded")
    code, _, said = shell("batch", "status", batch_id, "--wait")
    assert code == 10 and "of 3 items 2 succeeded, 1 failed" in said
    code, told, _ = shell("batch", "results", batch_id)
    assert code == 0 and [json.loads(line)["custom_id"] for line in told.splitlines()] == ["i-1", "i-2", "i-3"]
    code, told, _ = shell("batch", "errors", batch_id)
    assert [json.loads(line)["custom_id"] for line in told.splitlines()] == ["i-2"]
    code, told, _ = shell("batch", "ls")
    assert told.split("\t")[:6] == [batch_id, "completed", "digits", "3", "2", "1"]
    code, told, _ = shell("batch", "items", batch_id, "--status", "failed")
    assert told.split("\t")[:2] == ["i-2", "failed"]


def test_a_key_of_the_night_makes_one_batch_however_often_cron_comes(shell: Shell, three: str) -> None:
    answers = [shell("batch", "submit", "digits", three, "--idempotency-key", "nightly-2026-11-22") for _ in range(3)]
    assert len({told for _, told, _ in answers}) == 1 and {code for code, _, _ in answers} == {0}


def test_a_bad_line_is_told_with_its_number_and_exit_code_2(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"input": {"n": 1}}\n{"input": {"n": 10}}\n')
    code, told, said = shell("batch", "submit", "digits", str(path))
    assert (code, told) == (2, "") and "line 2: /input/n: 10 is greater than the maximum of 9" in said


def test_cancel_resume_and_retry(here: Replica, shell: Shell, client: Client, three: str) -> None:
    batch = client.batches.submit("digits", three)
    assert shell("batch", "pause", batch.id)[1].split() == [batch.id, "paused"]
    assert shell("batch", "resume", batch.id)[1].split() == [batch.id, "queued"]
    assert shell("batch", "cancel", batch.id)[1].split() == [batch.id, "finalizing"]
    looked(here)
    assert shell("batch", "status", batch.id, "--wait")[0] == 4
    code, told, _ = shell("batch", "retry", batch.id, "i-2")
    assert code == 0 and told.split()[0] == "i-2"
    assert client.batches.get(batch.id).counts.queued == 1
    assert shell("batch", "status", "bat_nothing")[0] == 6


def test_items_may_be_objects_of_a_program(client: Client) -> None:
    batch = client.batches.submit("digits", [{"custom_id": "a", "input": {"n": 1}}, {"input": {"n": 2}}], priority=3)
    assert (batch.counts.total, batch.status) == (2, "queued")
    assert client.batches.item(batch.id, "a").custom_id == "a"
    with pytest.raises(Invalid, match="line 1"):
        client.batches.submit("digits", [{"input": {"n": "x"}}])


def test_lines_may_be_an_upload(here: Replica, client: Client, three: str) -> None:
    batch = client.batches.submit_named("digits", file=client.upload(three).id, labels={"a": "b"})
    assert batch.status == "validating"
    looked(here)
    assert client.batches.get(batch.id).counts.queued == 3


def test_lines_are_sent_again_when_the_answer_is_lost(here: Replica, client: Client, three: str) -> None:
    """The key makes that one batch."""
    lost = []

    class Losing(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if not lost and request.url.path == "/v1/batches":
                lost.append(answer.status_code)
                answer.close()
                raise httpx.ReadError("the line broke", request=request)
            return answer

    token = client._transport._http.headers["authorization"].removeprefix("Bearer ")
    with Client(here.url, token, transport=Losing(), sleep=lambda _: None) as unlucky:
        batch = unlucky.batches.submit("digits", three)
    assert lost == [202] and [one.id for one in client.batches.list().data] == [batch.id]
