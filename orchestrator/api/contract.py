"""What /openapi.json says of the operations, in one shape: a route declares its answers and codes, the rest is here.

    @router.post("", status_code=202, **operation("submit_request", "unknown_template", ok={202: Answer(…)}))

Codes that every guarded operation, every one with parameters or with a JSON body may answer are added by `complete`.
Declares only: nothing here runs while a call is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator.api.codes import CODES, EVERYWHERE, OF_THE_CONNECTION, WITH_JSON, WITH_PARAMETERS
from orchestrator.api.shapes import Problem

Json = dict[str, Any]
_REF = "#/components/schemas/{model}"
_CODES = "x-codes"
_PROBLEM = "application/problem+json"
_IS_PROBLEM = {"$ref": _REF.format(model="Problem")}
"""Plain: with the codes in it, generators make a type of their own for every answer."""

HEADERS: dict[str, Json] = {
    "Location": {"description": "where the new thing is", "schema": {"type": "string"}},
    "Retry-After": {"description": "seconds until another try makes sense", "schema": {"type": "integer"}},
    "ETag": {"description": "changes whenever the answer does", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "what of `Prefer` was followed", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true`: an earlier request with the same Idempotency-Key",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "WWW-Authenticate": {"description": "how to authenticate", "schema": {"type": "string"}},
    "Content-Range": {"description": "which bytes of how many", "schema": {"type": "string"}},
    "Accept-Ranges": {"description": "`bytes`", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "outputs are saved, never shown", "schema": {"type": "string"}},
    "X-Checksum-Sha256": {"description": "of the whole file, hexadecimal", "schema": {"type": "string"}},
}
_HEADERS_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer that is no problem. Its body is JSON by the model, or of one of `media`; or there is none."""

    means: str
    model: type[BaseModel] | None = None
    media: str | tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


Body = str | type[BaseModel]


def operation(name: str, *codes: str, ok: Mapping[int, Answer], body: Body | tuple[Body, ...] | None = None) -> Json:
    """Arguments of a route's decorator: a stable operationId, its good answers, the codes of its problems.

    `body` only where the route reads it by itself: a media type, or the model of the JSON, or several of them.
    """
    extra: Json = {_CODES: list(codes)}
    if body is not None:
        extra["requestBody"] = _body(body)
    return {
        "operation_id": name,
        "responses": {status: _answer(answer) for status, answer in ok.items()},
        "openapi_extra": extra,
    }


def _body(body: Body | tuple[Body, ...]) -> Json:
    content: Json = {}
    for one in body if isinstance(body, tuple) else (body,):
        if isinstance(one, str):
            content[one] = {"schema": {"type": "string", "format": "binary"}}
        else:
            content["application/json"] = {"schema": {"$ref": _REF.format(model=one.__name__)}}
    return {"required": content.keys() != {"application/octet-stream"}, "content": content}


def _answer(answer: Answer) -> Json:
    told: Json = {"description": answer.means}
    if answer.headers:
        told["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in answer.headers}
    if answer.model is not None:
        told["model"] = answer.model
    medias = (answer.media,) if isinstance(answer.media, str) else answer.media
    if medias:
        told["content"] = {media: {"schema": _bytes(media)} for media in medias}
    return told


def _bytes(media: str) -> Json:
    return {"type": "string"} if media.startswith("text/") else {"type": "string", "format": "binary"}


class Described(FastAPI):
    """An application whose /openapi.json is complete."""

    bodies: tuple[type[BaseModel], ...] = ()
    """Models of bodies that routes read by themselves."""

    def openapi(self) -> Json:
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), (Problem, *self.bodies))
        return self.openapi_schema


def complete(document: Json, models: Iterable[type[BaseModel]]) -> Json:
    """The document with problems, headers and the models that FastAPI does not see."""
    for path in document["paths"].values():
        for told in path.values():
            _complete(told)
    _, defined = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    components = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    schemas.update(defined["$defs"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["schemas"] = {name: _plain(schema) for name, schema in sorted(schemas.items())}
    components["headers"] = HEADERS
    return document


def _complete(told: Json) -> None:
    codes = [*told.pop(_CODES, ()), *OF_THE_CONNECTION]
    if told.get("security"):
        codes += EVERYWHERE
    if told.get("parameters"):
        codes += WITH_PARAMETERS
    if "application/json" in told.get("requestBody", {}).get("content", {}):
        codes += WITH_JSON
    answers = told["responses"]
    answers.pop("422", None)  # FastAPI's, which is never answered
    for status in sorted({CODES[code].status for code in codes}):
        answer = _problem(status, sorted({code for code in codes if CODES[code].status == status}))
        answers[str(status)] = _beside(answer, answers.get(str(status), {}))
    told["responses"] = dict(sorted(answers.items()))
    told["parameters"] = [_plain(parameter) for parameter in told.get("parameters", ())]


def _beside(answer: Json, declared: Json) -> Json:
    """A problem where the route itself declares another answer with this status."""
    content = declared.get("content", {}) | answer["content"]
    told = [part["description"] for part in (declared, answer) if "description" in part]
    return {**declared, **answer, "description": "; or ".join(told), "content": content}


def _problem(status: int, codes: list[str]) -> Json:
    told: Json = {
        "description": ", ".join(f"`{code}`" for code in codes),
        _CODES: codes,
        "content": {_PROBLEM: {"schema": _IS_PROBLEM, "examples": {code: {"value": example(code)} for code in codes}}},
    }
    if headers := _HEADERS_OF_STATUS.get(status):
        told["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return told


def example(code: str) -> Json:
    """A problem document with this code."""
    known = CODES[code]
    return {
        "type": f"https://muster.dev/errors/{code}",
        "title": code.replace("_", " "),
        "status": known.status,
        "code": code,
        "detail": known.says,
        "errors": [],
        "retryable": known.status in (408, 429, 502, 503, 504),
    }


def _plain(schema: Any) -> Any:
    """As people write it, and as generators of clients take it; what it allows stays the same."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    if "$ref" in plain and isinstance(plain.get("default"), dict):
        del plain["default"]  # its fields have theirs, and generators make no literals of objects
    kind = plain.get("type")
    if isinstance(kind, str) and kind in _FORMATS:
        plain.setdefault("format", _FORMATS[kind])
    return _nullable(_mapping(plain))


_FORMATS = {"integer": "int64", "number": "double"}
"""Without them generators take 32 bits: too few for bytes."""


def _mapping(schema: Json) -> Json:
    """A map whose names are bound by one pattern. Pydantic refuses other names, and does not say so."""
    match schema.get("patternProperties"):
        case {**patterns} if len(patterns) == 1:
            ((pattern, values),) = patterns.items()
            rest = {key: value for key, value in schema.items() if key != "patternProperties"}
            return {**rest, "propertyNames": {"pattern": pattern}, "additionalProperties": values}
    return schema


def _nullable(schema: Json) -> Json:
    """A type that may be null as a list of two types; anything at all as no condition."""
    around = {key: value for key, value in schema.items() if key != "anyOf"}
    match schema.get("anyOf"):
        case [{"type": str() as kind} as inner, {"type": "null"}] if not {"enum", "const"} & inner.keys():
            return {**around, **inner, "type": [kind, "null"]}
        case [anything, {"type": "null"}] if anything == {}:
            return around
    return schema
