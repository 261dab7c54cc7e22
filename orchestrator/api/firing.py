"""From a tick of a schedule to what it runs: the same checks as a submit's, in the transaction that decides the tick.

Knows nothing of when; loops/ticks.py does. Everything that is said in a schedule is a value: no text is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.api import admission, input_files, webhooks
from orchestrator.api.batch_shapes import NamedBatchOrder
from orchestrator.api.body import as_model
from orchestrator.api.input_schema import Form
from orchestrator.api.intake import Caller, check_source, digest_of, new_batch, record
from orchestrator.api.office import Product
from orchestrator.api.submission import Claim, Submission, new_request
from orchestrator.domain.ids import new_id
from orchestrator.domain.schedules import Policy, injected, words
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid, QueueFull
from orchestrator.settings import Settings
from orchestrator.store import accepting, files, templates, tenants
from orchestrator.store import webhooks as hooks
from orchestrator.store.database import Record, Tx
from orchestrator.store.fires import Started
from orchestrator.store.orders import Order

MOST_LABELS = 32


def start(settings: Settings, tx: Tx, schedule: Record, fire: Record) -> Started:
    """Record the run of a tick. Raises Invalid, NotFound, Conflict, TooMany, as a submit does."""
    policy = Policy.model_validate(fire.policy)
    filled = _filled(fire.runs, policy, schedule.name, fire.tick)
    if "batch" in filled:
        return Started(batch=_start_batch(settings, tx, schedule.tenant, as_model(NamedBatchOrder, filled["batch"])))
    return Started(request=_start_request(settings, tx, schedule.tenant, as_model(Submission, filled["request"])))


def check(settings: Settings, tx: Tx, tenant: str, policy: Policy, runs: Mapping[str, Any], at: datetime) -> None:
    """What a tick at that time would run can be run. Raises Invalid and NotFound, with pointers into `runs`."""
    filled = _filled(runs, policy, "a-name", at)
    try:
        if "batch" in filled:
            _check_batch(settings, tx, tenant, as_model(NamedBatchOrder, filled["batch"]))
        else:
            _check_request(settings, tx, tenant, as_model(Submission, filled["request"]))
    except Invalid as error:
        kind = "batch" if "batch" in filled else "request"
        pointer = f"/runs/{kind}{error.pointer}" if error.pointer else None
        raise Invalid(
            f"/runs/{kind}{error.message}" if pointer else error.message, code=error.code, pointer=pointer
        ) from None


def _filled(runs: Mapping[str, Any], policy: Policy, name: str, tick: datetime) -> dict[str, Any]:
    """With the values of the tick, and labels that say where it comes from."""
    ((kind, order),) = runs.items()
    if kind == "batch" and any(pointer.startswith("/input/") for pointer in policy.inject):
        raise Invalid("/inject: the inputs of a batch are its lines; labels can be given", pointer="/inject")
    filled = injected(order, policy, tick)
    own = {"muster/schedule": name, "muster/scheduled_at": str(words(tick, policy)["scheduled_at"])}
    labels = own | filled.get("labels", {})
    return {kind: {**filled, "labels": labels if len(labels) <= MOST_LABELS else filled["labels"]}}


def _product(tx: Tx, tenant: str, template: str) -> Product:
    pool = templates.current_pool(tx, tenant, template)
    return Product(pool=pool, template=Template.model_validate(pool.spec))


# ------------------------------------------------------------------------------------------------------------- requests


def _check_request(settings: Settings, tx: Tx, tenant: str, body: Submission) -> None:
    form = Form(_product(tx, tenant, body.template).template.input)
    input_files.find(tx, tenant, form.files, form.fit(body.input), reach=input_files.LOOK)
    if body.webhook is not None:
        webhooks.target_of(settings, body.webhook.url, "/webhook/url")
        hooks.check_tenant_secret(tx, tenant)


def _start_request(settings: Settings, tx: Tx, tenant: str, body: Submission) -> str:
    product = _product(tx, tenant, body.template)
    _check_room(settings, tx, tenant, product.pool.id)
    values = product.form.fit(body.input)
    found = input_files.find(tx, tenant, product.form.files, values)
    claim = Claim(request_id=new_id("req"))
    if (hook := body.webhook) is not None:
        target = webhooks.target_of(settings, hook.url, "/webhook/url")
        hooks.hear_request(tx, tenant, claim.request_id, claim.digest(body), target, hook.events)
    new = new_request(claim, tenant, product, body, values, found, settings.output_retention)
    return str(accepting.queue(tx, Order(new=new, pool=product.pool)).id)


def _check_room(settings: Settings, tx: Tx, tenant: str, pool: str) -> None:
    """Raises QueueFull where a submit would."""
    standing = tenants.standing(tx, tenant, max(settings.max_open, settings.max_queued))
    if (why := admission.full(settings, standing, pool)) is not None:
        raise QueueFull(why)


# -------------------------------------------------------------------------------------------------------------- batches


def _check_batch(settings: Settings, tx: Tx, tenant: str, order: NamedBatchOrder) -> Product:
    """What it is a batch of."""
    product = _product(tx, tenant, order.template)
    if order.file is not None:
        files.get(tx, tenant, order.file)
    if order.url is not None:
        check_source(settings, tenant, order.url)
    return product


def _start_batch(settings: Settings, tx: Tx, tenant: str, order: NamedBatchOrder) -> str:
    """Its lines are looked at later, while it is validating."""
    product = _check_batch(settings, tx, tenant, order)
    if order.file is not None:
        files.hold(tx, tenant, order.file)
    new = new_batch(settings, product, Caller(tenant=tenant, key=None), order, digest_of(order, b""))
    record(tx, settings, new)
    return new.id
