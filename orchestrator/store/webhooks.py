"""Who listens: the endpoints of a tenant, the hooks of single requests, and the seeds of the secrets that sign.

No secret is stored: `domain.webhooks.Keys` derives it from the installation's key and what lies here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from orchestrator.domain.ids import new_id
from orchestrator.domain.lanes import lane_of
from orchestrator.domain.targets import Target
from orchestrator.domain.webhooks import PING, Seed, message_id
from orchestrator.errors import Conflict, NotFound
from orchestrator.store.database import Record, Tx

MOST = 20
"""Endpoints of one tenant."""


def tenant_key(tenant: str) -> str:
    """What an endpoint hears, and who signs for the hooks of single requests: all of the tenant."""
    return f"t:{tenant}"


def create(tx: Tx, tenant: str, target: Target, events: Sequence[str], key_id: str) -> tuple[Record, Seed]:
    """A new endpoint, which hears what happens from now on. Raises Conflict `too_many_webhooks`."""
    tx.execute(text("SELECT 1 FROM tenant WHERE id = :t FOR UPDATE"), {"t": tenant})
    if len(list_all(tx, tenant)) >= MOST:
        raise Conflict(f"a tenant has at most {MOST} webhooks; delete one", code="too_many_webhooks")
    webhook_id = new_id("whk")
    _insert(tx, webhook_id, tenant, tenant_key(tenant), target, events, signed_by=webhook_id)
    return get(tx, tenant, webhook_id), renew_secret(tx, webhook_id, key_id, timedelta())


def hear_request(tx: Tx, tenant: str, request_id: str, digest: bytes, target: Target, events: Sequence[str]) -> None:
    """For a request that is about to be recorded: its first move must find this. What comes to nothing is pruned.

    `digest`: of the request's body. IDs may be chosen by callers: only the request that was accepted with this body,
    for this tenant, is meant. Raises Conflict `no_webhook_secret` if the tenant has none that could sign.
    """
    check_tenant_secret(tx, tenant)
    _insert(tx, new_id("whk"), tenant, request_id, target, events, signed_by=tenant_key(tenant), digest=digest)


def _insert(
    tx: Tx,
    webhook_id: str,
    tenant: str,
    hears: str,
    target: Target,
    events: Sequence[str],
    *,
    signed_by: str,
    digest: bytes | None = None,
) -> None:
    """Nothing if the same request was sent before."""
    tx.execute(
        text(
            "INSERT INTO webhook (id, tenant, hears, lane, url, events, signed_by, digest)"
            " VALUES (:id, :tenant, :hears, :lane, :url, :events, :by, :digest)"
            " ON CONFLICT (hears, tenant, digest) WHERE digest IS NOT NULL DO NOTHING"
        ),
        {
            "id": webhook_id,
            "tenant": tenant,
            "hears": hears,
            "lane": lane_of(tenant, target.origin),
            "url": target.url,
            "events": sorted(set(events)),
            "by": signed_by,
            "digest": digest,
        },
    )


def get(tx: Tx, tenant: str, webhook_id: str) -> Record:
    """Raises NotFound, also for another tenant's."""
    row = tx.execute(
        text("SELECT * FROM webhook WHERE id = :id AND tenant = :t"), {"id": webhook_id, "t": tenant}
    ).one_or_none()
    if row is None:
        raise NotFound(f"no webhook {webhook_id}")
    return row


def list_all(tx: Tx, tenant: str, request_id: str | None = None) -> Sequence[Record]:
    """The tenant's endpoints, oldest first; or the hook of one request."""
    return tx.execute(
        text("SELECT * FROM webhook WHERE tenant = :t AND hears = :h ORDER BY created_at, id"),
        {"t": tenant, "h": request_id or tenant_key(tenant)},
    ).all()


def delete(tx: Tx, tenant: str, webhook_id: str) -> None:
    """With all its deliveries; one that is being sent now may still arrive."""
    get(tx, tenant, webhook_id)
    for table, column in (("delivery", "webhook_id"), ("webhook_secret", "owner"), ("webhook", "id")):
        tx.execute(text(f"DELETE FROM {table} WHERE {column} = :id"), {"id": webhook_id})


def enable(tx: Tx, tenant: str, webhook_id: str) -> Record:
    """It hears again, from now on; what was given up meanwhile may be replayed."""
    get(tx, tenant, webhook_id)
    return tx.execute(
        text(
            "UPDATE webhook SET disabled_at = NULL, disabled = NULL,"
            " hears_since = CASE WHEN disabled_at IS NULL THEN hears_since ELSE clock_timestamp() END"
            " WHERE id = :id RETURNING *"
        ),
        {"id": webhook_id},
    ).one()


# ----------------------------------------------------------------------------------------------------------- secrets


def renew_secret(tx: Tx, owner: str, key_id: str, overlap: timedelta) -> Seed:
    """A new secret; those before go on signing beside it for `overlap`, none longer than it had already."""
    tx.execute(
        text(
            "UPDATE webhook_secret SET expires_at ="
            " least(expires_at, clock_timestamp() + :s * interval '1 second') WHERE owner = :o"
        ),
        {"o": owner, "s": overlap.total_seconds()},
    )
    tx.execute(
        text("DELETE FROM webhook_secret WHERE owner = :o AND expires_at < clock_timestamp() - interval '1 day'"),
        {"o": owner},
    )
    seed = Seed(owner=owner, key_id=key_id, nonce=secrets.token_hex(16))
    tx.execute(
        text(
            "INSERT INTO webhook_secret (owner, generation, key_id, nonce)"
            " SELECT :o, 1 + coalesce(max(generation), 0), :k, :n FROM webhook_secret WHERE owner = :o"
        ),
        {"o": owner, "k": key_id, "n": seed.nonce},
    )
    return seed


def rotate(tx: Tx, tenant: str, webhook_id: str, key_id: str, overlap: timedelta) -> Seed:
    """A new secret for the endpoint. Raises Conflict for a hook of a single request, which has none of its own."""
    row = tx.execute(
        text("SELECT * FROM webhook WHERE id = :id AND tenant = :t FOR UPDATE"), {"id": webhook_id, "t": tenant}
    ).one_or_none()
    if row is None:
        raise NotFound(f"no webhook {webhook_id}")
    if row.signed_by != webhook_id:
        raise Conflict(
            "the hook of a request is signed with the tenant's secret: POST /v1/webhooks/secret renews that",
            code="no_own_secret",
        )
    return renew_secret(tx, webhook_id, key_id, overlap)


def renew_tenant_secret(tx: Tx, tenant: str, key_id: str, overlap: timedelta) -> Seed:
    """What signs the hooks of the tenant's single requests."""
    tx.execute(text("SELECT 1 FROM tenant WHERE id = :t FOR UPDATE"), {"t": tenant})
    return renew_secret(tx, tenant_key(tenant), key_id, overlap)


def check_tenant_secret(tx: Tx, tenant: str) -> None:
    """Raises Conflict `no_webhook_secret` if nothing could sign for the hooks of single requests."""
    query = text("SELECT EXISTS (SELECT FROM webhook_secret WHERE owner = :o AND expires_at IS NULL)")
    if not tx.execute(query, {"o": tenant_key(tenant)}).scalar_one():
        raise Conflict(
            "hooks of single requests are signed with the tenant's secret, and there is none:"
            " make one with POST /v1/webhooks/secret (`muster webhook secret`)",
            code="no_webhook_secret",
        )


# -------------------------------------------------------------------------------------------------------- deliveries


def ping(tx: Tx, tenant: str, webhook_id: str) -> Record:
    """A delivery that says nothing but that it arrived. Raises Conflict if the webhook is disabled."""
    _check_enabled(get(tx, tenant, webhook_id))
    row = tx.execute(text("UPDATE webhook SET pings = pings + 1 WHERE id = :id RETURNING *"), {"id": webhook_id}).one()
    values = {"id": webhook_id, "seq": row.pings, "lane": row.lane, "type": PING}
    return tx.execute(
        text(
            "INSERT INTO delivery (webhook_id, subject, seq, lane, type, status)"
            " VALUES (:id, :id, :seq, :lane, :type, 'enabled') RETURNING *"
        ),
        values,
    ).one()


def deliveries(tx: Tx, tenant: str, webhook_id: str, state: str | None, limit: int) -> Sequence[Record]:
    """Newest events first."""
    get(tx, tenant, webhook_id)
    return tx.execute(
        text(
            "SELECT * FROM delivery WHERE webhook_id = :id AND (CAST(:state AS text) IS NULL OR state = :state)"
            " ORDER BY at DESC LIMIT :n"
        ),
        {"id": webhook_id, "state": state, "n": limit},
    ).all()


def delivery(tx: Tx, tenant: str, webhook_id: str, delivery_id: str) -> Record:
    """By the ID of its message. Raises NotFound."""
    get(tx, tenant, webhook_id)
    subject, _, seq = delivery_id.removeprefix("msg_").rpartition("_")
    row: Any = None
    if seq.isdigit() and len(seq) < 10:
        row = tx.execute(
            text("SELECT * FROM delivery WHERE webhook_id = :id AND subject = :s AND seq = :n FOR UPDATE"),
            {"id": webhook_id, "s": subject, "n": int(seq)},
        ).one_or_none()
    if row is None or message_id(row.subject, row.seq) != delivery_id:
        raise NotFound(f"no delivery {delivery_id} of webhook {webhook_id}")
    found: Record = row
    return found


def replay(tx: Tx, tenant: str, webhook_id: str, delivery_id: str) -> Record:
    """Send it once more, now, with the whole schedule before it; one that is being sent now is left alone."""
    _check_enabled(get(tx, tenant, webhook_id))
    row = delivery(tx, tenant, webhook_id, delivery_id)
    if row.claim is not None:
        return row
    return tx.execute(
        text(
            "UPDATE delivery SET state = 'pending', tries = 0, next_at = clock_timestamp()"
            " WHERE webhook_id = :id AND subject = :s AND seq = :n RETURNING *"
        ),
        {"id": webhook_id, "s": row.subject, "n": row.seq},
    ).one()


def _check_enabled(row: Record) -> None:
    if row.disabled_at is not None:
        raise Conflict(f"webhook {row.id} is disabled ({row.disabled}): enable it first", code="webhook_disabled")
