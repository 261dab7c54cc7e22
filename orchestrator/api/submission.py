"""From a body to a recorded request: check everything, then write once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.input_schema import fit
from orchestrator.api.office import Office, Product
from orchestrator.domain.placement import Mode, Placed, PoolLoad, needs_history, place
from orchestrator.errors import Conflict, Invalid, NotFound, Unavailable
from orchestrator.store import express, requests, scheduling
from orchestrator.store.database import Tx
from orchestrator.store.new_request import NewRequest
from orchestrator.store.scheduling import Tick
from orchestrator.store.tokens import Identity

LabelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=255)]


class Submission(BaseModel):
    """A request as it is sent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    template: Annotated[str, Field(min_length=1, max_length=40, description="name of the template")]
    input: dict[str, Any] = Field(default_factory=dict, description="must fit the template's input schema")
    mode: Literal["auto", "warm", "batch"] = Field(
        default="auto", description="warm gang, fresh gang, or what is sooner"
    )
    priority: int = Field(default=0, ge=-1000, le=1000, description="minutes by which it goes ahead of others")
    timeout_s: float | None = Field(
        default=None, gt=0, le=31 * 86400, description="of one attempt; at most the template's"
    )
    expire_queued_after_s: float | None = Field(default=None, gt=0, le=31 * 86400, description="deadline to start")
    max_attempts: int | None = Field(default=None, ge=1, le=100)
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)

    @property
    def digest(self) -> bytes:
        """Equal requests, equal digest: what an Idempotency-Key is held to."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).digest()


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What became of a submission."""

    request_id: str
    replayed: bool
    tick: Tick


async def submit(here: Office, identity: Identity, body: Submission, key: str | None, request_id: str) -> Accepted:
    """Record the request durably and, where the pool is free, assign it in the same transaction.

    What was accepted under the key stays accepted, whatever became of the template since.
    """
    try:
        return await _submit(here, identity, body, key, request_id)
    except (NotFound, Invalid, Conflict):
        held = key and await here.transact(lambda tx: requests.replayed(tx, identity.tenant, key, body.digest))
        if not held:
            raise
        return Accepted(request_id=held, replayed=True, tick=Tick())


async def _submit(here: Office, identity: Identity, body: Submission, key: str | None, request_id: str) -> Accepted:
    product = await here.product(identity.tenant, body.template)
    values = fit(product.template.input, body.input)

    def work(tx: Tx) -> Accepted:
        placed, locked = _place(tx, product, Mode(body.mode))
        new = _new_request(request_id, identity, product, body, values, placed, key)
        tick = _record(tx, product, new, here.settings.lease, locked=locked)
        if tick is None:
            return Accepted(request_id=_holder(tx, new), replayed=True, tick=Tick())
        return Accepted(request_id=request_id, replayed=False, tick=tick)

    accepted = await here.transact(work)
    here.wake(gangs=accepted.tick.gangs, lease=accepted.tick.lease)
    if not accepted.replayed and not accepted.tick.gangs:
        here.ring("schedule" if accepted.tick.contended else "plan")
    return accepted


def _record(tx: Tx, product: Product, new: NewRequest, lease: timedelta, *, locked: bool) -> Tick | None:
    """Record it, and assign it where that can be done now. None if its idempotency key is taken."""
    pool_id = product.pool.id
    if locked and (chosen := express.free_gang(tx, pool_id, new.id, new.tenant, lease)):
        granted = express.record_and_assign(tx, new, chosen, product.pool.spec)
        return Tick(gangs=(granted.gang,), lease=granted) if granted else None
    if not requests.record(tx, new):
        return None
    return Tick() if new.placed.placement == "batch" else scheduling.assign_pool(tx, pool_id, lease)


def _place(tx: Tx, product: Product, mode: Mode) -> tuple[Placed, bool]:
    """The path, and whether a gang seems free and the pool's row is held."""
    load, locked = _load(tx, product, mode)
    placed = place(mode, load)
    if placed is None:
        raise Conflict(
            f"template {product.template.name!r} keeps no warm gangs (pool max is 0): use mode auto or batch",
            code="no_warm_pool",
        )
    return placed, locked


def _load(tx: Tx, product: Product, mode: Mode) -> tuple[PoolLoad, bool]:
    pool = product.pool
    if mode is Mode.BATCH:
        return PoolLoad(idle=0, busy=0, starting=0, queued=0, max_gangs=pool.max_gangs, run_s=None, cold_s=None), False
    load, locked = scheduling.load_and_lock(tx, pool)
    if mode is Mode.AUTO and needs_history(load):
        return scheduling.with_history(tx, pool, load), locked
    return load, locked


def _new_request(
    request_id: str,
    identity: Identity,
    product: Product,
    body: Submission,
    values: dict[str, Any],
    placed: Placed,
    key: str | None,
) -> NewRequest:
    template = product.template
    return NewRequest(
        id=request_id,
        tenant=identity.tenant,
        template=template.name,
        template_version=product.pool.version,
        pool_id=product.pool.id,
        mode=Mode(body.mode),
        placed=placed,
        priority=body.priority,
        input=values,
        labels=body.labels,
        timeout_s=min(body.timeout_s or template.limits.timeout_s, template.limits.timeout_s),
        start_within_s=body.expire_queued_after_s,
        max_attempts=min(body.max_attempts or template.retry.max_attempts, template.retry.max_attempts),
        max_crashes=template.retry.max_crashes,
        idempotency_key=key,
        body_digest=body.digest,
    )


def _holder(tx: Tx, new: NewRequest) -> str:
    found = requests.replayed(tx, new.tenant, new.idempotency_key or "", new.body_digest)
    if found is None:
        raise Unavailable("the request with this Idempotency-Key was just removed; send it again")
    return found
