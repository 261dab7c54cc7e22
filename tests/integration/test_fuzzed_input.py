"""The classes of bad input beyond the catalogue: whatever comes is accepted or refused, never a 5xx, never a hang."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_line import raw_line
from replica import Replica

PATIENT = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck), derandomize=True)
ODD_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "\0",
        "\u202e",
        "../../x",
        "%00",
        "'; --",
        "{{7*7}}",
        "x" * 70_000,
        "\x1b[31m",
        "NaN",
        "-0",
        "1e999",
        "é",
        "\ufeff",
    ]
)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=10,
)
SUBMISSION = ("template", "input", "mode", "priority", "timeout_s", "labels", "max_attempts", "expire_queued_after_s")
SPEC = ("handler", "input", "env", "image", "nodes", "pool", "limits", "pod", "warmup", "script", "args", "recycle")
REPORT = ("token", "outcome", "result", "outputs", "error", "metrics", "run_s", "healthy")


@pytest.fixture(scope="module")
def caller(here: Replica) -> httpx.Client:
    client = here.caller()
    assert client.put("/v1/templates/any", json={"handler": "samples.echo:Echo"}).status_code == 200
    return client


@pytest.fixture(scope="module")
def gang(here: Replica) -> HttpGang:
    pool = here.database.transact(make.pool)
    return gang_in(here, pool).begin()


def total(here: Replica) -> int:
    return here.database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM request"))


def changed(good: dict[str, Any], names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """A good document in which some fields are odd, and perhaps one that nobody knows."""
    odd = st.dictionaries(st.sampled_from(names) | ODD_TEXT, ODD, min_size=1, max_size=3)
    return odd.map(lambda fields: good | fields)


@PATIENT
@given(body=changed({"template": "any", "input": {}}, SUBMISSION) | ODD)
def test_any_json_is_accepted_with_a_row_or_refused_without(here: Replica, caller: httpx.Client, body: Any) -> None:
    before = total(here)
    answer = caller.post("/v1/requests", json=body)
    assert answer.status_code < 500, answer.text
    assert total(here) - before == (answer.status_code == 202)


@PATIENT
@given(body=st.binary(max_size=200) | st.text(max_size=60).map(lambda text: json.dumps(text).encode("utf-16")))
def test_any_bytes_are_refused(here: Replica, caller: httpx.Client, body: bytes) -> None:
    answer = caller.post("/v1/requests", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@PATIENT
@given(
    place=st.sampled_from(["requests", "templates", "gangs", "pools", "files", "tokens", "webhooks"]),
    name=st.text(min_size=1, max_size=40) | ODD_TEXT.filter(bool),
    rest=st.sampled_from(["", "/events", "/logs", "/outputs/x", "/explain"]),
)
def test_any_path_is_found_or_not(caller: httpx.Client, place: str, name: str, rest: str) -> None:
    path = quote(name.encode("utf-8", "surrogatepass")[:8000], safe="")
    answer = caller.get(f"/v1/{place}/{path}{rest}")
    assert answer.status_code in (200, 400, 404, 405, 409, 422), answer.text


@PATIENT
@given(
    asked=st.dictionaries(
        st.sampled_from(["status", "template", "limit", "cursor", "pool", "mode", "wait", "after"]) | ODD_TEXT,
        (ODD_TEXT | st.integers(-(10**30), 10**30).map(str)).map(lambda value: value[:3000]),
        max_size=4,
    )
)
def test_any_query_is_answered_or_refused(caller: httpx.Client, asked: dict[str, str]) -> None:
    named = {name[:1000]: value for name, value in asked.items()}
    assert caller.get("/v1/requests", params=named).status_code in (200, 400, 422, 431)


@PATIENT
@given(spec=changed({"handler": "samples.echo:Echo"}, SPEC))
def test_any_template_is_stored_or_refused(caller: httpx.Client, spec: dict[str, Any]) -> None:
    answer = caller.put("/v1/templates/fuzzed", json=spec)
    assert answer.status_code in (200, 400, 422), answer.text


@PATIENT
@given(report=changed({"token": "x", "outcome": "succeeded"}, REPORT) | ODD)
def test_any_report_of_a_worker_is_refused_without_a_5xx(gang: HttpGang, report: Any) -> None:
    answer = gang.call("POST", f"/attempts/att_{'0' * 26}/finish", report)
    assert 400 <= answer.status_code < 500, answer.text


TOKEN = st.sampled_from(["Host", "Content-Length", "Transfer-Encoding", "Authorization", "Origin", "Expect", "Range"])
HEADER = st.tuples(TOKEN | st.text("aZ-_:\t 09", max_size=8), st.binary(max_size=30)).map(
    lambda pair: pair[0].encode() + b": " + pair[1]
)


@PATIENT
@given(
    line=st.sampled_from([b"GET /healthz HTTP/1.1", b"POST /v1/requests HTTP/1.1", b"GET / HTTP/1.0"])
    | st.binary(max_size=40),
    headers=st.lists(HEADER, max_size=6),
    rest=st.binary(max_size=60),
)
def test_any_bytes_on_a_connection_are_answered_below_500_or_closed(
    here: Replica, line: bytes, headers: list[bytes], rest: bytes
) -> None:
    with raw_line(here.url, timeout_s=5) as sent:
        sent.send(b"\r\n".join([line, b"Host: localhost", *headers, b"", b""]) + rest)
        sent.socket.shutdown(1)
        assert sent.is_closed()
        if sent._got:
            good = tuple(b"HTTP/1.1 " + status for status in (b"2", b"307", b"4", b"100"))
            assert sent._got.startswith(good), sent._got[:200]
