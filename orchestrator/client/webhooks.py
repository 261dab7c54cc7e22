"""`Client.webhooks`: where events are sent, what signs them, what became of each message. Scope `admin`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from orchestrator.client.paths import path, records
from orchestrator.client.records import Record
from orchestrator.client.transport import Answer


@dataclass(frozen=True, kw_only=True)
class Webhook(Record):
    """`secret` is shown once, in the answer that creates it. `request`: whose hook it is; None: the tenant's."""

    id: str
    url: str | None = None
    events: tuple[str, ...] | None = None
    request: str | None = None
    enabled: bool | None = None
    disabled_reason: str | None = None
    created_at: datetime | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class WebhookSecret(Record):
    """Shown this once."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Delivery(Record):
    """One message to one webhook; `id` is its `webhook-id`."""

    id: str
    state: str
    webhook: str | None = None
    type: str | None = None
    subject: str | None = None
    version: int | None = None
    status: str | None = None
    more: dict[str, Any] | None = None
    tries: int | None = None
    at: datetime | None = None
    next_try_at: datetime | None = None
    last_try_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None


class Webhooks:
    """One method for each thing that docs/webhooks.md offers."""

    def __init__(self, send: Callable[..., Answer]) -> None:
        self._send = send

    def create(self, url: str, events: Sequence[str] = ()) -> Webhook:
        """The answer holds the secret; the service does not show it again. Without events: the ends of requests."""
        body = {"url": url, **({"events": [*events]} if events else {})}
        return Webhook.read(self._send("POST", path("webhooks"), body=body, repeatable=False).json())

    def list(self, *, request: str | None = None) -> tuple[Webhook, ...]:
        """The tenant's endpoints, or the hook of a request."""
        params = {"request": request} if request else {}
        return records(Webhook, self._send("GET", path("webhooks"), params=params).json())

    def get(self, webhook_id: str) -> Webhook:
        return Webhook.read(self._send("GET", path("webhooks", webhook_id)).json())

    def remove(self, webhook_id: str) -> None:
        self._send("DELETE", path("webhooks", webhook_id))

    def enable(self, webhook_id: str) -> Webhook:
        """After a 410 of its receiver: it hears again, from now on."""
        return Webhook.read(self._send("POST", path("webhooks", webhook_id, "enable")).json())

    def rotate(self, webhook_id: str, *, overlap: timedelta = timedelta(days=1)) -> WebhookSecret:
        """A new secret; the one before goes on signing beside it for `overlap`."""
        return self._renew(path("webhooks", webhook_id, "rotate"), overlap)

    def renew_request_secret(self, *, overlap: timedelta = timedelta(days=1)) -> WebhookSecret:
        """What signs the hooks of single requests: makes the first, or a new one as `rotate` does."""
        return self._renew(path("webhooks", "secret"), overlap)

    def test(self, webhook_id: str) -> Delivery:
        """Sends a `webhook.ping`: look at the delivery for what became of it."""
        return Delivery.read(self._send("POST", path("webhooks", webhook_id, "test"), repeatable=False).json())

    def deliveries(self, webhook_id: str, *, state: str | None = None, limit: int = 50) -> tuple[Delivery, ...]:
        """Newest first. `state`: pending, delivered or failed."""
        params: dict[str, str | int] = {"limit": limit, **({"state": state} if state else {})}
        return records(Delivery, self._send("GET", path("webhooks", webhook_id, "deliveries"), params=params).json())

    def delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        return Delivery.read(self._send("GET", path("webhooks", webhook_id, "deliveries", delivery_id)).json())

    def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Sends the message once more, with the same ID."""
        place = path("webhooks", webhook_id, "deliveries", delivery_id, "replay")
        return Delivery.read(self._send("POST", place).json())

    def _renew(self, place: str, overlap: timedelta) -> WebhookSecret:
        body = {"overlap_s": overlap.total_seconds()}
        return WebhookSecret.read(self._send("POST", place, body=body, repeatable=False).json())
