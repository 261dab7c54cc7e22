"""`/templates/{name}/submit`: a request by form, checked as it is filled, and sent once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import uuid4

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response

from orchestrator.api import input_files, looking, requests, validating
from orchestrator.api.input_schema import limiter
from orchestrator.api.office import Office, Product
from orchestrator.api.parameters import Preference, is_key
from orchestrator.api.submission import Claim
from orchestrator.domain.access import Permission
from orchestrator.domain.ids import new_id
from orchestrator.domain.template import NAME
from orchestrator.errors import Conflict, Invalid, MusterError, NotFound, TooMany, Unavailable
from orchestrator.store.database import Record, Tx
from orchestrator.store.templates import spec_of
from orchestrator.web.filling import equals, form_values, order_form
from orchestrator.web.filling.form_values import Typed
from orchestrator.web.filling.order_form import MODES, Draft
from orchestrator.web.filling.schema_fields import Kind, layout
from orchestrator.web.frame.answers import went
from orchestrator.web.frame.forms import pairs
from orchestrator.web.frame.rendering import origin_of, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor

router = APIRouter()

Name = Annotated[str, Path(pattern=NAME)]
SENT_BEFORE = "This form was sent before, with other values. Send it once more for another request."


@router.get("/templates/{name}/submit")
async def ask(
    request: Request,
    name: Name,
    here: Here,
    visitor: Guest,
    source: Annotated[str | None, Query(alias="from", pattern=r"^req_[0-9a-z]{26}$")] = None,
) -> Response:
    visitor.allow(Permission.SUBMIT)
    product = await here.product(visitor.tenant, name)
    cloned = None if source is None else await looking.shown(here, visitor.tenant, source)
    typed, left_out = _first_typed(product, cloned)
    made = await _draft(product, typed)
    return await _form(request, here, visitor, product, made, status=200, cloned=cloned, left_out=left_out)


@router.post("/templates/{name}/submit")
async def send(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    """To the new request; or the form again, as it was, with what is wrong."""
    identity = visitor.allow(Permission.SUBMIT)
    typed = form_values.typed_of(await pairs(request))
    product = await here.product(visitor.tenant, name)
    made = await _draft(product, typed)
    key = _key(typed)
    if key is None:
        made.wrong["own_key"] = "One to 255 printable characters without blanks."
    if made.wrong:
        return await _form(request, here, visitor, product, made, key=key)
    claim = Claim(request_id=new_id("req"), key=key)
    try:
        answer = await requests.accepted(here, identity, made.body, claim, Preference())
    except Invalid as error:
        key = _refused(made, error, key)
    except (NotFound, Conflict, TooMany, Unavailable) as error:
        made.wrong[""] = error.message
    else:
        return went(request, answer.headers["location"].removeprefix("/v1"))
    return await _form(request, here, visitor, product, made, key=key)


@router.post("/templates/{name}/check")
async def check(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    """What a submit of these values would do now, and what they equal elsewhere."""
    visitor.allow(Permission.SUBMIT)
    typed = form_values.typed_of(await pairs(request))
    product = await here.product(visitor.tenant, name)
    made = await _draft(product, typed)
    return page(request, "submit_check.html", visitor, **await _foresight(request, here, visitor, product, made))


def _refused(made: Draft, error: Invalid, key: str | None) -> str | None:
    """Say so beside the field; the key of the form from now on."""
    if error.code != "idempotency_key_reused":
        made.mark(error)
        return key
    own = bool("".join(made.typed.get("own_key", ())).strip())
    made.wrong["own_key" if own else ""] = error.message if own else SENT_BEFORE
    return None


def _first_typed(product: Product, cloned: Mapping[str, Any] | None) -> tuple[Typed, list[str]]:
    """What the fields show at first, and which values of the request that is cloned have no place any more."""
    schema = _schema(product)
    shape = layout(schema)
    if cloned is None:
        return form_values.written(shape, form_values.defaults(shape)), []
    values = cloned["input"]
    shape = layout(schema, as_json=form_values.beyond(shape.fields, values))
    left_out = [] if shape.more is not None else sorted(form_values.unnamed(shape, values))
    tries = cloned["max_attempts"] if cloned["max_attempts"] < product.template.retry.max_attempts else None
    terms = order_form.typed_terms(
        mode=cloned["mode"], priority=cloned["priority"], labels=cloned["labels"], max_attempts=tries
    )
    return {**form_values.written(shape, values), **terms}, left_out


async def _draft(product: Product, typed: Typed) -> Draft:
    return await anyio.to_thread.run_sync(
        order_form.draft, product.template.name, _schema(product), product.form, typed, limiter=limiter()
    )


def _schema(product: Product) -> Mapping[str, Any]:
    """In the order of its author."""
    schema: dict[str, Any] = spec_of(product.pool)["input"]
    return schema


def _key(typed: Typed) -> str | None:
    """The Idempotency-Key: the visitor's own, or that of the page. None: it is none."""
    own, of_page = (next(iter(typed.get(name, ())), "").strip() for name in ("own_key", "key"))
    key = own or of_page or str(uuid4())
    return key if is_key(key) else None


async def _form(
    request: Request,
    here: Office,
    visitor: Visitor,
    product: Product,
    made: Draft,
    *,
    status: int = 422,
    key: str | None = None,
    cloned: Mapping[str, Any] | None = None,
    left_out: list[str] | None = None,
) -> Response:
    """As it was filled; at first nobody is told what is wrong."""
    shown_wrong = made.wrong if status == 422 else {}
    return page(
        request,
        "submit.html",
        visitor,
        status=status,
        template=product.template,
        version=product.pool.version,
        layout=made.layout,
        typed=made.typed,
        wrong=shown_wrong,
        files=await here.look(lambda tx: _files(tx, visitor.tenant, made)),
        most_bytes=here.settings.max_upload_bytes,
        key=key or str(uuid4()),
        modes=MODES,
        cloned=cloned,
        left_out=left_out or [],
        **await _foresight(request, here, visitor, product, made),
    )


def _files(tx: Tx, tenant: str, made: Draft) -> dict[str, Record | None]:
    """What is known of the files that stand in the fields; None: there is none of that name."""
    named = [one for one in made.layout if one.kind is Kind.FILE and made.said["input"].get(one.key)]
    return {one.name: _file(tx, tenant, one.key, made.said["input"][one.key]) for one in named}


def _file(tx: Tx, tenant: str, key: str, value: str) -> Any:
    try:
        return input_files.find(tx, tenant, [key], {key: value}, input_files.LOOK)[key]
    except Invalid:
        return None


async def _foresight(request: Request, here: Office, visitor: Visitor, product: Product, made: Draft) -> dict[str, Any]:
    """Which path the request would take, or why it would take none yet; and the same elsewhere."""
    path, why = None, ""
    if not made.wrong:
        try:
            path = await validating.validate(made.body, here, visitor.identity)
        except MusterError as error:
            why = error.message
    return {
        "path": path,
        "why": why,
        "lacking": len(made.wrong),
        "equal": equals.of_request(made.said, _schema(product), url=origin_of(request)),
    }
