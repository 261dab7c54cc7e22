"""The short way of plain calls, and that all others go the long way with nothing lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from orchestrator.api.lane import Call, Lane, Way
from orchestrator.api.office import Office
from orchestrator.errors import Conflict

ATTEMPT = f"att_{'0' * 26}"
PLAIN = ((b"host", b"here"), (b"authorization", b"Bearer abc"), (b"content-type", b"application/json"))
Headers = Sequence[tuple[bytes, bytes]]


class Said(BaseModel):
    digit: int


async def plain(office: Office, call: Call) -> Response | None:
    if call.token is None or (said := await call.read(Said)) is None:
        return None
    if said.digit == 9:
        raise Conflict("nine is taken", code="taken")
    if said.digit == 8:
        raise ZeroDivisionError
    return JSONResponse({"subject": call.subject, "digit": said.digit, "token": call.token})


WAYS = (
    Way(method="POST", path="/v1/requests", plain=plain),
    Way(method="POST", path="/internal/v1/attempts/{attempt}/finish", plain=plain),
)


def call(
    *bodies: bytes, headers: Headers = PLAIN, path: str = "/v1/requests", method: str = "POST"
) -> tuple[int, Any, str]:
    """Status and JSON of the answer, and what `scope["route"]` says; of the long way 299 and the body as it came."""
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers)
    }  # fmt: skip
    pieces = [{"type": "http.request", "body": body, "more_body": body is not bodies[-1]} for body in bodies]
    sent: list[Message] = []

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Lane(the_long_way, cast(Office, None), WAYS)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"]), getattr(scope.get("route"), "path", "")


async def the_long_way(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await JSONResponse({"came": body.decode()}, status_code=299)(scope, receive, send)


def test_a_plain_call_takes_the_short_way_and_counts_for_its_route() -> None:
    assert call(b'{"digit": 3}') == (200, {"subject": "", "digit": 3, "token": "abc"}, "/v1/requests")
    status, answer, route = call(b'{"digit": 3}', path=f"/internal/v1/attempts/{ATTEMPT}/finish")
    assert (status, answer["subject"]) == (200, ATTEMPT) and route == "/internal/v1/attempts/{attempt}/finish"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/v1/requests/"},
        {"path": "/v1/requests/req_1"},
        {"path": f"/internal/v1/attempts/{ATTEMPT}x/finish"},
        {"path": "/internal/v1/attempts/{}/finish"},
        {"path": "/internal/v1/attempts/{attempt}/finish"},
        {"headers": (*PLAIN, (b"content-length", b"1000000"))},
        {"headers": PLAIN[:2]},
        {"headers": (*PLAIN[:2], (b"content-type", b"text/plain"))},
        {"headers": (PLAIN[0], PLAIN[2])},
        {"headers": (*PLAIN, (b"authorization", b"Bearer other"))},
        {"headers": (*PLAIN, (b"prefer", b"wait=3"))},
        {"headers": (*PLAIN, (b"cookie", b"a=b"))},
        {"headers": (*PLAIN, (b"content-encoding", b"gzip"))},
    ],
)
def test_a_call_with_something_special_goes_the_long_way_as_it_came(changes: dict[str, Any]) -> None:
    assert call(b'{"digit": 3}', **changes) == (299, {"came": '{"digit": 3}'}, "")


@pytest.mark.parametrize("body", [b"", b"{no json", b'{"digit": "x"}', b'{"digit": 1, "digit": 2}', b"[]"])
def test_what_is_wrong_with_a_body_is_for_the_long_way_to_say(body: bytes) -> None:
    assert call(body) == (299, {"came": body.decode()}, "")


def test_a_body_in_pieces_goes_the_long_way_with_all_of_them() -> None:
    assert call(b'{"digit"', b": 3", b"}") == (299, {"came": '{"digit": 3}'}, "")


def test_an_error_of_the_call_is_answered_as_a_problem() -> None:
    status, answer, _ = call(b'{"digit": 9}')
    assert (status, answer["code"], answer["detail"]) == (409, "taken", "nine is taken")


def test_a_defect_is_left_to_whoever_logs_defects() -> None:
    with pytest.raises(ZeroDivisionError):
        call(b'{"digit": 8}')
