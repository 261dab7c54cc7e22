"""The client's calls: what is sent, what is tried again, which error an answer becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest
from rest_fake import DIGITS, FAILED, GANG, QUEUED, RUNNING, SUCCEEDED, TOKEN, FakeService, problem

from orchestrator import errors
from orchestrator.client import Client, Request, problem_of
from orchestrator.client.connection import Connection
from orchestrator.client.problems import error_of
from orchestrator.client.transport import LARGEST_ANSWER_BYTES, backoff_s, checked_url, encoded, retry_after_s

URL = "http://muster.test"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(service: FakeService, pauses: list[float]):
    with Client(URL, TOKEN, transport=httpx.MockTransport(service), sleep=pauses.append) as client:
        yield client


def test_submit_sends_what_was_given_under_a_key_of_its_own(client: Client, service: FakeService) -> None:
    request = client.submit(
        "digits",
        {"digit": 3},
        mode="warm",
        priority=5,
        timeout=timedelta(minutes=1),
        expire_queued_after=timedelta(hours=1),
        labels={"team": "ads"},
    )
    assert request.status == "queued" and not request.is_terminal
    assert service.bodies("POST", "/v1/requests") == [
        {
            "template": "digits",
            "input": {"digit": 3},
            "mode": "warm",
            "priority": 5,
            "timeout_s": 60.0,
            "expire_queued_after_s": 3600.0,
            "labels": {"team": "ads"},
        }
    ]
    assert len(service.seen[-1].headers["idempotency-key"]) >= 32


def test_a_submit_whose_answer_was_lost_is_repeated_under_the_same_key(client: Client, service: FakeService) -> None:
    service.answers = [httpx.ReadTimeout("lost"), problem(503, "unavailable", "starting")]
    client.submit("digits", {"digit": 3})
    assert len({one.headers["idempotency-key"] for one in service.seen}) == 1
    assert len(service.seen) == 3 and len(service.requests) == 1


def started_anew(service: FakeService) -> Client:
    """A client of a service that was started anew since: at URL, with TOKEN."""
    place = Connection(url=URL, token=TOKEN, source="local.json")
    line = httpx.MockTransport(service)
    return Client("http://before", "mst_before", transport=line, sleep=lambda _: None, refind=lambda: place)


@pytest.mark.parametrize("first", [httpx.ConnectError("refused"), problem(401, "unauthorized", "unknown token")])
def test_a_local_service_that_was_started_anew_is_found_again(
    service: FakeService, first: httpx.Response | Exception
) -> None:
    service.answers = [first]
    with started_anew(service) as client:
        client.submit("digits", {"digit": 3})
    seen = service.seen[-1]
    assert (seen.url.host, seen.headers["authorization"]) == ("muster.test", f"Bearer {TOKEN}")
    assert len({one.headers["idempotency-key"] for one in service.seen}) == 1


def test_lines_of_a_batch_are_sent_again_under_their_key_to_a_service_that_was_started_anew(
    service: FakeService,
) -> None:
    batch = {"id": "bat_1", "status": "queued", "is_terminal": False, "counts": {}}
    service.answers = [problem(401, "unauthorized", "unknown token"), httpx.Response(202, json=batch)]
    with started_anew(service) as client:
        assert client.batches.submit("digits", [{"input": {"digit": 3}}]).id == "bat_1"
    assert len({one.headers["idempotency-key"] for one in service.seen}) == 1


@pytest.mark.parametrize("first", [httpx.ConnectError("refused"), problem(401, "unauthorized", "unknown token")])
def test_a_stream_goes_on_at_a_service_that_was_started_anew(
    service: FakeService, first: httpx.Response | Exception
) -> None:
    service.answers = [first]
    with started_anew(service) as client:
        assert [one.text for one in client.follow_logs(service.add(SUCCEEDED))] == ["hello\n"]
    assert service.seen[-1].url.host == "muster.test"


def test_an_unknown_token_is_refused_at_once_where_the_service_is_the_same(service: FakeService) -> None:
    service.answers = [problem(401, "unauthorized", "unknown token")]
    place = Connection(url=URL, token=TOKEN, source="MUSTER_URL")
    with (
        Client(URL, TOKEN, transport=httpx.MockTransport(service), refind=lambda: place) as client,
        pytest.raises(errors.Unauthorized),
    ):
        client.get("req_1")
    assert len(service.seen) == 1


def test_a_token_is_not_asked_for_twice_when_the_answer_was_lost(client: Client, service: FakeService) -> None:
    service.answers = [httpx.ReadTimeout("lost")]
    with pytest.raises(errors.Unavailable):
        client.create_token("ci", ["read"])
    assert len(service.seen) == 1


def test_a_call_that_was_never_sent_is_always_tried_again(client: Client, service: FakeService) -> None:
    service.answers = [httpx.ConnectError("refused")]
    assert client.create_token("ci", ["read"]).token == "mst_secret"


def test_tries_end_and_the_last_refusal_is_told(client: Client, service: FakeService, pauses: list[float]) -> None:
    service.answers = [problem(429, "queue_full", "too many are waiting") for _ in range(9)]
    with pytest.raises(errors.Unavailable) as caught:
        client.get("req_1")
    assert caught.value.code == "queue_full" and len(service.seen) == 5 and len(pauses) == 4


def test_retry_after_is_honoured(client: Client, service: FakeService, pauses: list[float]) -> None:
    refusal = problem(503, "unavailable", "later")
    refusal.headers["retry-after"] = "7"
    service.answers = [refusal]
    client.templates()
    assert pauses == [7.0]


def test_retry_after_may_be_a_date_and_is_bounded() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (retry_after_s(soon) or 0) <= 30
    assert retry_after_s("86400") == 60.0
    assert retry_after_s("tomorrow") is None and retry_after_s(None) is None


def test_backoff_doubles_to_five_seconds_with_chance_in_its_upper_half() -> None:
    assert [backoff_s(tried, lambda: 1.0) for tried in (1, 2, 3, 9)] == [0.2, 0.4, 0.8, 5.0]
    assert backoff_s(9, lambda: 0.0) == 2.5


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, errors.Invalid),
        (422, errors.Invalid),
        (429, errors.Unavailable),
        (500, errors.MusterError),
        (503, errors.Unavailable),
    ],
)
def test_every_status_becomes_one_class_and_keeps_the_problem(status: int, kind: type[errors.MusterError]) -> None:
    answer = problem(status, "some_code", "because", [{"pointer": "/input/x", "code": "c", "message": "m"}])
    error = error_of(status, answer.headers["content-type"], answer.content, URL)
    assert type(error) is kind and error.code == "some_code" and error.pointer == "/input/x"
    assert "because" in error.message and "/input/x: m" in error.message
    found = problem_of(error)
    assert found is not None and found["status"] == status


def test_the_error_map_reaches_the_whole_tree_but_what_only_the_service_raises() -> None:
    reached = {type(error_of(status, "", b"", URL)) for status in range(400, 600)}
    tree = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MusterError)}
    assert tree - reached == {errors.StaleLease, errors.BackendError, errors.TooMany, errors.QueueFull}


@pytest.mark.parametrize("content", [b"<html>", b"[1]", b'{"detail": 5}', b"\xff", b"[" * 100_000])
def test_an_error_without_a_problem_document_still_names_the_address(content: bytes) -> None:
    error = error_of(502, "application/json", content, URL)
    assert isinstance(error, errors.Unavailable)


def test_no_connection_is_told_with_the_address(service: FakeService) -> None:
    service.answers = [httpx.ConnectError("connection refused")]
    sentence = r"http://muster\.test does not answer .*refused"
    with (
        Client(URL, TOKEN, retries=0, transport=httpx.MockTransport(service)) as client,
        pytest.raises(errors.Unavailable, match=sentence) as caught,
    ):
        client.tokens()
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize("content", [b"<html>hello</html>", b"5", b'"x"', b'{"data": 5}', b"", b"[" * 100_000])
def test_an_answer_that_is_not_ours_is_refused_in_one_sentence(
    client: Client, service: FakeService, content: bytes
) -> None:
    for call in (client.pools, lambda: client.get("req_1")):
        service.answers = [httpx.Response(200, content=content)]
        with pytest.raises(errors.Unavailable):
            call()


def test_an_endless_answer_is_cut_off(client: Client, service: FakeService) -> None:
    def endless():
        while True:
            yield b" " * (1 << 20)

    service.answers = [httpx.Response(200, content=endless())]
    with pytest.raises(errors.MusterError, match=f"{LARGEST_ANSWER_BYTES >> 20} MiB"):
        client.templates()


def test_unknown_fields_are_kept_and_missing_ones_are_none() -> None:
    document = {"id": "req_1", "status": "running", "is_terminal": False, "brand_new": [1]}
    request = Request.read(document)
    assert request.raw["brand_new"] == [1] and request.progress is None and request.created_at is None


@pytest.mark.parametrize(
    "wrong",
    [{"id": 5}, {"progress": {"current": "x"}}, {"created_at": "yesterday"}, {"outputs": {}}, {"is_terminal": 1}],
)
def test_a_field_of_another_type_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(errors.Unavailable, match="cannot read"):
        Request.read({"id": "req_1", "status": "running", "is_terminal": False, **wrong})


def test_nested_records_are_read(client: Client, service: FakeService) -> None:
    running, failed = client.get(service.add(RUNNING)), client.get(service.add(FAILED))
    assert running.placement is not None and running.placement.gang == GANG
    assert running.progress is not None and running.progress.current == 17
    assert failed.error is not None and (failed.error.rank, failed.error.node) == (2, "n7")
    assert failed.created_at == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)


def test_watch_yields_every_look_and_ends_with_the_request(client: Client, service: FakeService) -> None:
    seen = [one.status for one in client.watch(service.add(QUEUED, RUNNING, SUCCEEDED))]
    assert seen == ["queued", "running", "succeeded"]
    assert [one.url.params.get("wait") for one in service.seen] == [None, "1", "1"]


def test_a_service_that_does_not_hold_answers_back_is_not_hammered(
    client: Client, service: FakeService, pauses: list[float]
) -> None:
    list(client.watch(service.add(QUEUED, QUEUED, QUEUED, SUCCEEDED)))
    assert len(pauses) == 2 and all(0.9 < pause <= 1 for pause in pauses)


def test_wait_returns_the_unfinished_request_when_its_time_is_over(client: Client, service: FakeService) -> None:
    assert not client.wait(service.add(RUNNING), timedelta(0)).is_terminal


def test_watching_outlives_a_restart_of_the_service(service: FakeService) -> None:
    told: list[errors.MusterError] = []
    request_id = service.add(QUEUED, SUCCEEDED)
    with Client(URL, TOKEN, retries=0, transport=httpx.MockTransport(service), sleep=lambda _: None) as client:
        looks = client.watch(request_id, on_silence=told.append)
        next(looks)
        service.answers = [httpx.ConnectError("down"), problem(503, "unavailable", "starting")]
        assert [one.status for one in looks] == ["succeeded"]
    assert len(told) == 2


def test_watching_gives_up_after_its_patience(service: FakeService) -> None:
    with Client(URL, TOKEN, retries=0, transport=httpx.MockTransport(service), sleep=lambda _: None) as client:
        looks = client.watch(service.add(QUEUED), patience=timedelta(0))
        next(looks)
        service.answers = [httpx.ConnectError("down")]
        with pytest.raises(errors.Unavailable):
            next(looks)


def test_iterate_walks_all_pages(client: Client, service: FakeService) -> None:
    ids = [service.add(SUCCEEDED) for _ in range(7)]
    assert [one.id for one in client.iterate()] == ids[::-1]
    page = client.list(status=["queued", "running"], template="digits", limit=2)
    assert len(page.data) == 2 and page.has_more and page.next_cursor
    assert service.seen[-1].url.params["status"] == "queued,running"


def test_every_other_noun_is_read(client: Client, service: FakeService) -> None:
    request_id = service.add(RUNNING)
    assert client.cancel(request_id).status == "canceled"
    assert client.events(request_id)[0].move == "record"
    assert client.logs(request_id, rank="all") == "[rall] hello\n"
    assert client.outputs(request_id)[0].name == "digit.gif"
    assert client.apply_template({**DIGITS, "name": "other"}).name == "other"
    assert [one.name for one in client.templates()] == ["digits", "other"]
    client.remove_template("other")
    assert client.template("digits").ranks_per_node == 4
    assert client.pool("digits").idle_timeout_s == 600 and len(client.pools()) == 1
    assert client.set_pool("digits", min=1, idle_timeout=timedelta(minutes=1)).min == 1
    assert service.bodies("PATCH", "/v1/pools/digits") == [{"min": 1, "idle_timeout_s": 60.0}]
    assert client.gangs(state=["idle"])[0].id == GANG and client.drain_gang(GANG).state == "draining"
    assert client.recycle_pool("digits")[0].id == GANG and client.drain_pool("digits")[0].state == "draining"
    ranks = client.gang(GANG).ranks
    assert ranks is not None and ranks[0].pid == 7 and "hello" in client.gang_logs(GANG)
    assert client.tokens()[0].scopes == ("read",)
    client.revoke_token("tok_1")
    assert client.version() == "0.1.0"


def test_ready_takes_a_503_for_an_answer(client: Client, service: FakeService, pauses: list[float]) -> None:
    assert client.ready().ok
    service.ready = False
    assert not client.ready().ok and client.ready().raw == {"database": "down"} and not pauses


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "a?b=c", "ä\n"])
def test_names_cannot_leave_their_place_in_the_path(client: Client, service: FakeService, name: str) -> None:
    with pytest.raises(errors.NotFound):
        client.template(name)
    path = service.seen[-1].url.raw_path
    assert path.startswith(b"/v1/templates/") and path.count(b"/") == 3 and b"?" not in path


@pytest.mark.parametrize("url", ["ftp://x", "muster", "http://", "http://me:secret@x", "http://[x", "file:///etc"])
def test_only_plain_http_addresses_are_taken(url: str) -> None:
    with pytest.raises(errors.Invalid):
        checked_url(url)


@pytest.mark.parametrize("token", ["a b", "a\nb", "ä", "a\x00"])
def test_a_token_that_cannot_be_one_is_refused_before_it_is_sent(token: str) -> None:
    with pytest.raises(errors.Invalid, match="MUSTER_TOKEN"):
        Client(URL, token)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_say_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(errors.Invalid):
        encoded({"x": value})


def test_the_token_is_neither_in_a_representation_nor_sent_to_another_host(service: FakeService) -> None:
    stored: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "store.test":
            stored.append(request)
            return httpx.Response(200, content=b"xyz")
        return httpx.Response(302, headers={"location": "http://store.test/signed"})

    client = Client(URL, TOKEN, transport=httpx.MockTransport(answer))
    from orchestrator.client.transport import Call

    with client, client._transport.stream(Call(method="GET", path="/v1/x")) as chunks:
        assert b"".join(chunks) == b"xyz"
    assert "authorization" not in stored[0].headers
    assert TOKEN not in repr(client) + repr(vars(client))


def test_a_redirect_of_a_json_call_is_not_followed(service: FakeService) -> None:
    answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(  # noqa: E731
        302, headers={"location": "http://evil.test"}, content=json.dumps({"data": []})
    )
    with Client(URL, TOKEN, transport=httpx.MockTransport(answer)) as client, pytest.raises(errors.MusterError):
        client.pools()


def test_a_list_asks_for_all_that_is_wanted(client: Client, service: FakeService) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))
    client.list(status=["queued"], pool="digits", mode="warm", labels={"team": "ads"}, created_after=at)
    with pytest.raises(errors.Invalid):
        client.list(created_before=datetime(2026, 1, 31))
    assert dict(service.seen[-1].url.params) == {
        "status": "queued",
        "pool": "digits",
        "mode": "warm",
        "label.team": "ads",
        "created_after": "2026-01-31T12:00:00+02:00",
        "limit": "50",
    }
