"""A schedule by form: made, or changed from now on; what it would do is shown while it is typed."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from orchestrator.api import schedules as api
from orchestrator.api.input_schema import limiter
from orchestrator.api.office import Office, Product
from orchestrator.api.schedules import Ref
from orchestrator.domain.access import Permission
from orchestrator.domain.schedules import Policy
from orchestrator.domain.template import NAME
from orchestrator.errors import Conflict, Invalid, MusterError, NotFound
from orchestrator.store import fleet, schedules
from orchestrator.store.database import Record
from orchestrator.web.filling import form_values, order_form
from orchestrator.web.filling.form_values import Typed
from orchestrator.web.filling.order_form import MODES
from orchestrator.web.filling.schema_fields import layout
from orchestrator.web.frame.answers import went
from orchestrator.web.frame.forms import pairs
from orchestrator.web.frame.rendering import page
from orchestrator.web.frame.visiting import Guest, Here, Visitor
from orchestrator.web.schedules import form as schedule_form
from orchestrator.web.schedules import rules
from orchestrator.web.schedules.form import FIRST, MISFIRE, OVERLAP, Planned, one

router = APIRouter()

Template = Annotated[str | None, Query(pattern=NAME)]


@router.get("/schedules/_new")
async def ask(request: Request, here: Here, visitor: Guest, template: Template = None) -> Response:
    """`_`: no schedule can be called so."""
    visitor.allow(Permission.STEER)
    typed = {**FIRST, **({"template": [template]} if template else {})}
    product = await _product(here, visitor, typed)
    first = {**_first_input(product, {}), **typed} if product else typed
    made = await _read(first, product)
    made.wrong.clear()
    return await _form(request, here, visitor, made, status=200)


@router.post("/schedules/_new")
async def make(request: Request, here: Here, visitor: Guest) -> Response:
    identity = visitor.allow(Permission.STEER)
    made = await _sent(request, here, visitor)
    if not made.wrong:
        try:
            await api.create(made.made, here, identity)
        except Invalid as error:
            made.mark(error)
        except Conflict as error:
            made.wrong["name" if error.code == "schedule_exists" else ""] = error.message
        except NotFound as error:
            made.wrong["template"] = error.message
        else:
            return went(request, f"/schedules/{made.said['name']}")
    return await _form(request, here, visitor, made)


@router.get("/schedules/{schedule}/edit")
async def look(request: Request, schedule: Ref, here: Here, visitor: Guest) -> Response:
    visitor.allow(Permission.STEER)
    row = await here.look(lambda tx: schedules.get(tx, visitor.tenant, schedule))
    typed = schedule_form.typed_of(row.name, row.policy, row.runs)
    product = await _product(here, visitor, typed)
    if product is not None and "request" in row.runs:
        typed = {**_first_input(product, row.runs["request"].get("input", {})), **typed}
    made = await _read(typed, product)
    made.wrong.clear()
    return await _form(request, here, visitor, made, status=200, of=row)


@router.post("/schedules/{schedule}/edit")
async def change(request: Request, schedule: Ref, here: Here, visitor: Guest) -> Response:
    identity = visitor.allow(Permission.STEER)
    row = await here.look(lambda tx: schedules.get(tx, visitor.tenant, schedule))
    made = await _sent(request, here, visitor)
    if not made.wrong:
        try:
            await api.change(row.id, made.change(row.runs), here, identity)
        except Invalid as error:
            made.mark(error)
        except NotFound as error:
            made.wrong["template"] = error.message
        else:
            return went(request, f"/schedules/{row.id}")
    return await _form(request, here, visitor, made, of=row)


@router.post("/schedules/_preview")
async def preview(request: Request, here: Here, visitor: Guest) -> Response:
    """What the rule means, and when it would fire."""
    visitor.allow(Permission.STEER)
    typed = form_values.typed_of(await pairs(request))
    return page(request, "schedules_preview.html", visitor, **await _foresight(here, typed))


@router.post("/schedules/_runs")
async def runs(request: Request, here: Here, visitor: Guest) -> Response:
    """The fields of what was chosen to run."""
    visitor.allow(Permission.STEER)
    typed: Typed = form_values.typed_of(await pairs(request))
    product = await _product(here, visitor, typed)
    if product is not None:
        typed = {**_first_input(product, {}), **typed}
    made = await _read(typed, product)
    made.wrong.clear()
    return page(request, "schedules_runs.html", visitor, **await _values(here, visitor, made))


# ---------------------------------------------------------------------------------------------------------------- steps


async def _sent(request: Request, here: Office, visitor: Visitor) -> Planned:
    typed = form_values.typed_of(await pairs(request))
    return await _read(typed, await _product(here, visitor, typed))


async def _product(here: Office, visitor: Visitor, typed: Typed) -> Product | None:
    """Of the template that is chosen, if it is there."""
    name = one(typed, "template")
    try:
        return await here.product(visitor.tenant, name) if name else None
    except NotFound:
        return None


async def _read(typed: Typed, product: Product | None) -> Planned:
    order = None
    if product is not None and one(typed, "kind") != "batch":
        template = product.template
        order = await anyio.to_thread.run_sync(
            order_form.draft, template.name, template.input, product.form, typed, limiter=limiter()
        )
    return schedule_form.planned(typed, order)


def _first_input(product: Product, values: dict[str, Any]) -> dict[str, list[str]]:
    """The fields of the input with these values, or with the defaults of the schema."""
    shape = layout(product.template.input)
    if not values:
        return form_values.written(shape, form_values.defaults(shape))
    shape = layout(product.template.input, as_json=form_values.beyond(shape.fields, values))
    return form_values.written(shape, values)


async def _form(
    request: Request, here: Office, visitor: Visitor, made: Planned, *, status: int = 422, of: Record | None = None
) -> Response:
    """`of`: the schedule that is changed."""
    return page(
        request,
        "schedules_form.html",
        visitor,
        status=status,
        of=of,
        overlap=OVERLAP,
        misfire=MISFIRE,
        zones=rules.zones(),
        **await _values(here, visitor, made),
        **await _foresight(here, made.typed),
    )


async def _values(here: Office, visitor: Visitor, made: Planned) -> dict[str, Any]:
    names = await here.look(lambda tx: fleet.names(tx, visitor.tenant))
    return {
        "typed": made.typed,
        "wrong": made.wrong,
        "kind": one(made.typed, "kind") or "request",
        "chosen": one(made.typed, "template"),
        "names": names,
        "layout": made.order.layout if made.order else None,
        "modes": MODES,
        "most_bytes": here.settings.max_upload_bytes,
    }


async def _foresight(here: Office, typed: Typed) -> dict[str, Any]:
    """The next ticks of the rule that is typed, or what is wrong with it."""
    said = {name: one(typed, name) for name in ("cron", "timezone", "start_at", "end_at") if one(typed, name)}
    now = await here.look(schedules.now)
    try:
        policy = Policy.model_validate(said)
        ticks = rules.upcoming(policy, now)
    except MusterError as error:
        return {"ticks": [], "words": None, "problem": error.message, "zone": said.get("timezone", "UTC")}
    except ValueError:
        return {"ticks": [], "words": None, "problem": "This is no rule yet.", "zone": said.get("timezone", "UTC")}
    problem = None if ticks else "It never fires between its start and its end."
    return {"ticks": ticks, "words": rules.in_words(policy.cron), "problem": problem, "zone": policy.timezone}
