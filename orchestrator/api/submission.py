"""From a body to a recorded request: check everything, then write once."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from orchestrator.api import input_files, webhooks
from orchestrator.api.office import Office, Product
from orchestrator.api.webhooks import RequestHook
from orchestrator.domain.access import Identity
from orchestrator.domain.placement import Mode
from orchestrator.domain.strict import Sent
from orchestrator.domain.template import Template
from orchestrator.domain.tracing import Trace
from orchestrator.domain.wording import spelt
from orchestrator.store import claims
from orchestrator.store.orders import Accepted, NewRequest, Order

LABEL_KEY = spelt(r"^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$", "letters, digits and _ . / -, up to 63")
LabelKey = Annotated[str, Field(pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(max_length=255)]


LONGEST_S = 31 * 86400.0


class Submission(Sent):
    """A request as it is sent."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"template": "digits", "input": {"digit": 3}, "labels": {"team": "ads"}}]}
    )

    template: Annotated[str, Field(min_length=1, max_length=40, description="name of the template")]
    input: dict[str, Any] = Field(default_factory=dict, description="must fit the template's input schema")
    mode: Literal["auto", "warm", "batch"] = Field(
        default="auto", description="warm gang, fresh gang, or what is sooner"
    )
    priority: int = Field(default=0, ge=-1000, le=1000, description="minutes by which it goes ahead of others")
    timeout_s: float | None = Field(
        default=None, gt=0, le=LONGEST_S, description="of one attempt; at most the template's"
    )
    expire_queued_after_s: float | None = Field(default=None, gt=0, le=LONGEST_S, description="deadline to start")
    max_attempts: int | None = Field(default=None, ge=1, le=100)
    output_ttl_s: float | None = Field(
        default=None, gt=0, le=3650 * 86400, description="how long its outputs are kept; at most the operator's bound"
    )
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)
    webhook: RequestHook | None = Field(default=None, description="where its moves are told")

    @property
    def digest(self) -> bytes:
        """Equal requests, equal digest: what an Idempotency-Key is held to."""
        said = {key: value for key, value in self.model_dump().items() if value is not None or key not in _NEWER}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


_NEWER = frozenset({"output_ttl_s", "webhook"})
"""Fields that older replicas do not know: unsaid, they change no digest, so keys hold over an upgrade."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a request is to be known by."""

    request_id: str
    own: bool = False
    """The caller chose the ID: whoever holds it already is the same request, or the call is refused."""
    key: str | None = None
    """The Idempotency-Key."""
    retry_of: str | None = None
    trace: Trace | None = None
    """Where in a trace its caller is."""

    def digest(self, body: Submission) -> bytes:
        """What the key or ID is held to: a retry is never the same as a submit, whatever it says."""
        if self.retry_of is None:
            return body.digest
        return hashlib.sha256(f"retry of {self.retry_of}\n".encode() + body.digest).digest()

    async def holder(self, here: Office, tenant: str, body: Submission) -> str | None:
        """The request that was accepted under the key or ID before. Raises Invalid if its body was another."""
        digest = self.digest(body)
        if self.own:
            return await here.look(lambda tx: claims.same(tx, tenant, self.request_id, digest))
        if key := self.key:
            return await here.look(lambda tx: claims.replayed(tx, tenant, key, digest))
        return None


async def submit(here: Office, identity: Identity, body: Submission, claim: Claim) -> Accepted:
    """Record the request durably and, where a gang of the pool is free, assign it at once.

    Without a row: another request holds the key or the ID, see `Claim.holder`.
    """
    begun = time.time()
    await here.admission.check_rate(identity.tenant)
    product = await here.product(identity.tenant, body.template)
    values = await product.form.fit_soon(body.input)
    named = product.form.files
    files = await here.transact(lambda tx: input_files.find(tx, identity.tenant, named, values)) if named else {}
    new = new_request(claim, identity.tenant, product, body, values, files, here.settings.output_retention)
    async with here.admission.admitted(identity.tenant, new.pool_id):
        if body.webhook is not None:
            await webhooks.hear(here, identity.tenant, claim.request_id, claim.digest(body), body.webhook)
        accepted = await here.accept(Order(new=new, pool=product.pool))
    if here.traces is not None and accepted.row is not None:
        here.traces.submitted(new.id, claim.trace, begun, time.time())
    if accepted.lease is not None:
        here.wake(gangs=[accepted.lease.gang], lease=accepted.lease)
    elif accepted.row is not None:
        alone = accepted.row.placement == "batch"
        here.queued(product.pool.id, None if alone else accepted.load)
    return accepted


def new_request(
    claim: Claim,
    tenant: str,
    product: Product,
    body: Submission,
    values: dict[str, Any],
    files: dict[str, dict[str, Any]],
    retention: timedelta,
) -> NewRequest:
    """What is recorded of a body whose `values` fit, and whose `files` were found."""
    template = product.template
    kept_s = (retention.total_seconds(), template.limits.output_ttl_s, body.output_ttl_s)
    return NewRequest(
        id=claim.request_id,
        tenant=tenant,
        template=template.name,
        template_version=product.pool.version,
        pool_id=product.pool.id,
        mode=Mode(body.mode),
        priority=body.priority,
        input=values,
        files=files,
        labels=body.labels,
        start_within_s=body.expire_queued_after_s,
        **bounds(template, body),
        max_crashes=template.retry.max_crashes,
        idempotency_key=claim.key,
        body_digest=claim.digest(body),
        retry_of=claim.retry_of,
        traceparent=claim.trace.parent if claim.trace else None,
        tracestate=claim.trace.state if claim.trace else None,
        output_ttl_s=min(seconds for seconds in kept_s if seconds is not None),
    )


def bounds(template: Template, body: Submission) -> dict[str, Any]:
    """What the caller asked for, or the template's where that is less."""
    return {
        "timeout_s": min(body.timeout_s or template.limits.timeout_s, template.limits.timeout_s),
        "max_attempts": min(body.max_attempts or template.retry.max_attempts, template.retry.max_attempts),
    }
