"""Webhooks as words and decisions: what is announced, what a message says, when it is tried again. Pure.

Messages follow the Standard Webhooks specification (standardwebhooks.com).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Literal, get_args

from standardwebhooks.webhooks import Webhook

from orchestrator.domain.states import Reason

RequestEvent = Literal["request.running", "request.succeeded", "request.failed", "request.canceled", "request.expired"]
Event = Literal[
    "request.running",
    "request.succeeded",
    "request.failed",
    "request.canceled",
    "request.expired",
    "gang.ready",
    "gang.lost",
    "batch.completed",
    "batch.failed",
    "batch.canceled",
    "batch.expired",
    "batch.paused",
    "schedule.fired",
    "schedule.skipped",
]
EVENTS: tuple[str, ...] = get_args(Event)
ENDS: tuple[RequestEvent, ...] = ("request.succeeded", "request.failed", "request.canceled", "request.expired")
"""What is announced if nothing else was asked for."""
PING = "webhook.ping"

ORDERLY = frozenset({Reason.DRAINED, Reason.IDLE, Reason.REPLACED, Reason.RECYCLED, Reason.STOPPED})
"""A gang that is gone for one of these was sent away, not lost."""

SCHEDULE = tuple(timedelta(seconds=s) for s in (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""From one try to the next: 0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h; a bit more than three days."""
JITTER = 0.1
"""The pause is up to so much longer: what failed together does not come back together."""
LONGEST_RETRY_AFTER = timedelta(days=1)


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up: no try is left, or the receiver said that it is gone."""


def message_id(subject: str, seq: int) -> str:
    """One for each event, whoever gets it and however often it is sent."""
    return f"msg_{subject}_{seq}"


def next_pause(tries: int, asked: timedelta | None, chance: float) -> timedelta | None:
    """How long to wait after this many failed tries; None: give up.

    `asked`: what Retry-After said; it never shortens the pause. `chance`: 0 to 1.
    """
    if tries >= len(SCHEDULE):
        return None
    pause = SCHEDULE[tries] * (1 + JITTER * chance)
    return max(pause, min(asked or timedelta(), LONGEST_RETRY_AFTER))


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """What a receiver asked for, as seconds or as a date; None if it makes no sense."""
    if not header:
        return None
    try:
        if header.strip().isdigit():
            return min(timedelta(seconds=int(header.strip()[:9])), LONGEST_RETRY_AFTER)
        until = parsedate_to_datetime(header)
        return max(timedelta(), (until if until.tzinfo else until.replace(tzinfo=UTC)) - now)
    except (ValueError, OverflowError):
        return None


# ---------------------------------------------------------------------------------------------------------- messages


@dataclass(frozen=True, kw_only=True)
class Message:
    """One announced event."""

    subject: str
    seq: int
    type: str
    status: str
    at: datetime
    more: Mapping[str, Any] = field(default_factory=dict)
    """What its kind of event says besides: an outcome, a tick, a reason."""

    @property
    def id(self) -> str:
        return message_id(self.subject, self.seq)

    def body(self, public_url: str) -> str:
        """The same bytes at every try. Thin: the receiver asks for the rest, with a token."""
        at = self.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        url = f"{public_url.rstrip('/')}{path_of(self.subject)}"
        said = {"id": self.subject, "status": self.status, "version": self.seq, "url": url, **self.more}
        return json.dumps({"type": self.type, "timestamp": at, "data": said}, separators=(",", ":"))


_PLACES = {"req": "requests", "gng": "gangs", "whk": "webhooks", "bat": "batches", "sch": "schedules"}


def path_of(subject: str) -> str:
    return f"/v1/{_PLACES[subject.partition('_')[0]]}/{subject}"


def signed(message: str, body: str, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """The headers. More than one secret: a receiver may know any of them (rotation)."""
    moment = now.astimezone(UTC)
    signatures = [Webhook(secret).sign(message, moment, body) for secret in secrets]
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


# ----------------------------------------------------------------------------------------------------------- secrets


@dataclass(frozen=True, kw_only=True)
class Seed:
    """What is stored of a secret: worthless without the installation's key."""

    owner: str
    key_id: str
    nonce: str


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The installation's keys by their IDs; new secrets come from the first."""

    by_id: Mapping[str, str]

    @property
    def newest(self) -> str | None:
        """Its ID."""
        return next(iter(self.by_id), None)

    def secret(self, seed: Seed) -> str | None:
        """`whsec_…`, 32 bytes; None if the key it came from is not here any more."""
        key = self.by_id.get(seed.key_id)
        if key is None:
            return None
        said = f"muster webhook\0{seed.owner}\0{seed.nonce}".encode()
        derived = hmac.new(key.encode(), said, hashlib.sha256).digest()
        return f"whsec_{base64.b64encode(derived).decode()}"


def keys(given: Sequence[str]) -> Keys:
    return Keys(by_id={hashlib.sha256(b"muster webhook key\0" + key.encode()).hexdigest()[:16]: key for key in given})
