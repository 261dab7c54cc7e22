"""Transport: what is slow, huge, malformed or not meant for us is refused on the connection, and holds nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta

import httpx
import pytest
from races import eventually
from raw_line import RawLine, raw_line
from replica import Replica, replica

from orchestrator.api import admission
from orchestrator.store.database import Database

HEAD_S, BODY_S = 0.6, 0.9
SETTINGS = {
    "head_timeout": timedelta(seconds=HEAD_S),
    "body_timeout": timedelta(seconds=BODY_S),
    "min_upload_rate": 1000,
    "max_connections": 60,
    "max_idle_connections": 40,
    "hosts": ("muster.example.org", "*.internal"),
}
TE = "Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("replica"), **SETTINGS) as running:
        yield running


@pytest.fixture
def line(here: Replica) -> Iterator[RawLine]:
    with raw_line(here.url) as line:
        yield line


@pytest.fixture
def caller(here: Replica) -> Iterator[httpx.Client]:
    with here.caller() as client:
        yield client


def post(client: httpx.Client, *headers: str, path: str = "/v1/requests") -> str:
    token = client.headers["authorization"]
    lines = [f"POST {path} HTTP/1.1", "Host: {host}", f"Authorization: {token}", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""])


def refused(line: RawLine, status: int, code: str) -> None:
    got, headers, body = line.answer()
    assert (got, body["code"]) == (status, code), body
    assert headers["content-type"] == "application/problem+json" and body["status"] == status and body["detail"]
    line.socket.settimeout(5)
    assert line.is_closed()


# ------------------------------------------------------------------------------------------------------ malformed


MALFORMED = {
    "both lengths": (f"POST / HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: 5\r\n{TE}\r\n0\r\n\r\n", 400),
    "both lengths, turned": (f"POST / HTTP/1.1\r\nHost: {{host}}\r\n{TE}Content-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": ("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    "two lengths in one": ("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1, 1\r\n\r\na", 400),
    "a length with a sign": ("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +1\r\n\r\na", 400),
    "a length below nothing": ("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\na", 400),
    "a length beyond all": (f"POST / HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {'9' * 40}\r\n\r\na", 400),
    "a body in gzip": ("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "an encoding that nobody knows": ("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    "the encoding twice": (f"POST / HTTP/1.1\r\nHost: {{host}}\r\n{TE}{TE}\r\n0\r\n\r\n", 400),
    "two hosts in HTTP/1.0": ("GET /healthz HTTP/1.0\r\nHost: {host}\r\nHost: {host}\r\n\r\n", 400),
    "chunks in HTTP/1.0": (f"POST / HTTP/1.0\r\nHost: {{host}}\r\n{TE}\r\n0\r\n\r\n", 400),
    "NUL in a header": ("GET /healthz HTTP/1.1\r\nHost: {host}\r\nA: b\0c\r\n\r\n", 400),
    "CR in a header": ("GET /healthz HTTP/1.1\r\nHost: {host}\r\nA: b\rc\r\n\r\n", 400),
    "a folded header": ("GET /healthz HTTP/1.1\r\nHost: {host}\r\nA: b\r\n c\r\n\r\n", 400),
    "a blank before the colon": ("GET /healthz HTTP/1.1\r\nHost : {host}\r\n\r\n", 400),
    "bare line feeds": ("GET /healthz HTTP/1.1\nHost: {host}\n\n", 400),
    "no host": ("GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": ("GET /healthz HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n", 400),
    "a blank in the path": ("GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "bytes in the path": (b"GET /\xff HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "a whole URL": ("GET http://example.org/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "a tunnel": ("CONNECT example.org:80 HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50, 400),
    "noise": (b"\x00\xff" * 100, 400),
    "a cookie of 64 KiB": (f"GET /healthz HTTP/1.1\r\nHost: {{host}}\r\nCookie: {'c' * 65536}\r\n\r\n", 431),
    "a thousand headers": ("GET /healthz HTTP/1.1\r\nHost: {host}\r\n" + "A: bcdefghijklmnop\r\n" * 1000 + "\r\n", 431),
    "a path of 64 KiB": (f"GET /{'p' * 65536} HTTP/1.1\r\nHost: {{host}}\r\n\r\n", 431),
    "a head that never ends": (b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nA: " + b"a" * 3_000_000, 431),
}


@pytest.mark.parametrize("what", list(MALFORMED))
def test_what_is_no_plain_http_is_refused_and_the_connection_closed(line: RawLine, what: str) -> None:
    sent, status = MALFORMED[what]
    line.send(sent)
    refused(line, status, {400: "bad_request", 431: "head_too_large"}[status])


@pytest.mark.parametrize("chunk", ["ZZ\r\n", "F" * 20 + "\r\n", "-1\r\n", "3\r\nabcdef\r\n", "0x1\r\na\r\n"])
def test_a_chunk_that_is_none_is_refused(line: RawLine, caller: httpx.Client, chunk: str) -> None:
    line.send(post(caller, "Transfer-Encoding: chunked"), chunk)
    refused(line, 400, "bad_request")


def test_more_framing_than_body_is_refused(line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, "Transfer-Encoding: chunked"))
    extension = b"1;" + b"x" * 30_000 + b"\r\n \r\n"
    with suppress(ConnectionError):
        line.send(*[extension] * 20)
    refused(line, 400, "bad_request")


def test_what_a_smuggler_hides_behind_a_body_is_never_answered(line: RawLine) -> None:
    line.send(
        f"POST / HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: 4\r\n{TE}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n"
    )
    refused(line, 400, "bad_request")


def test_calls_in_a_row_on_one_connection_are_answered_in_their_order(line: RawLine) -> None:
    line.send("".join(f"GET /{path} HTTP/1.1\r\nHost: {{host}}\r\n\r\n" for path in ("healthz", "nowhere", "healthz")))
    assert [line.answer()[0] for _ in range(3)] == [200, 404, 200]


def test_a_crowd_of_calls_on_one_connection_is_refused(line: RawLine) -> None:
    line.send("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n" * 1000)
    assert line.is_closed()


def test_an_offer_to_speak_another_protocol_is_not_taken_up(line: RawLine) -> None:
    line.send("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert line.answer()[0] == 200
    assert line.is_closed()


# ------------------------------------------------------------------------------------------------------ slow and huge


def test_a_head_that_dribbles_is_refused_in_time(line: RawLine) -> None:
    begun = time.monotonic()
    line.socket.settimeout(0.1)
    line.send("GET /healthz HTTP/1.1\r\nHost: {host}\r\nA: ")
    while not line._got:
        try:
            line.send("a")
            line._more()
        except TimeoutError:
            assert time.monotonic() - begun < HEAD_S + 5
    line.socket.settimeout(5)
    refused(line, 408, "request_timeout")
    assert time.monotonic() - begun >= HEAD_S - 0.1


def test_the_second_head_of_a_connection_has_the_same_time(line: RawLine) -> None:
    line.send("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
    assert line.answer()[0] == 200
    line.send("GET /healthz HTT")
    refused(line, 408, "request_timeout")


def test_who_connects_and_says_nothing_is_sent_away(line: RawLine) -> None:
    begun = time.monotonic()
    assert line.is_closed() and line._got == b""
    assert time.monotonic() - begun < HEAD_S + 5


def test_a_body_that_pauses_is_refused_in_time(line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, "Content-Length: 1000"), b'{"template": ')
    refused(line, 408, "request_timeout")


@pytest.mark.parametrize("path", ["/v1/requests", "/v1/files"])
def test_a_body_that_dribbles_is_refused_however_steadily(line: RawLine, caller: httpx.Client, path: str) -> None:
    begun = time.monotonic()
    line.socket.settimeout(0.1)
    line.send(post(caller, "Content-Length: 100000", path=path))
    while not line._got:
        try:
            line.send(b" ")
            line._more()
        except TimeoutError:
            assert time.monotonic() - begun < 4 * BODY_S + 5
    line.socket.settimeout(5)
    refused(line, 408, "request_timeout")


def test_a_body_that_is_slow_but_fast_enough_is_taken(line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, "Content-Length: 6000", path="/v1/files"))
    line.socket.settimeout(0.15)
    for _ in range(12):
        line.send(b"x" * 500)
        with pytest.raises(TimeoutError) if _ < 11 else pytest.raises(AssertionError):
            line._more()
            raise AssertionError
    line.socket.settimeout(10)
    assert line.answer()[0] == 201


def test_a_body_that_is_refused_by_its_length_is_not_read(here: Replica, line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, f"Content-Length: {1 << 30}"))
    refused(line, 413, "too_large")


def test_who_sends_a_refused_body_all_the_same_learns_why_and_is_sent_away(line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, f"Content-Length: {1 << 30}"))
    sent, block = 0, b" " * (1 << 20)
    with pytest.raises(ConnectionError):
        while True:
            line.send(block)
            sent += len(block)
    assert sent < 64 << 20
    assert line.answer()[0] == 413


def test_a_body_without_end_is_refused_when_it_is_too_large(line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, "Transfer-Encoding: chunked"))
    block = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with pytest.raises(ConnectionError):
        for _ in range(10_000):
            line.send(block)
    assert line.answer()[0] == 413


def test_who_has_no_token_sends_no_body(line: RawLine) -> None:
    line.send("POST /v1/files HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n")
    refused(line, 401, "unauthorized")


def test_a_body_that_nobody_wants_does_not_hold_the_connection(line: RawLine) -> None:
    line.send("GET /healthz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\nabc")
    status, headers, _ = line.answer()
    assert (status, headers["connection"]) == (200, "close")
    line.socket.settimeout(5)
    assert line.is_closed()


def test_a_body_is_asked_for_only_where_it_is_wanted(line: RawLine, caller: httpx.Client) -> None:
    line.send(post(caller, "Expect: 100-continue", "Content-Length: 2"))
    assert line.answer()[0] == 100
    line.send("{}")
    assert line.answer()[0] == 422


# ---------------------------------------------------------------------------------------------------- host and origin


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:1234", 200),
        ("10.1.2.3", 200),
        ("[::1]:8380", 200),
        ("muster.example.org", 200),
        ("a.internal:80", 200),
        ("evil.example.org", 421),
        ("localhost.evil.org", 421),
        ("internal", 421),
        ("muster.example.org.evil.org", 421),
        ("127.0.0.1.evil.org", 421),
        ("127.0.0.1@evil.org", 421),
        ("evil.org#localhost", 421),
        ("evil.org/localhost", 421),
        ("a b", 421),
        ("", 421),
        ("localhost:x", 421),
        ("[::1", 421),
        ("h" * 5000, 421),
    ],
)
def test_a_call_for_another_name_is_misdirected(line: RawLine, host: str, status: int) -> None:
    line.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
    answer = line.answer()
    assert answer[0] == status
    if status == 421:
        assert answer[2]["code"] == "misdirected"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://{host}", 200),
        ("https://muster.example.org", 200),
        ("https://pages.internal", 200),
        ("null", 403),
        ("", 403),
        ("http://evil.org", 403),
        ("http://localhost:1", 403),
        ("http://6.6.6.6", 403),
        ("file://", 403),
        ("https://muster.example.org.evil.org", 403),
        ("http://{host}.evil.org", 403),
    ],
)
def test_pages_of_other_sites_may_not_call(line: RawLine, origin: str, status: int) -> None:
    line.send(f"GET /healthz HTTP/1.1\r\nHost: {{host}}\r\nOrigin: {origin}\r\n\r\n")
    answer = line.answer()
    assert answer[0] == status
    assert "access-control-allow-origin" not in answer[1]
    if status == 403:
        assert answer[2]["code"] == "foreign_origin"


# ------------------------------------------------------------------------------------------------------------- crowds


def test_idle_connections_make_room_and_calls_go_on(here: Replica) -> None:
    lines = []
    for _ in range(120):
        opened = raw_line(here.url)
        lines.append((opened, opened.__enter__()))
        lines[-1][1].send("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert lines[-1][1].answer()[0] == 200
    house = here.server.house
    assert house.idle <= 40 and house.count <= 60
    for opened, _ in lines:
        opened.__exit__(None, None, None)
    eventually(lambda: house.count == 0)


def test_a_replica_that_is_full_of_calls_says_so(
    here: Replica, caller: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MOST_UPLOADS", 1000)  # else one tenant alone could not fill it
    with ExitStack() as stack:
        lines = []
        for _ in range(70):  # each busy before the next comes: idle ones would make room
            lines.append(stack.enter_context(raw_line(here.url)))
            lines[-1].send(post(caller, "Content-Length: 9000", path="/v1/files"))
        statuses = [line.answer()[0] for line in lines]
    assert set(statuses) <= {408, 503} and statuses.count(503) >= 5 and statuses.count(408) >= 50
    eventually(lambda: here.server.house.count == 0)


def test_who_reads_nothing_of_its_answer_is_sent_away(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stalled")
    stall = timedelta(seconds=0.5)
    with replica(shared_database, folder, stall_timeout=stall) as here, raw_line(here.url) as line:
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.send("GET /openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n" * 16)
        eventually(lambda: here.server.house.count == 0)


def test_an_end_answers_who_waits_and_does_not_wait_for_who_sends(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with replica(shared_database, tmp_path_factory.mktemp("ending")) as here, here.caller() as caller:
        with raw_line(here.url) as sending, raw_line(here.url) as idle:
            sending.send(post(caller, "Content-Length: 9000", path="/v1/files"), b"half")
            idle.send("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")
            assert idle.answer()[0] == 200
            eventually(lambda: here.server.house.idle == 1)
            begun = time.monotonic()
            here.leave()
            idle.socket.settimeout(5)
            assert idle.is_closed()
            assert time.monotonic() - begun < 5
            sending.socket.settimeout(15)
            assert sending.is_closed()
        assert time.monotonic() - begun < 15
