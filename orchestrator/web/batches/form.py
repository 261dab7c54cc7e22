"""`/batches/new`: a file of lines, or lines that are typed, become a batch. The lines are looked at as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from orchestrator.api import intake
from orchestrator.api.batch_lines import MANIFEST_BYTES
from orchestrator.api.batch_shapes import BatchOrder
from orchestrator.api.body import as_model
from orchestrator.api.intake import Caller
from orchestrator.api.manifest import MOST_ITEMS
from orchestrator.api.parameters import is_key
from orchestrator.api.problems import problem, status_of
from orchestrator.domain.access import Permission
from orchestrator.domain.durations import parse_duration
from orchestrator.errors import Invalid, MusterError
from orchestrator.store import templates
from orchestrator.store.templates import spec_of
from orchestrator.web.filling import form_values, order_form
from orchestrator.web.filling.schema_fields import Field, Kind, Layout, layout
from orchestrator.web.frame.rendering import page
from orchestrator.web.frame.visiting import Guest, Here

router = APIRouter()

_NUMBERS = ("max_parallel", "priority")


@router.get("/batches/new")
async def ask(
    request: Request, here: Here, visitor: Guest, template: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    visitor.allow(Permission.SUBMIT)
    pools = await here.look(lambda tx: templates.list_current(tx, visitor.tenant))
    examples = {pool.template: example(layout(spec_of(pool)["input"])) for pool in pools}
    return page(
        request,
        "batch_new.html",
        visitor,
        examples=examples,
        chosen=template if template in examples else next(iter(examples), ""),
        key=str(uuid4()),
        most_bytes=MANIFEST_BYTES,
        most_items=MOST_ITEMS,
    )


@router.post("/batches/new")
async def send(request: Request, here: Here, visitor: Guest) -> Response:
    """The body is the lines, the query the terms. Answers `batch_form.js`: where the batch is, or what is wrong."""
    parts = request.stream()
    try:
        identity = visitor.allow(Permission.SUBMIT)
        await here.admission.check_rate(identity.tenant)
        asked = dict(request.query_params)
        caller = Caller(tenant=identity.tenant, key=_key(asked.pop("key", "")))
        taken = await intake.take_lines(here, caller, _order(asked), parts)
    except MusterError as error:
        await _hear_out(parts)
        return _refused(error)
    except ClientDisconnect:
        return JSONResponse({}, status_code=400)  # nobody reads it
    return JSONResponse({"id": taken.batch_id}, status_code=201)


async def _hear_out(parts: AsyncIterator[bytes]) -> None:
    """A browser that is still sending reads no answer: it says that the connection broke."""
    left = MANIFEST_BYTES
    with suppress(ClientDisconnect):
        async for part in parts:
            left -= len(part)
            if left < 0:
                return


def _refused(error: MusterError) -> Response:
    listed = error.listed if isinstance(error, Invalid) else ()
    if not listed and error.pointer:
        listed = [{"pointer": error.pointer, "code": error.code, "message": error.message}]
    return problem(422 if listed else status_of(error), error.code, error.message, errors=listed)


def _key(said: str) -> str:
    """The Idempotency-Key. Raises Invalid."""
    key = said.strip() or str(uuid4())
    if not is_key(key):
        raise Invalid("/key: one to 255 printable characters without blanks", pointer="/key")
    return key


def _order(asked: Mapping[str, str]) -> BatchOrder:
    """Raises Invalid with a pointer to what cannot be read."""
    return as_model(BatchOrder, {name: _term(name, text.strip()) for name, text in asked.items() if text.strip()})


def _term(name: str, text: str) -> Any:
    try:
        match name:
            case "labels":
                return order_form.labels(text)
            case "expire_after_s":
                return parse_duration(text).total_seconds()
            case "max_parallel" | "priority":
                return int(text)
    except ValueError as error:
        said = str(error) if name not in _NUMBERS else "write a whole number"
        raise Invalid(f"/{name}: {said}", pointer=f"/{name}") from None
    return text


def example(shape: Layout) -> str:
    """Two lines that fit, or nearly: what must be given, with a value of its type."""
    values = {one.key: _some(one) for one in shape.fields if one.pointer and (one.required or not _optional(shape))}
    lines = [{"custom_id": f"item-{number}", "input": values} for number in (1, 2)]
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)


def _optional(shape: Layout) -> bool:
    return any(one.required for one in shape.fields)


def _some(one: Field) -> Any:
    if "default" in one.schema:
        return one.schema["default"]
    if one.choices:
        return json.loads(one.choices[0].value)
    match one.kind:
        case Kind.WHOLE | Kind.NUMBER:
            return one.schema.get("minimum", 1)
        case Kind.SWITCH:
            return False
        case Kind.LIST | Kind.CHOICES:
            return []
        case Kind.GROUP:
            found = form_values.defaults(Layout(fields=one.fields, more=None))
            return found | {inner.key: _some(inner) for inner in one.fields if inner.required}
        case Kind.JSON:
            return {}
    return "…"
