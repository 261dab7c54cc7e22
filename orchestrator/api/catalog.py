"""/v1/templates, /v1/pools and /v1/gangs: what can be run, how many gangs are kept for it, and which there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse
from pydantic import Field

from orchestrator.api import catalog_shapes as shapes
from orchestrator.api import input_schema, loglines, views
from orchestrator.api.auth import GuardedRoute, Here, Manager, Reader
from orchestrator.api.contract import Answer, operation
from orchestrator.api.office import Office
from orchestrator.domain import site_policy
from orchestrator.domain.states import GangState, Reason
from orchestrator.domain.strict import Sent
from orchestrator.domain.template import NAME, Template, read
from orchestrator.errors import Invalid
from orchestrator.settings import Settings
from orchestrator.store import gang_looks, gangs, logs, pools, templates
from orchestrator.store.database import Record, Tx

router = APIRouter(prefix="/v1", route_class=GuardedRoute)

Name = Annotated[str, Path(pattern=NAME, description="template name")]
GangRef = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,63}$", description="gang ID or name")]


# ------------------------------------------------------------------------------------------------------ templates


@router.put(
    "/templates/{name}",
    tags=["templates"],
    summary="Register a template",
    **operation(
        "put_template",
        "invalid_template",
        ok={200: Answer(means="the version that holds now", model=shapes.Template)},
        body=shapes.TemplateDraft,
    ),
)
async def put_template(name: Name, body: dict[str, Any], here: Here, identity: Manager) -> Any:
    """The same content again is the same version; other content is a new version, and gangs of the old one drain."""
    told = {**body, "name": body.get("name", name)}
    template = await anyio.to_thread.run_sync(read_template, told)  # a large schema takes a second
    if template.name != name:
        raise Invalid(f"the template calls itself {template.name!r}, the path says {name!r}", pointer="/name")
    _check_image(template, here.settings)
    site_policy.check(template, here.settings.image_registries, by_digest=here.settings.image_digests)
    await anyio.to_thread.run_sync(here.rehearse, identity.tenant, template)
    pool = await here.transact(lambda tx: templates.apply(tx, identity.tenant, template))
    here.learn(identity.tenant, pool)
    here.ring("plan")
    return views.template(pool)


def read_template(body: dict[str, Any]) -> Template:
    """A checked template. Raises Invalid with a pointer."""
    template = read(body)
    input_schema.check(template.input)
    if template.warmup is not None:
        _check_warmup(template.input, template.warmup.input)
    return template


def _check_image(template: Template, settings: Settings) -> None:
    """Here and not when its first gang is refused."""
    if settings.backend == "kubeflow" and not (template.image or settings.image):
        why = "/image: gangs are pods here and need an image: name it, or have the operator set MUSTER_IMAGE"
        raise Invalid(why, code="invalid_template", pointer="/image")


def _check_warmup(schema: dict[str, Any], values: dict[str, Any]) -> None:
    try:
        form = input_schema.Form(schema)
        if named := sorted(form.files & {name for name, value in form.fit(values).items() if value is not None}):
            raise Invalid(f"/input/{named[0]}: a warm-up can name no file", pointer=f"/input/{named[0]}")
    except Invalid as error:
        raise Invalid(f"/warmup{error.message}", code="invalid_template", pointer=f"/warmup{error.pointer}") from None


@router.get(
    "/templates",
    tags=["templates"],
    summary="List templates",
    **operation("list_templates", ok={200: Answer(means="by name", model=shapes.TemplatePage)}),
)
async def list_templates(here: Here, identity: Reader) -> Any:
    rows = await here.transact(lambda tx: templates.list_current(tx, identity.tenant))
    return {"data": [views.template(row) for row in rows], "has_more": False, "next_cursor": None}


@router.get(
    "/templates/{name}",
    tags=["templates"],
    summary="One template",
    **operation(
        "get_template", "unknown_template", ok={200: Answer(means="its current version", model=shapes.Template)}
    ),
)
async def get_template(name: Name, here: Here, identity: Reader) -> Any:
    return views.template(await here.transact(lambda tx: templates.current_pool(tx, identity.tenant, name)))


@router.delete(
    "/templates/{name}",
    tags=["templates"],
    status_code=204,
    summary="Take a template out of service",
    **operation(
        "delete_template", "unknown_template", "template_in_use", ok={204: Answer(means="its gangs are let go")}
    ),
)
async def delete_template(name: Name, here: Here, identity: Manager) -> None:
    await here.transact(lambda tx: templates.delete(tx, identity.tenant, name))
    here.forget(identity.tenant, name)
    here.ring("plan")


# ---------------------------------------------------------------------------------------------------------- pools


class PoolChange(Sent):
    """What is not named stays as it is."""

    min: int | None = Field(default=None, ge=0, le=1000)
    max: int | None = Field(default=None, ge=0, le=1000)
    idle_timeout_s: float | None = Field(default=None, gt=0, le=31 * 86400)


@router.get(
    "/pools",
    tags=["pools"],
    summary="List pools",
    **operation("list_pools", ok={200: Answer(means="by template", model=shapes.PoolPage)}),
)
async def list_pools(here: Here, identity: Reader) -> Any:
    rows = await here.transact(lambda tx: pools.list_current(tx, identity.tenant))
    return {"data": [views.pool(row, row.gangs, row.queued) for row in rows], "has_more": False, "next_cursor": None}


@router.get(
    "/pools/{name}",
    tags=["pools"],
    summary="One pool",
    **operation("get_pool", "unknown_template", ok={200: Answer(means="as it is now", model=shapes.Pool)}),
)
async def get_pool(name: Name, here: Here, identity: Reader) -> Any:
    def work(tx: Tx) -> Any:
        return pools.get(tx, templates.current_pool(tx, identity.tenant, name).id)

    row = await here.transact(work)
    return views.pool(row, row.gangs, row.queued)


@router.patch(
    "/pools/{name}",
    tags=["pools"],
    summary="Change how many warm gangs are kept",
    **operation("change_pool", "unknown_template", ok={200: Answer(means="changed", model=shapes.Pool)}),
)
async def patch_pool(name: Name, body: PoolChange, here: Here, identity: Manager) -> Any:
    def work(tx: Tx) -> Any:
        changed = templates.set_policy(
            tx,
            identity.tenant,
            name,
            min_gangs=body.min,
            max_gangs=body.max,
            idle_timeout_s=body.idle_timeout_s,
        )
        return changed, pools.get(tx, changed.id)

    changed, row = await here.transact(work)
    here.learn(identity.tenant, changed)
    here.ring("plan")
    return views.pool(row, row.gangs, row.queued)


@router.post(
    "/pools/{name}/drain",
    tags=["pools"],
    summary="Empty a pool",
    **operation("drain_pool", "unknown_template", ok={200: Answer(means="the gangs that go", model=shapes.GangPage)}),
)
async def drain_pool(name: Name, here: Here, identity: Manager) -> Any:
    """Minimum and maximum are 0 from then on: no gang is launched, those that live finish what they have.

    What waits gets gangs of its own, or fails if it asked for a warm one.
    """

    def work(tx: Tx) -> Any:
        changed = templates.set_policy(tx, identity.tenant, name, min_gangs=0, max_gangs=0, idle_timeout_s=None)
        return changed, _let_go(tx, identity.tenant, name)

    changed, rows = await here.transact(work)
    here.learn(identity.tenant, changed)
    return _leaving(here, rows)


@router.post(
    "/pools/{name}/recycle",
    tags=["pools"],
    summary="Replace the gangs of a pool",
    **operation("recycle_pool", "unknown_template", ok={200: Answer(means="the gangs that go", model=shapes.GangPage)}),
)
async def recycle_pool(name: Name, here: Here, identity: Manager) -> Any:
    """Each finishes what it has and goes; new ones come as the minimum and what waits want them."""

    def work(tx: Tx) -> Any:
        templates.current_pool(tx, identity.tenant, name)
        return _let_go(tx, identity.tenant, name)

    return _leaving(here, await here.transact(work))


def _let_go(tx: Tx, tenant: str, template: str) -> Sequence[Record]:
    """The serve gangs of a template after they were told to go."""
    for row in gang_looks.serving(tx, tenant, template):
        gangs.drain(tx, row.id, Reason.DRAINED, "drained by a person")
    return gang_looks.serving(tx, tenant, template)


def _leaving(here: Office, rows: Sequence[Record]) -> dict[str, Any]:
    here.wake(gangs=[row.id for row in rows])
    here.ring("plan")
    return {"data": [views.gang(row) for row in rows], "has_more": False, "next_cursor": None}


# ---------------------------------------------------------------------------------------------------------- gangs


@router.get(
    "/gangs",
    tags=["gangs"],
    summary="List gangs, newest first",
    **operation("list_gangs", ok={200: Answer(means="at most 200", model=shapes.GangPage)}),
)
async def list_gangs(
    here: Here,
    identity: Reader,
    state: Annotated[str | None, Query(max_length=100, description="comma separated; `gone` shows ended ones")] = None,
) -> Any:
    asked = set(state.split(",")) if state else None
    rows = await here.transact(
        lambda tx: gang_looks.list_all(tx, identity.tenant, gone=bool(asked and "gone" in asked))
    )
    shown = [views.gang(row) for row in rows]
    return {
        "data": [gang for gang in shown if asked is None or gang["state"] in asked],
        "has_more": False,
        "next_cursor": None,
    }


@router.get(
    "/gangs/{gang}",
    tags=["gangs"],
    summary="One gang",
    **operation("get_gang", "not_found", ok={200: Answer(means="as it is now", model=shapes.Gang)}),
)
async def get_gang(gang: GangRef, here: Here, identity: Reader) -> Any:
    return views.gang(await here.transact(lambda tx: gang_looks.get(tx, identity.tenant, gang)))


@router.post(
    "/gangs/{gang}/drain",
    tags=["gangs"],
    summary="Let a gang finish and go",
    **operation("drain_gang", "not_found", ok={200: Answer(means="it takes no new work", model=shapes.Gang)}),
)
async def drain_gang(gang: GangRef, here: Here, identity: Manager) -> Any:
    def work(tx: Tx) -> Any:
        row = gang_looks.get(tx, identity.tenant, gang)
        if row.state not in (GangState.GONE, GangState.DRAINING):
            gangs.drain(tx, row.id, Reason.DRAINED, "drained by a person")
        return gang_looks.get(tx, identity.tenant, gang)

    row = await here.transact(work)
    here.wake(gangs=[row.id])
    here.ring("plan")
    return views.gang(row)


@router.get(
    "/gangs/{gang}/logs",
    tags=["gangs"],
    summary="What its ranks wrote",
    response_class=PlainTextResponse,
    **operation("read_gang_logs", "not_found", ok={200: Answer(means="lines of text", media="text/plain")}),
)
async def gang_logs(
    gang: GangRef,
    here: Here,
    identity: Reader,
    rank: Annotated[str, Query(pattern=r"^(all|\d{1,5}(,\d{1,5}){0,63})$")] = "0",
    tail: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> PlainTextResponse:
    def work(tx: Tx) -> Any:
        row = gang_looks.get(tx, identity.tenant, gang)
        return logs.of_gang(tx, row.id, loglines.ranks(rank), loglines.needed(tail))

    chunks = await here.transact(work)
    return PlainTextResponse(loglines.joined(chunks, tail, prefixed=rank == "all" or "," in rank))
