"""/v1/webhooks: where a tenant's events are sent, what signs them, and what became of each.

All of it takes the scope `admin`: the URL of a receiver is often a credential itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse
from pydantic import Field

from orchestrator.api import views
from orchestrator.api import webhook_shapes as shapes
from orchestrator.api.auth import GuardedRoute, Here, Manager
from orchestrator.api.contract import Answer, operation
from orchestrator.api.office import Office
from orchestrator.domain.strict import Sent
from orchestrator.domain.targets import LONGEST_URL, Policy, Target
from orchestrator.domain.webhooks import ENDS, Event, Keys, RequestEvent, Seed, keys
from orchestrator.errors import Conflict, Invalid
from orchestrator.settings import Settings
from orchestrator.store import webhooks
from orchestrator.store.database import Tx

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=GuardedRoute)

WebhookId = Annotated[str, Path(pattern=r"^whk_[0-9a-z]{26}$", description="webhook ID")]
DeliveryId = Annotated[
    str,
    Path(pattern=r"^msg_(req|gng|whk|bat|sch)_[0-9a-z]{26}_[0-9]{1,9}$", description="the `webhook-id` of the message"),
]
Url = Annotated[str, Field(min_length=1, max_length=LONGEST_URL, description="https, where the operator allows it")]


class RequestHook(Sent):
    """The webhook of one request, as `webhook` of a submission. Signed with the tenant's secret."""

    url: Url
    events: Annotated[list[RequestEvent], Field(min_length=1, max_length=16)] = Field(default=[*ENDS])


class WebhookDraft(Sent):
    """An endpoint that hears of everything that the tenant owns."""

    url: Url
    events: Annotated[list[Event], Field(min_length=1, max_length=16)] = Field(default=[*ENDS])


class Rotation(Sent):
    overlap_s: float = Field(
        default=86400, ge=0, le=30 * 86400, description="how long the secret before goes on signing beside the new one"
    )


def target_of(settings: Settings, url: str, pointer: str) -> Target:
    """Raises Invalid `webhook_url_refused`."""
    try:
        return Policy.read(settings.webhook_hosts).target(url)
    except Invalid as error:
        raise Invalid(f"{pointer}: {error.message}", code=error.code, pointer=pointer) from None


async def hear(here: Office, tenant: str, request_id: str, digest: bytes, hook: RequestHook) -> None:
    """Before the request is recorded: none of its moves goes unheard. Raises Invalid, Conflict."""
    target = target_of(here.settings, hook.url, "/webhook/url")
    await here.transact(lambda tx: webhooks.hear_request(tx, tenant, request_id, digest, target, hook.events))


async def check(here: Office, tenant: str, hook: RequestHook) -> None:
    """Raises what `hear` would raise."""
    target_of(here.settings, hook.url, "/webhook/url")
    await here.look(lambda tx: webhooks.check_tenant_secret(tx, tenant))


@router.post(
    "",
    status_code=201,
    summary="Register an endpoint; its secret is shown this once",
    **operation(
        "create_webhook",
        "webhook_url_refused",
        "too_many_webhooks",
        "webhooks_off",
        ok={201: Answer(means="keep `secret`", model=shapes.IssuedWebhook, headers=("Location",))},
    ),
)
async def create_webhook(body: WebhookDraft, here: Here, identity: Manager) -> JSONResponse:
    target = target_of(here.settings, body.url, "/url")
    known, key = _keys(here)
    row, seed = await here.transact(lambda tx: webhooks.create(tx, identity.tenant, target, body.events, key))
    answer = {**views.webhook(row), "secret": known.secret(seed)}
    return JSONResponse(answer, status_code=201, headers={"Location": f"/v1/webhooks/{row.id}"})


@router.get(
    "",
    summary="List endpoints; with `request`, the hook of that request",
    **operation("list_webhooks", ok={200: Answer(means="oldest first", model=shapes.WebhookPage)}),
)
async def list_webhooks(
    here: Here, identity: Manager, request: Annotated[str | None, Query(pattern=r"^req_[0-9a-z]{26}$")] = None
) -> Any:
    rows = await here.look(lambda tx: webhooks.list_all(tx, identity.tenant, request))
    return {"data": [views.webhook(row) for row in rows], "has_more": False, "next_cursor": None}


@router.post(
    "/secret",
    status_code=201,
    summary="Make or renew the secret for hooks of single requests",
    **operation(
        "renew_request_hook_secret", "webhooks_off", ok={201: Answer(means="keep `secret`", model=shapes.WebhookSecret)}
    ),
)
async def renew_tenant_secret(body: Rotation, here: Here, identity: Manager) -> Any:
    """Shown this once."""
    return await _renewed(
        here, lambda tx, key: webhooks.renew_tenant_secret(tx, identity.tenant, key, timedelta(seconds=body.overlap_s))
    )


@router.get(
    "/{webhook_id}",
    summary="One webhook",
    **operation("get_webhook", "not_found", ok={200: Answer(means="without its secret", model=shapes.Webhook)}),
)
async def read_webhook(webhook_id: WebhookId, here: Here, identity: Manager) -> Any:
    return views.webhook(await here.look(lambda tx: webhooks.get(tx, identity.tenant, webhook_id)))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    summary="Remove a webhook and what waits for it",
    **operation("delete_webhook", "not_found", ok={204: Answer(means="nothing more is sent to it")}),
)
async def delete_webhook(webhook_id: WebhookId, here: Here, identity: Manager) -> None:
    await here.transact(lambda tx: webhooks.delete(tx, identity.tenant, webhook_id))


@router.post(
    "/{webhook_id}/enable",
    summary="Let a disabled webhook hear again, from now on",
    **operation("enable_webhook", "not_found", ok={200: Answer(means="as it is now", model=shapes.Webhook)}),
)
async def enable_webhook(webhook_id: WebhookId, here: Here, identity: Manager) -> Any:
    return views.webhook(await here.transact(lambda tx: webhooks.enable(tx, identity.tenant, webhook_id)))


@router.post(
    "/{webhook_id}/rotate",
    status_code=201,
    summary="Make a new secret; it is shown this once",
    **operation(
        "rotate_webhook",
        "not_found",
        "no_own_secret",
        "webhooks_off",
        ok={201: Answer(means="keep `secret`", model=shapes.WebhookSecret)},
    ),
)
async def rotate_webhook(webhook_id: WebhookId, body: Rotation, here: Here, identity: Manager) -> Any:
    """Both secrets sign until `overlap_s` is over."""
    overlap = timedelta(seconds=body.overlap_s)
    return await _renewed(here, lambda tx, key: webhooks.rotate(tx, identity.tenant, webhook_id, key, overlap))


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    summary="Send a `webhook.ping`",
    **operation(
        "test_webhook", "not_found", "webhook_disabled", ok={202: Answer(means="on its way", model=shapes.Delivery)}
    ),
)
async def test_webhook(webhook_id: WebhookId, here: Here, identity: Manager) -> Any:
    """Delivered like any other: look at the delivery that this answers."""
    row = await here.transact(lambda tx: webhooks.ping(tx, identity.tenant, webhook_id))
    here.ring("deliver")
    return views.delivery(row)


@router.get(
    "/{webhook_id}/deliveries",
    summary="What became of its messages, newest first",
    **operation("list_deliveries", "not_found", ok={200: Answer(means="newest first", model=shapes.DeliveryPage)}),
)
async def list_deliveries(
    webhook_id: WebhookId,
    here: Here,
    identity: Manager,
    state: Annotated[Literal["pending", "delivered", "failed"] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Any:
    rows = await here.look(lambda tx: webhooks.deliveries(tx, identity.tenant, webhook_id, state, limit))
    return {"data": [views.delivery(row) for row in rows], "has_more": False, "next_cursor": None}


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}",
    summary="One delivery",
    **operation("get_delivery", "not_found", ok={200: Answer(means="as it is now", model=shapes.Delivery)}),
)
async def read_delivery(webhook_id: WebhookId, delivery_id: DeliveryId, here: Here, identity: Manager) -> Any:
    row = await here.transact(lambda tx: webhooks.delivery(tx, identity.tenant, webhook_id, delivery_id))
    return views.delivery(row)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    summary="Send a message once more",
    **operation(
        "replay_delivery", "not_found", "webhook_disabled", ok={202: Answer(means="on its way", model=shapes.Delivery)}
    ),
)
async def replay_delivery(webhook_id: WebhookId, delivery_id: DeliveryId, here: Here, identity: Manager) -> Any:
    """With the same `webhook-id`, now, and with the whole schedule before it."""
    row = await here.transact(lambda tx: webhooks.replay(tx, identity.tenant, webhook_id, delivery_id))
    here.ring("deliver")
    return views.delivery(row)


async def _renewed(here: Office, renew: Callable[[Tx, str], Seed]) -> Any:
    known, key = _keys(here)
    seed = await here.transact(lambda tx: renew(tx, key))
    return {"object": "webhook_secret", "secret": known.secret(seed)}


def _keys(here: Office) -> tuple[Keys, str]:
    known = keys(here.settings.webhook_keys)
    if known.newest is None:
        raise Conflict(
            "this installation has no MUSTER_WEBHOOK_KEYS, so nothing can be signed: its operator sets one",
            code="webhooks_off",
        )
    return known, known.newest
