"""Errors as RFC 9457 problem documents: one map from the error tree to statuses, one shape for every failure."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

from orchestrator import errors
from orchestrator.domain.wording import told
from orchestrator.errors import MusterError

log = logging.getLogger("muster.api")

STATUS: dict[type[MusterError], int] = {
    errors.NotFound: 404,
    errors.StaleLease: 409,
    errors.Conflict: 409,
    errors.Invalid: 422,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.TooMany: 429,
    errors.QueueFull: 429,
    errors.Unavailable: 503,
    errors.BackendError: 502,
    MusterError: 500,
}
STATUS_OF_CODE = {
    "gang_superseded": 410,
    "gang_gone": 410,
    "output_expired": 410,
    "purged": 410,
    "bad_json": 400,
    "bad_cursor": 400,
    "bad_event_id": 400,
    "too_large": 413,
    "too_many_items": 413,
    "unsupported_media_type": 415,
}
RETRYABLE = frozenset({408, 429, 502, 503, 504})
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """One problem document."""
    body = {
        "type": f"https://muster.dev/errors/{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        "errors": list(errors),
        "retryable": status in RETRYABLE,
    }
    return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")


def status_of(error: MusterError) -> int:
    """The status of the most specific class that is mapped; a few codes have their own."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def install(app: FastAPI) -> None:
    """Teach the app to answer every failure with a problem document."""
    app.add_exception_handler(MusterError, _on_muster_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_nobody_there)
    app.add_exception_handler(Exception, _on_defect)


def of(error: MusterError) -> JSONResponse:
    """The problem document of an error."""
    status = status_of(error)
    return problem(status, error.code, error.message, errors=_places(error), headers=_headers(status, error))


async def _on_muster_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, MusterError):
        raise error
    return of(error)


def _places(error: MusterError) -> Sequence[Mapping[str, Any]]:
    if isinstance(error, errors.Invalid) and error.listed:
        return error.listed
    if not error.pointer:
        return []
    what = error.message.removeprefix(error.pointer).removeprefix(":").lstrip()
    return [{"pointer": error.pointer, "code": error.code, "message": what}]


def _headers(status: int, error: MusterError) -> dict[str, str] | None:
    if isinstance(error, errors.TooMany):
        return {"Retry-After": str(math.ceil(error.retry_after_s))}
    return {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    named = _methods(request, literal=True)
    if named and request.method not in named:  # a parameter of another path took it
        return _no_such_method(named)
    if request.method != "PUT" and (odd := next((e for e in error.errors() if e["loc"][0] == "path"), None)):
        return _on_no_name(request, str(odd["loc"][-1]), str(odd.get("input", "")))
    asked = _model(request)
    listed = [
        {"pointer": _pointer(e["loc"]), "code": _field_code(e["type"]), "message": _said(e, asked)}
        for e in error.errors()[:50]
    ]
    first = listed[0] if listed else {"pointer": "", "message": "invalid"}
    return problem(422, "invalid_input", f"{first['pointer'] or 'the body'}: {first['message']}", errors=listed)


def _model(request: Request) -> type[BaseModel] | None:
    """What the route wants as its body."""
    field = getattr(request.scope.get("route"), "body_field", None)
    kind = field.field_info.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _said(error: Mapping[str, Any], kind: type[BaseModel] | None) -> str:
    if error["loc"][:1] != ("body",):
        return told(error)
    return told({**error, "loc": error["loc"][1:]}, kind) if len(error["loc"]) > 1 else told(error)


def _on_no_name(request: Request, parameter: str, given: str) -> JSONResponse:
    """A path that names what cannot be there: answered as if it could be and were not. A PUT would make it: 422."""
    if parameter == "name" and (of := request.path_params.get("request_id")):
        return problem(404, "not_found", f"request {of} has no output {given!r}")
    code, message = _UNKNOWN.get(parameter, ("not_found", "no {!r}"))
    return problem(404, code, message.format(given))


_UNKNOWN = {
    "request_id": ("not_found", "no request {!r}"),
    "gang": ("not_found", "no gang {!r}; `muster gang ls` shows what there is"),
    "batch_id": ("not_found", "no batch {!r}"),
    "custom_id": ("not_found", "no item {!r}"),
    "file_id": ("not_found", "no file {}"),
    "token_id": ("not_found", "no token {}"),
    "webhook_id": ("not_found", "no webhook {}"),
    "name": ("unknown_template", "no template {!r}; `muster template ls` shows what there is"),
}
"""What the store says of each, by the name of the path's parameter."""


def _pointer(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location if part != "body"]
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)


def _field_code(kind: str) -> str:
    return {"extra_forbidden": "unknown_field", "missing": "missing_field"}.get(kind, "invalid_value")


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.__cause__, MusterError):
        return of(error.__cause__)
    if error.status_code == 405:
        return _no_such_method(_methods(request, literal=True) or _methods(request, literal=False))
    code = _CODES.get(error.status_code, "http_error")
    return problem(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))


def _methods(request: Request, *, literal: bool) -> list[str]:
    """The methods of all routes of the path, with `literal` only of those that say it as it is."""
    path = request.scope["path"]
    if not hasattr(request.app.state, "paths"):
        routes = iter_route_contexts(request.app.routes)
        request.app.state.paths = [
            (one.path, compile_path(one.path)[0], one.methods or ()) for one in routes if one.path
        ]
    known: list[tuple[str, re.Pattern[str], Iterable[str]]] = request.app.state.paths
    fits = [methods for said, pattern, methods in known if (said == path if literal else pattern.match(path))]
    return sorted({method for methods in fits for method in methods})


def _no_such_method(allowed: Sequence[str]) -> JSONResponse:
    return problem(405, "method_not_allowed", f"there are {', '.join(allowed)}", headers={"Allow": ", ".join(allowed)})


async def _on_nobody_there(request: Request, error: Exception) -> Response:
    """The caller went away, or was sent away, before its body had come: nobody reads this."""
    return Response(status_code=400)


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    said = {"action": "defect", "method": request.method, "path": request.url.path}
    log.error("a defect in a call", extra=said, exc_info=error)
    return problem(500, "internal", "an internal error; it is in the service's log")
