"""`/templates`: what can be run, what each takes, and for those who may manage it: another version, or none."""

from __future__ import annotations

import json
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Request, Response
from markupsafe import Markup

from orchestrator.api import catalog
from orchestrator.api.body import parse
from orchestrator.api.input_schema import limiter
from orchestrator.api.office import Office
from orchestrator.domain import plain_yaml
from orchestrator.domain.access import Permission
from orchestrator.domain.template import NAME, SCRIPT_HANDLER, Template
from orchestrator.errors import Invalid, MusterError
from orchestrator.store import pools, templates
from orchestrator.store.database import Record, Tx
from orchestrator.web.catalog import schema_table
from orchestrator.web.frame.answers import went
from orchestrator.web.frame.forms import fields
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import base_of, fragment, origin_of, page
from orchestrator.web.frame.visiting import Guest, Here, Visitor

router = APIRouter()

Name = Annotated[str, Path(pattern=NAME)]
VERSIONS_SHOWN = 20
LOOK_EVERY_S = 3.0
LONGEST_YAML = 256 << 10
BLANK = """\
name: my-model
description: What it does, in a sentence.
handler: my_package.my_model:MyModel   # module:Class; or `script:` for one that stays as it is (docs/script.md)
nodes: 1
ranks_per_node: 2
input:
  type: object
  additionalProperties: false
  required: [prompt]
  properties:
    prompt: {type: string, minLength: 1, maxLength: 4000, title: What to make}
pool: {min: 0, max: 1, idle_timeout_s: 600}
"""


@router.get("/templates")
async def shelf(request: Request, here: Here, visitor: Guest) -> Response:
    return page(request, "templates.html", visitor, board=await _shelf(here, visitor, base_of(request)))


@router.get("/live/templates")
async def live_shelf(request: Request, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    base = base_of(request)

    async def render() -> Markup:
        return await _shelf(here, visitor, base)

    return boards.stream(request, visitor, "templates", render, every_s=LOOK_EVERY_S)


async def _shelf(here: Office, visitor: Visitor, base: str) -> Markup:
    def work(tx: Tx) -> Any:
        return pools.list_current(tx, visitor.tenant), templates.last_used(tx, visitor.tenant)

    rows, used = await here.look(work)
    cards = [(row, here.template(row), used.get(row.template)) for row in rows]
    return fragment(base, visitor, "templates_shelf.html", cards=cards)


@router.get("/templates/-/new")
async def new(request: Request, visitor: Guest) -> Response:
    visitor.allow(Permission.MANAGE)
    return _editor(request, visitor, None, BLANK)


@router.post("/templates/-/new")
async def register(request: Request, here: Here, visitor: Guest) -> Response:
    return await _save(request, here, visitor, None)


@router.get("/templates/{name}")
async def show(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    def work(tx: Tx) -> Any:
        return templates.current_pool(tx, visitor.tenant, name), templates.versions(
            tx, visitor.tenant, name, VERSIONS_SHOWN
        )

    pool, versions = await here.look(work)
    template = _as_written(pool)
    return page(
        request,
        "template.html",
        visitor,
        template=template,
        pool=pool,
        board=await _pool(here, visitor, base_of(request), name),
        rows=schema_table.rows(template.input),
        yaml=document(template),
        versions=_changes(versions),
        origin=origin_of(request),
    )


@router.get("/live/templates/{name}")
async def live_pool(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    boards: Boards = request.app.state.boards
    base = base_of(request)

    async def render() -> Markup:
        return await _pool(here, visitor, base, name)

    return boards.stream(request, visitor, ("template", name), render, every_s=LOOK_EVERY_S)


async def _pool(here: Office, visitor: Visitor, base: str, name: str) -> Markup:
    row = await here.look(lambda tx: pools.get(tx, templates.current_pool(tx, visitor.tenant, name).id))
    return fragment(base, visitor, "template_pool.html", pool=row)


@router.get("/templates/{name}/edit")
async def edit(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    visitor.allow(Permission.MANAGE)
    pool = await here.look(lambda tx: templates.current_pool(tx, visitor.tenant, name))
    return _editor(request, visitor, name, document(_as_written(pool)))


@router.post("/templates/{name}/edit")
async def save(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    return await _save(request, here, visitor, name)


@router.post("/templates/{name}/delete")
async def delete(request: Request, name: Name, here: Here, visitor: Guest) -> Response:
    await catalog.delete_template(name, here, visitor.allow(Permission.MANAGE))
    return went(request, "/templates")


async def _save(request: Request, here: Office, visitor: Visitor, name: str | None) -> Response:
    identity = visitor.allow(Permission.MANAGE)
    text = (await fields(request)).get("yaml", "").replace("\r\n", "\n")
    try:
        told = await anyio.to_thread.run_sync(_read, text, limiter=limiter())
        stored = await catalog.put_template(name or str(told.get("name", "")), told, here, identity)
    except MusterError as error:
        return _editor(request, visitor, name, text, _mistakes(error))
    return went(request, f"/templates/{stored['name']}")


def _read(text: str) -> dict[str, Any]:
    """Raises Invalid. Takes up to a second for a hostile text."""
    if len(text) > LONGEST_YAML:
        raise Invalid(f"a form takes {LONGEST_YAML >> 10} KiB of YAML: register it with the API", code="too_large")
    try:
        told = plain_yaml.read(text)
    except ValueError as error:
        raise Invalid(f"this is no YAML that is taken: {error}", code="invalid_template") from None
    if not isinstance(told, dict) or not all(isinstance(key, str) for key in told):
        raise Invalid("a template is a mapping with name, handler and so on", code="invalid_template")
    sent: dict[str, Any] = parse(json.dumps(told).encode(), "the template")  # YAML can say more than the API takes
    return sent


def _mistakes(error: MusterError) -> list[dict[str, str]]:
    """With a pointer each, empty where none is known."""
    if isinstance(error, Invalid) and error.listed:
        return [dict(one) for one in error.listed]
    pointer = error.pointer or ""
    return [{"pointer": pointer, "message": error.message.removeprefix(pointer).removeprefix(":").strip()}]


def _editor(
    request: Request, visitor: Visitor, name: str | None, text: str, mistakes: list[dict[str, str]] | None = None
) -> Response:
    status = 422 if mistakes else 200
    values = {"of": name, "text": text, "mistakes": mistakes or []}
    return page(request, "template_editor.html", visitor, status=status, **values)


def document(template: Template) -> str:
    """As YAML that registers it: what is as always is not said."""
    told = template.model_dump(mode="json", exclude_defaults=True)
    if told.get("handler") == SCRIPT_HANDLER:
        del told["handler"]
    first: dict[str, Any] = {name: told[name] for name in ("name", "description") if name in told}
    return plain_yaml.write({**first, **told})


def _as_written(pool: Record) -> Template:
    return Template.model_validate(templates.spec_of(pool))


def _changes(versions: list[Record]) -> list[dict[str, Any]]:
    """Each version with the parts in which it differs from the one before."""
    before = [one.spec for one in versions[1:]]
    shown = []
    for number, one in enumerate(versions):
        older = before[number] if number < len(before) else None
        parts = None if older is None else sorted(_differing(one.spec, older))
        shown.append({"version": one.version, "created_at": one.created_at, "parts": parts})
    return shown


def _differing(new: dict[str, Any], old: dict[str, Any]) -> set[str]:
    return {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
