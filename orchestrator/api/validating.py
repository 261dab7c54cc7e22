"""POST /v1/requests:validate: everything that a submit would check and decide, and nothing stored."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from orchestrator.api import input_files, shapes, webhooks
from orchestrator.api.auth import GuardedRoute, Here, Submitter
from orchestrator.api.contract import Answer, operation
from orchestrator.api.submission import Submission, bounds
from orchestrator.domain.placement import Mode, place, predicted_start
from orchestrator.store import accepting, loads

router = APIRouter(prefix="/v1", tags=["requests"], route_class=GuardedRoute)


@router.post(
    "/requests:validate",
    summary="What a submit would say, without submitting",
    **operation(
        "validate_request",
        "unknown_template",
        "no_warm_pool",
        "webhook_url_refused",
        "no_webhook_secret",
        ok={200: Answer(means="it would be accepted", model=shapes.Validation)},
    ),
)
async def validate(body: Submission, here: Here, identity: Submitter) -> Any:
    """Refuses what a submit would refuse, in the same words. `starts_in_s` is a guess, null without experience."""
    product = await here.product(identity.tenant, body.template)
    values = await product.form.fit_soon(body.input)
    if named := product.form.files:
        await here.look(lambda tx: input_files.find(tx, identity.tenant, named, values, input_files.LOOK))
    if body.webhook is not None:
        await webhooks.check(here, identity.tenant, body.webhook)
    load = await here.look(lambda tx: loads.pool_load(tx, product.pool, history=True))
    path = place(Mode(body.mode), load)
    if path is None:
        raise accepting.no_warm_pool(product.pool)
    return {
        "object": "validation",
        "template": product.template.name,
        "template_version": product.pool.version,
        "mode": body.mode,
        "input": values,
        "placement": {"kind": path.placement, "reason": path.reason},
        "starts_in_s": predicted_start(path.placement, load),
        **bounds(product.template, body),
    }
