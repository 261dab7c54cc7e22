"""A request that passed all checks, and the part of a statement that accepts it. Which move that is says the caller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.placement import Mode, Placed


@dataclass(frozen=True, kw_only=True)
class NewRequest:
    """A request that passed all checks."""

    id: str
    tenant: str
    template: str
    template_version: int
    pool_id: str
    mode: Mode
    placed: Placed
    priority: int
    input: Mapping[str, Any]
    labels: Mapping[str, str]
    timeout_s: float
    start_within_s: float | None
    max_attempts: int
    max_crashes: int
    idempotency_key: str | None
    body_digest: bytes
    retry_of: str | None = None


def inserting(version: str, state: str, attempts: str, gang: str, assigned_at: str, check_in_s: str) -> str:
    """The CTEs that accept a request as a row `new` in this state, with its body and its first event.

    All arguments are SQL. The event says what `record` makes, whatever comes after it in the same statement; and when,
    for Postgres runs the parts of a statement in an order of its own.
    """
    return f"""new AS (
  INSERT INTO request (id, tenant, template, template_version, pool_id, mode, placement, placement_reason, priority,
                       due_at, state, attempts, gang_id, assigned_at, version, max_attempts, max_crashes,
                       idempotency_key, body_digest, retry_of, timeout_s, start_by, next_check_at)
  VALUES (:id, :tenant, :template, :template_version, :pool_id, :mode, :placement, :placement_reason, :priority,
          clock_timestamp() - :priority * interval '1 minute', {state}, {attempts}, {gang}, {assigned_at}, {version},
          :max_attempts, :max_crashes, :idempotency_key, :body_digest, :retry_of, :timeout_s,
          clock_timestamp() + :start_within_s * interval '1 second',
          clock_timestamp() + ({check_in_s}) * interval '1 second')
  ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
  RETURNING *
), body AS (
  INSERT INTO payload (request_id, input, labels)
  SELECT id, CAST(:input AS jsonb), CAST(:labels AS jsonb) FROM new
), logged AS (
  INSERT INTO event (subject, seq, at, move, data)
  SELECT id, 1, created_at, 'record', jsonb_build_object('state', 'queued', 'reason_code', NULL, 'reason', NULL,
         'gang', NULL, 'attempts', 0, 'crashes', 0, 'placement', placement, 'why', placement_reason) FROM new
)"""


def columns(new: NewRequest) -> dict[str, Any]:
    """The parameters of `inserting`."""
    return {
        "id": new.id,
        "tenant": new.tenant,
        "template": new.template,
        "template_version": new.template_version,
        "pool_id": new.pool_id,
        "mode": new.mode,
        "placement": new.placed.placement,
        "placement_reason": new.placed.reason,
        "priority": new.priority,
        "input": json.dumps(new.input),
        "labels": json.dumps(new.labels),
        "timeout_s": new.timeout_s,
        "start_within_s": new.start_within_s,
        "max_attempts": new.max_attempts,
        "max_crashes": new.max_crashes,
        "idempotency_key": new.idempotency_key,
        "body_digest": new.body_digest,
        "retry_of": new.retry_of,
    }
