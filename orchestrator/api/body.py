"""Reading JSON strictly: what Postgres would refuse, or two readers would understand differently, is refused here."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from orchestrator.api.larder import LARDER, NOBODY
from orchestrator.domain.wording import told
from orchestrator.errors import Invalid

MAX_BODY = 1 << 20
LARGE_BODY = 1 << 15
MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 300


def parse(body: bytes, what: str = "the body") -> Any:
    """The JSON value of a body, or of `what` it is. Raises Invalid `bad_json`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{what} is not UTF-8 (byte {error.start})", code="bad_json") from None
    if text.startswith("\ufeff"):
        raise Invalid(f"{what} starts with a byte order mark; send plain UTF-8", code="bad_json")
    _check_depth(text, what)
    try:
        value = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise Invalid(f"{what} is not JSON: {error.msg} at character {error.pos}", code="bad_json") from None
    return _checked(value)


M = TypeVar("M", bound=BaseModel)


def as_model(kind: type[M], said: Any) -> M:
    """What was put together from a body or a form, held to a model. Raises Invalid with a pointer to what does not fit
    first, or `invalid_string`."""
    _check_all(said)
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        raise Invalid(f"{pointer or 'the body'}: {told(first, kind)}", pointer=pointer) from None


def _check_depth(text: str, what: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:  # nearly always, and a thousand times as fast
        return
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            escaped, quoted = (character == "\\" and not escaped), (character != '"' or escaped)
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Invalid(f"{what} is nested deeper than {MAX_DEPTH}", code="bad_json")
        elif character in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Invalid(f"the key {key!r} stands twice in one object", code="bad_json")
        found[_storable(key)] = _checked(value)
    return found


def _checked(value: Any) -> Any:
    """Itself, if the strings in it can be stored; those in objects were looked at when the object was read."""
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, list):
        for item in value:
            _checked(item)
    return value


def _check_all(value: Any) -> None:
    """Of what was put together from texts that no reader of JSON has looked at."""
    match value:
        case str():
            _storable(value)
        case list() | tuple():
            for item in value:
                _check_all(item)
        case dict():
            for key, item in value.items():
                _check_all(key)
                _check_all(item)


def _storable(text: str) -> str:
    """Postgres stores no NUL and no lone surrogate."""
    if "\0" in text:
        raise Invalid("a string holds the character NUL (\\u0000), which cannot be stored", code="invalid_string")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid("a string holds a lone surrogate, which is no character", code="invalid_string")
    return text


def _refuse_constant(name: str) -> Any:
    raise Invalid(f"{name} is not JSON", code="bad_json")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Invalid(f"the number {digits[:20]} is too large", code="bad_json")
    return number


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise Invalid(f"an integer of {len(digits)} digits is too large", code="bad_json")
    return int(digits)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded_int
)


class StrictRequest(Request):
    """A request whose JSON is read strictly and whose size is bounded."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await self._bounded_body()
        return self._body

    async def _bounded_body(self) -> bytes:
        if self.headers.get("content-encoding", "identity") != "identity":
            raise Invalid("compressed bodies are not accepted", code="unsupported_media_type")
        if int(self.headers.get("content-length") or 0) > MAX_BODY:
            raise Invalid(f"the body is larger than {MAX_BODY} bytes", code="too_large")
        identity = getattr(self.state, "identity", None)
        return await LARDER.whole(self.stream(), MAX_BODY, identity.tenant if identity else NOBODY)

    async def json(self) -> Any:
        body = await self.body()
        if len(body) > LARGE_BODY:  # tens of milliseconds, in which nobody else would be answered
            return await anyio.to_thread.run_sync(parse, body)
        return parse(body)


class StrictRoute(APIRoute):
    """Routes that read their body strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await inner(StrictRequest(request.scope, request.receive))

        return strictly
