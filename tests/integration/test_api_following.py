"""Events and logs as they happen: in order, each once, over breaks and replicas; and who may follow how much."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang
from races import eventually
from replica import Replica, replica

from orchestrator.api import followers
from orchestrator.client import Client, Update
from orchestrator.client.streaming import updates
from orchestrator.domain.states import Outcome, Reason
from orchestrator.errors import Unavailable
from orchestrator.store.database import Database, Record
from orchestrator.store.tokens import Scope

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def replicas(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    with replica(shared_database, folder) as here, replica(shared_database, folder) as there:
        yield here, there


@pytest.fixture
def here(replicas: tuple[Replica, Replica]) -> Replica:
    return replicas[0]


@pytest.fixture
def there(replicas: tuple[Replica, Replica]) -> Replica:
    return replicas[1]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Case:
    """A request of a tenant of its own, on a gang of its own."""

    def __init__(self, here: Replica, world: int = 1) -> None:
        self.here = here
        self.tenant = here.database.transact(make.tenant)
        self.pool: Record = here.database.transact(lambda tx: make.pool(tx, tenant=self.tenant, ranks_per_node=world))
        self.lease = here.database.transact(lambda tx: make.leased(tx, self.pool, tenant=self.tenant))
        self.request = self.lease.request
        self.gang = HttpGang(here, self.lease.gang, world)
        self.gang.session = self.lease.gang.session
        self.path = f"/v1/requests/{self.request}"
        self.caller = here.caller(tenant=self.tenant)
        self.token = self.caller.headers["Authorization"].removeprefix("Bearer ")
        self._seq: dict[int, int] = {}

    def at(self, replica: Replica) -> httpx.Client:
        return replica.client(self.token)

    def beat(self, current: float) -> None:
        pulse = {"attempt": self.lease.attempt, "token": self.lease.token}
        assert self.gang.beat(pulse, phase="run", current=current, total=10).status_code == 200

    def finish(self, **report: Any) -> None:
        lease = {"attempt": self.lease.attempt, "token": self.lease.token}
        assert self.gang.finish(lease, **report).status_code == 200

    def write(self, text: str, rank: int = 0, at: float = 1000.0) -> None:
        self._seq[rank] = self._seq.get(rank, 0) + 1
        chunk = {"seq": self._seq[rank], "request": self.request, "at": at, "text": text}
        answer = self.gang.call("POST", f"/gangs/{self.gang.id}/logs", {"rank": rank, "chunks": [chunk]})
        assert answer.status_code == 200, answer.text

    def events(self) -> list[int]:
        return [event["seq"] for event in self.caller.get(f"{self.path}/events").json()["data"]]


@contextmanager
def stream(client: httpx.Client, path: str, after: str | None = None) -> Iterator[Iterator[Update]]:
    headers = SSE | ({"Last-Event-ID": after} if after else {})
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        yield updates(answer.iter_bytes())


def until(found: Iterator[Update], wanted: Callable[[Update], bool]) -> list[Update]:
    """Those up to the first that is wanted."""
    seen = []
    for update in found:
        seen.append(update)
        if wanted(update):
            return seen
    raise AssertionError(f"it did not come: {seen}")


def kinds(found: list[Update]) -> list[str]:
    return [update.kind for update in found]


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


# ------------------------------------------------------------------------------------------------------------- a page


def test_a_page_of_moves_goes_on_after_a_number(here: Replica) -> None:
    case = Case(here)
    case.beat(1)
    first = case.caller.get(f"{case.path}/events?limit=2").json()
    assert [event["seq"] for event in first["data"]] == [1, 2] and first["has_more"]
    rest = case.caller.get(f"{case.path}/events?after=2&limit=2").json()
    assert [event["move"] for event in rest["data"]] == ["start"] and not rest["has_more"]
    refused(case.caller.get(f"{case.path}/events?limit=0"), 422, "invalid_input")


# ----------------------------------------------------------------------------------------------------------- a stream


def test_a_stream_tells_every_move_and_the_progress_and_the_outputs_and_ends(here: Replica) -> None:
    case = Case(here)
    with stream(case.caller, f"{case.path}/events") as found:
        assert [one.data["move"] for one in until(found, lambda u: u.id == "2")] == ["record", "assign"]
        case.beat(1)
        begun = until(found, lambda u: u.kind == "progress")
        assert [one.id for one in begun] == ["3", None] and begun[0].data["status"] == "running"
        assert (begun[1].data["current"], begun[1].data["fraction"], begun[1].data["attempt"]) == (1, 0.1, 1)
        case.beat(2)
        assert until(found, lambda u: u.kind == "progress")[-1].data["current"] == 2
        outputs = [_output(case, name) for name in ("a.gif", "b.gif")]
        case.finish(outputs=outputs)
        rest = list(found)
    assert kinds(rest) == ["status", "output", "output", "done"]
    assert [one.id for one in rest] == ["4", "4.1", "4.2", "4.3"]
    assert [one.data["name"] for one in rest[1:3]] == ["a.gif", "b.gif"]
    assert rest[-1].data["status"] == "succeeded" and rest[-1].data["url"] == case.path


def _output(case: Case, name: str) -> dict[str, Any]:
    uri = f"{case.here.office.settings.outputs}/{case.tenant}/{case.request}/1/{name}"
    return {"name": name, "bytes": 3, "sha256": "ab" * 32, "uri": uri}


@pytest.mark.parametrize("seen", ["", "1", "2", "3", "4", "4.1", "4.2"])
def test_a_stream_goes_on_after_the_last_event_that_came(there: Replica, here: Replica, seen: str) -> None:
    case = Case(here)
    case.beat(1)
    case.finish(outputs=[_output(case, "a.gif")])
    everything = ["1", "2", "3", "4", "4.1", "4.2"]
    answer = case.at(there).get(f"{case.path}/events", headers=SSE | {"Last-Event-ID": seen})
    if seen == "4.2":
        assert answer.status_code == 204 and answer.content == b""
        return
    left = everything[everything.index(seen) + 1 :] if seen else everything
    assert [one.id for one in updates([answer.content])] == left


def test_a_stream_on_another_replica_hears_of_moves_and_progress_soon(here: Replica, there: Replica) -> None:
    case = Case(here)
    with stream(case.at(there), f"{case.path}/events") as found:
        until(found, lambda u: u.id == "2")
        case.beat(1)
        until(found, lambda u: u.kind == "progress")
        case.finish()
        assert kinds(list(found)) == ["status", "done"]


def test_a_move_that_nobody_tells_of_is_seen_by_the_safety_net(here: Replica) -> None:
    case = Case(here)
    with stream(case.caller, f"{case.path}/events") as found:
        until(found, lambda u: u.id == "2")
        here.database.transact(lambda tx: make.lose(tx, case.lease, Reason.GANG_LOST, "gone"))
        assert until(found, lambda u: u.id == "3")[-1].data["status"] == "queued"
        case.caller.post(f"{case.path}/cancel")
        assert list(found)[-1].data["status"] == "canceled"


def test_many_who_follow_one_request_cost_one_look_at_the_database(
    here: Replica, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, ready = Case(here), threading.Barrier(9)

    def follow() -> list[str | None]:
        with stream(here.client(case.token), f"{case.path}/events") as found:
            seen = until(found, lambda u: u.id == "2")
            ready.wait(20)
            return [one.id for one in [*seen, *found] if one.id]

    others = [threads.submit(follow) for _ in range(8)]
    ready.wait(20)
    looks, look = [], here.office.look
    monkeypatch.setattr(here.office, "look", lambda work: looks.append(work) or look(work))  # type: ignore[func-returns-value]
    case.finish()
    assert [other.result(20) for other in others] == [["1", "2", "3", "3.1"]] * 8
    assert len(looks) <= 4, "two at most for a wake-up, and the safety net's"


def test_whoever_goes_away_leaves_nothing_behind(here: Replica) -> None:
    case = Case(here)
    with stream(case.caller, f"{case.path}/events") as found:
        until(found, lambda u: u.id == "2")
        assert case.request in here.office.followed and case.request in here.office.hub.waiting("r:")
    eventually(lambda: case.request not in here.office.followed)
    assert case.request not in here.office.hub.waiting("r:")
    eventually(lambda: not here.office.admission._parked[case.tenant])


def test_a_tenant_may_follow_so_much_and_no_more(shared_database: Database, tmp_path_factory: Any) -> None:
    with replica(shared_database, tmp_path_factory.mktemp("narrow"), max_waits=2) as narrow:
        case, other = Case(narrow), Case(narrow)
        path = f"{case.path}/events"
        with stream(case.caller, path), stream(case.caller, f"{case.path}/logs"):
            for refusal in (case.caller.get(path, headers=SSE), case.caller.get(f"{case.path}/logs?follow=1")):
                refused(refusal, 429, "too_many_waits")
                assert int(refusal.headers["retry-after"]) >= 1
            assert case.caller.get(path).status_code == 200
            with stream(other.caller, f"{other.path}/events") as found:
                until(found, lambda u: u.id == "2")
        eventually(lambda: not narrow.office.admission._parked[case.tenant])


def test_silence_is_filled_with_heartbeats(here: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "HEARTBEAT_S", 0.05)
    case = Case(here)
    with case.caller.stream("GET", f"{case.path}/events", headers=SSE) as answer:
        assert answer.headers["cache-control"] == "no-store"
        chunks = answer.iter_bytes()
        told = b"".join(next(chunks) for _ in range(5))
    assert told.count(b"\n:\n\n") >= 2


def test_a_stream_ends_soon_after_its_token_is_revoked(here: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "HEARTBEAT_S", 0.05)
    case = Case(here)
    admin = here.caller(tenant=case.tenant)
    made = admin.post("/v1/tokens", json={"name": "x", "scopes": ["read"]}).json()
    with stream(here.client(made["token"]), f"{case.path}/events") as found:
        until(found, lambda u: u.id == "2")
        assert admin.delete(f"/v1/tokens/{made['id']}").status_code == 204
        assert list(found) == []


def test_a_stream_of_a_request_that_is_deleted_ends(here: Replica) -> None:
    case = Case(here)
    with stream(case.caller, f"{case.path}/events") as found:
        until(found, lambda u: u.id == "2")
        here.database.transact(lambda tx: make.finish(tx, case.lease, Outcome.SUCCEEDED))
        assert case.at(here).delete(case.path).status_code == 204
        assert kinds(list(found)) in ([], ["status", "done"])


def test_a_replica_that_goes_ends_its_streams_at_once(shared_database: Database, tmp_path_factory: Any) -> None:
    with replica(shared_database, tmp_path_factory.mktemp("leaving")) as leaving:
        case = Case(leaving)
        with stream(case.caller, f"{case.path}/events") as found, stream(case.caller, f"{case.path}/logs") as lines:
            until(found, lambda u: u.id == "2")
            began = time.monotonic()
            leaving.leave()
            assert list(found) == [] and list(lines) == []
            assert time.monotonic() - began < 8, "uvicorn waits for ten seconds"


@pytest.mark.parametrize("bad", ["x", "1.", "-1", "1.2.3", "1" * 10, "1~_1-1", "1~é", "1~" + "_1-1-1" * 3000])
def test_an_id_that_no_stream_gave_is_refused(here: Replica, bad: str) -> None:
    case = Case(here)
    answer = case.caller.get(f"{case.path}/events?logs=1", headers=SSE | {"Last-Event-ID": bad.encode()})  # type: ignore[dict-item]
    assert answer.status_code in (400, 431), answer.text
    if answer.status_code == 400:
        refused(answer, 400, "bad_event_id")


def test_another_tenants_stream_does_not_exist(here: Replica) -> None:
    case = Case(here)
    with here.caller(Scope.READ) as stranger:
        for path in ("events", "logs"):
            refused(stranger.get(f"{case.path}/{path}", headers=SSE), 404, "not_found")


# --------------------------------------------------------------------------------------------------------------- logs


def test_a_stream_with_logs_has_every_line_once_over_breaks_and_replicas(here: Replica, there: Replica) -> None:
    """Broken off after every single event, and taken up on the other replica."""
    case = Case(here, world=2)
    case.beat(1)
    for number in range(6):
        case.write(f"r0 {number}\n", rank=0, at=1000 + number)
        case.write(f"r1 {number}\n", rank=1, at=900 - number)  # a clock that goes back
    path, last, seen = f"{case.path}/events?logs=1&rank=all", None, []
    for turn in range(100):
        with stream(case.at((here, there)[turn % 2]), path, last) as found:
            update = next(one for one in found if one.id)
        seen.append(update)
        last = update.id
        if turn == 4:
            case.write("late\n", rank=1, at=1.0)
        if turn == 8:
            case.finish()
        if update.kind == "done":
            break
    assert [one.data["text"] for one in seen if one.data.get("rank") == 0] == [f"r0 {n}\n" for n in range(6)]
    assert [one.data["text"] for one in seen if one.data.get("rank") == 1] == [f"r1 {n}\n" for n in range(6)] + [
        "late\n"
    ]
    assert [one.id.partition("~")[0] for one in seen if one.kind == "status" and one.id] == ["1", "2", "3", "4"]
    answer = case.caller.get(path, headers=SSE | {"Last-Event-ID": last or ""})
    assert answer.status_code == 204


def test_logs_are_followed_until_the_end_and_what_came_after_it(here: Replica, there: Replica) -> None:
    case = Case(here)
    case.write("one\ntwo\nthree\n")
    with case.at(there).stream("GET", f"{case.path}/logs?follow=1&tail=2") as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["two", "three"]
        case.write("four\n")
        assert next(lines) == "four"
        case.finish()
        case.write("five\n")
        assert list(lines) == ["five"]


def test_lines_of_several_ranks_say_whose_they_are(here: Replica) -> None:
    case = Case(here, world=2)
    with case.caller.stream("GET", f"{case.path}/logs?follow=1&rank=0,1") as answer:
        lines = answer.iter_lines()
        case.write("a\nb\n", rank=1)
        assert [next(lines), next(lines)] == ["[r1] a", "[r1] b"]


def test_a_reader_of_the_last_lines_gets_nothing_old_of_ranks_that_are_not_among_them(here: Replica) -> None:
    case = Case(here, world=2)
    case.write("old\n", rank=1, at=900.0)
    case.write("young\n", rank=0, at=1000.0)
    with case.caller.stream("GET", f"{case.path}/logs?follow=1&rank=all&tail=1") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "[r0] young"
        case.write("new\n", rank=1, at=901.0)
        assert next(lines) == "[r1] new"


def test_a_backlog_is_read_page_by_page_and_whole(here: Replica) -> None:
    case = Case(here)
    for number in range(150):
        case.write(f"{number}\n", at=1000.0 + number)
    case.finish()
    everything = "".join(f"{number}\n" for number in range(150))
    assert case.caller.get(f"{case.path}/logs?follow=1").text == everything
    found = updates([case.caller.get(f"{case.path}/events?logs=1", headers=SSE).content])
    assert "".join(one.data["text"] for one in found if one.kind == "log") == everything


def test_a_stream_of_logs_goes_on_after_the_last_event_that_came(here: Replica, there: Replica) -> None:
    case = Case(here)
    case.write("one\ntwo\n")
    case.write("three\n", at=1001.0)
    path = f"{case.path}/logs?tail=2"
    with stream(case.caller, path) as found:
        first = next(found)
    assert first.kind == "log" and first.data["text"] == "two\n"
    case.finish()
    with stream(case.at(there), path, first.id) as found:
        rest = list(found)
    assert [one.data.get("text") for one in rest] == ["three\n", None] and rest[-1].kind == "done"
    assert case.caller.get(path, headers=SSE | {"Last-Event-ID": rest[-1].id or ""}).status_code == 204


def test_logs_begin_where_they_are_asked_to(here: Replica) -> None:
    case, now = Case(here), time.time()
    case.write("old\n", at=now - 7200)
    case.write("young\n", at=now - 60)
    moment = "1970-01-01T00:00:00Z"
    logs = lambda since: case.caller.get(f"{case.path}/logs", params={"since": since}).text  # noqa: E731
    assert logs("5m") == logs("90s") == "young\n" and logs("3h") == logs("1d") == logs(moment) == "old\nyoung\n"
    case.finish()
    assert case.caller.get(f"{case.path}/logs?follow=1&since=5m").text == "young\n"
    assert logs("999999999d") == "old\nyoung\n"


@pytest.mark.parametrize(
    "since", ["", "5", "5 m", "-5m", "5w", "yesterday", "2026-01-01T00:00:00", "infinity", "\x00", "٥m"]
)
def test_what_is_no_moment_is_refused(here: Replica, since: str) -> None:
    case = Case(here)
    refused(case.caller.get(f"{case.path}/logs", params={"since": since}), 422, "invalid_input")


# ------------------------------------------------------------------------------------------------------------- client


def test_the_client_follows_over_a_replica_that_goes(
    shared_database: Database, tmp_path_factory: Any, here: Replica
) -> None:
    with replica(shared_database, tmp_path_factory.mktemp("going")) as going:
        case = Case(going)
        silences: list[Any] = []
        with Client(going.url, case.token, retries=0) as muster:
            found = muster.follow_events(case.request, logs=True, on_silence=silences.append)
            seen = until(found, lambda u: (u.id or "").startswith("2"))
            going.leave()
            case.gang.http = here.client()
            case.beat(1)
            case.write("hello\n")
            case.finish()
            muster._transport.url = here.url  # as a load balancer would do
            seen += list(found)
    assert silences and [one.data["seq"] for one in seen if one.kind == "status"] == [1, 2, 3, 4]
    assert [one.data["text"] for one in seen if one.kind == "log"] == ["hello\n"] and seen[-1].kind == "done"


def test_the_client_gives_up_on_a_service_that_stays_away(here: Replica) -> None:
    case = Case(here)
    client = Client("http://127.0.0.1:9", case.token, retries=0, sleep=lambda _: None)
    with client as muster, pytest.raises(Unavailable, match="does not answer"):
        list(muster.follow_logs(case.request, patience=timedelta(seconds=0.2)))


def test_the_client_follows_logs_to_their_end(here: Replica) -> None:
    case = Case(here)
    case.write("one\n")
    case.finish()
    with Client(here.url, case.token) as muster:
        assert [(one.rank, one.text) for one in muster.follow_logs(case.request)] == [(0, "one\n")]
