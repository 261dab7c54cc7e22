"""The answers of /v1/webhooks as types, for /openapi.json: beside `shapes`, and held to by the same tests."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from orchestrator.domain.webhooks import Event


class Webhook(BaseModel):
    """Who listens. Its secret is never shown again."""

    id: str
    object: Literal["webhook"]
    url: str
    events: list[Event]
    request: str | None = Field(description="the request whose hook it is; null: an endpoint of the tenant")
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    created_at: datetime


class WebhookPage(BaseModel):
    data: list[Webhook]
    has_more: bool
    next_cursor: str | None


class IssuedWebhook(Webhook):
    """The one time that the secret itself is shown."""

    secret: str = Field(description="`whsec_…`: what messages are verified with")


class WebhookSecret(BaseModel):
    """The one time that it is shown."""

    object: Literal["webhook_secret"]
    secret: str


class Delivery(BaseModel):
    """One message to one webhook."""

    id: str = Field(description="the `webhook-id` header: the same at every try")
    object: Literal["delivery"]
    webhook: str
    type: Event | Literal["webhook.ping"]
    subject: str = Field(description="the request, gang, batch, schedule or webhook that it tells of")
    version: int = Field(description="of the subject; larger is later")
    status: str
    more: dict[str, str | int] = Field(description="what else `data` of the message says")
    state: Literal["pending", "delivered", "failed"]
    tries: int
    at: datetime = Field(description="when it happened")
    next_try_at: datetime | None
    last_try_at: datetime | None
    last_status: int | None = Field(description="what the receiver answered; null: no answer")
    last_error: str | None = Field(description="a code: docs/webhooks.md")


class DeliveryPage(BaseModel):
    data: list[Delivery]
    has_more: bool
    next_cursor: str | None
