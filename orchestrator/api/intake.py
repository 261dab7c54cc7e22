"""How a batch comes in: its lines are looked at as they come, and all of it is stored at once, or nothing.

Lines that come with a call are looked at while they come. Lines in a file or in storage are looked at later, by a loop,
so that the caller need not wait; until then the batch is validating.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator import storage
from orchestrator.api import input_files
from orchestrator.api.batch_checks import Checker
from orchestrator.api.batch_lines import Numbered, Splitter
from orchestrator.api.batch_shapes import BatchOrder
from orchestrator.api.input_schema import Form
from orchestrator.api.manifest import LISTED, Manifest
from orchestrator.api.office import Office, Product
from orchestrator.domain.ids import new_id
from orchestrator.domain.source_urls import check_url
from orchestrator.domain.states import BatchReason
from orchestrator.domain.template import Template
from orchestrator.domain.tracing import Trace
from orchestrator.errors import Invalid, MusterError, NotFound, TooMany, Unavailable
from orchestrator.settings import Settings
from orchestrator.store import batches, files, items, pools
from orchestrator.store.batches import NewBatch
from orchestrator.store.database import Database, Record, Tx

BLOCK_BYTES = 1 << 20
TOGETHER_BYTES = 1 << 18
"""Lines that are looked at in one go, off the event loop."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The batch, and whether it is an earlier one with the same key."""

    batch_id: str
    replayed: bool = False


@dataclass(frozen=True, kw_only=True)
class Caller:
    tenant: str
    key: str | None
    """The Idempotency-Key."""
    trace: Trace | None = None
    """Where in a trace the caller is."""


# ------------------------------------------------------------------------------------------------- lines with the call


async def take_lines(here: Office, caller: Caller, order: BatchOrder, parts: AsyncIterable[bytes]) -> Taken:
    """Look at the lines as they come and record the batch. Raises Invalid, TooMany; then nothing is stored."""
    with here.admission.sending(caller.tenant):
        return await _take(here, caller, order, parts)


async def _take(here: Office, caller: Caller, order: BatchOrder, parts: AsyncIterable[bytes]) -> Taken:
    product = await here.product(caller.tenant, order.template)
    if await here.look(lambda tx: batches.holds(tx, caller.tenant, caller.key)):
        return await _again(here, caller, order, parts)
    find = partial(_find, here.database, caller.tenant, product.form)
    with Manifest(
        Checker(product.template, product.form, find), here.settings.folder, strict=order.errors == "strict"
    ) as manifest:
        await _read(here, parts, manifest.take)
        digest = digest_of(order, manifest.close())
        new = new_batch(here.settings, product, caller, order, digest)
        stored = await here.thread(lambda: _store(here.database, product.template, here.settings, new, manifest))
    if not stored:
        return await _held(here, caller, digest)
    here.ring("plan")
    here.ring("batches")
    return Taken(batch_id=new.id)


async def _again(here: Office, caller: Caller, order: BatchOrder, parts: AsyncIterable[bytes]) -> Taken:
    """The key was used: only whether these are the same lines is of interest."""
    seen = hashlib.sha256()

    def note(lines: list[Numbered]) -> None:
        for line in lines:
            seen.update(line.raw + b"\n")

    await _read(here, parts, note)
    return await _held(here, caller, digest_of(order, seen.digest()))


async def _held(here: Office, caller: Caller, digest: bytes) -> Taken:
    key = caller.key or ""
    held = await here.look(lambda tx: batches.replayed(tx, caller.tenant, key, digest))
    if held is None:
        raise Unavailable("the batch with this Idempotency-Key was just removed; send it again")
    return Taken(batch_id=held, replayed=True)


async def _read(here: Office, parts: AsyncIterable[bytes], take: Any) -> None:
    """Every line once, many at a time, on a thread."""
    splitter, lines, size = Splitter(), list[Numbered](), 0
    async for part in parts:
        new = splitter.feed(part)
        lines += new
        size += len(part)
        if size >= TOGETHER_BYTES and lines:
            await here.thread(partial(take, lines))
            lines, size = [], 0
    lines += splitter.last()
    await here.thread(partial(take, lines))


def digest_of(order: BatchOrder, lines: bytes) -> bytes:
    """Equal parameters and equal lines, equal digest."""
    said = json.dumps(order.model_dump(exclude_unset=True), sort_keys=True)
    return hashlib.sha256(said.encode() + b"\n" + lines).digest()


def _find(database: Database, tenant: str, form: Form, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return database.transact(lambda tx: input_files.find(tx, tenant, form.files, values))


def new_batch(settings: Settings, product: Product, caller: Caller, order: BatchOrder, digest: bytes) -> NewBatch:
    """What is recorded of an order; `digest`: of it and its lines."""
    policy = product.template.batch
    return NewBatch(
        id=new_id("bat"),
        tenant=caller.tenant,
        template=product.template.name,
        template_version=product.pool.version,
        pool_id=product.pool.id,
        source=order.file or order.url,
        strict=order.errors == "strict",
        max_parallel=order.max_parallel or policy.max_gangs,
        shared=policy.share_pool,
        max_failed=order.max_failed,
        on_max_failed=order.on_max_failed,
        priority=order.priority,
        labels=order.labels,
        expire_after_s=order.expire_after_s,
        idempotency_key=caller.key,
        body_digest=digest,
        traceparent=caller.trace.parent if caller.trace else None,
    )


def _store(database: Database, template: Template, settings: Settings, new: NewBatch, manifest: Manifest) -> bool:
    """All of it in one transaction; False if another batch holds the key."""

    def work(tx: Tx) -> bool:
        if not record(tx, settings, new):
            return False
        _accept(tx, template, settings, new.id, manifest)
        return True

    return database.transact(work)


def record(tx: Tx, settings: Settings, new: NewBatch) -> bool:
    """False if another batch holds the key. Raises TooMany where the tenant has all the open batches that it may."""
    if batches.count_open(tx, new.tenant) >= settings.max_open_batches:
        raise TooMany(
            f"this tenant has {settings.max_open_batches} open batches, which is all it may have",
            code="too_many_batches",
            retry_after_s=5,
        )
    return batches.record(tx, new) is not None


def _accept(tx: Tx, template: Template, settings: Settings, batch_id: str, manifest: Manifest) -> None:
    kept_s = (settings.output_retention.total_seconds(), template.limits.output_ttl_s)
    ttl_s = min(seconds for seconds in kept_s if seconds is not None)
    for rows in manifest.rows():
        items.record(tx, batch_id, rows, max_crashes=template.retry.max_crashes, output_ttl_s=ttl_s)
    for refusals in manifest.all_refusals():
        batches.note_refusals(tx, batch_id, refusals)
    batches.accept(tx, batch_id, manifest.items)


# ----------------------------------------------------------------------------------------------------- lines elsewhere


async def take_name(here: Office, caller: Caller, order: BatchOrder) -> Taken:
    """Record a batch that names a file or a place in storage. Raises Invalid, NotFound."""
    product = await here.product(caller.tenant, order.template)
    if order.file is not None:
        await here.transact(lambda tx: files.hold(tx, caller.tenant, str(order.file)))
    elif order.url is not None:
        check_source(here.settings, caller.tenant, order.url)
    digest = digest_of(order, b"")
    new = new_batch(here.settings, product, caller, order, digest)
    if not await here.transact(lambda tx: record(tx, here.settings, new)):
        return await _held(here, caller, digest)
    here.ring("read")
    return Taken(batch_id=new.id)


def check_source(settings: Settings, tenant: str, url: str) -> None:
    """Raises Invalid for what the operator does not let this tenant name."""
    check_url(url, settings.batch_urls, tenant=tenant, own=settings.outputs)


def read_named(database: Database, settings: Settings, batch: Record) -> None:
    """Look at the lines of a validating batch, then accept it with all its items, or refuse it. For the loop."""
    pool = database.transact(lambda tx: pools.get(tx, batch.pool_id))
    template = Template.model_validate(pool.spec)
    form = Form(template.input)
    checker = Checker(template, form, partial(_find, database, batch.tenant, form))
    with Manifest(checker, settings.folder, strict=batch.strict) as manifest:
        try:
            _read_source(database, batch, manifest)
            manifest.close()
        except Unavailable:
            raise
        except (Invalid, NotFound) as error:
            _refuse(database, batch, manifest, error)
        else:
            database.transact(lambda tx: _accept_named(tx, template, settings, batch, manifest))


def _accept_named(tx: Tx, template: Template, settings: Settings, batch: Record, manifest: Manifest) -> None:
    """Unless somebody else did, or it was canceled meanwhile."""
    if batches.is_validating(tx, batch.id):
        _accept(tx, template, settings, batch.id, manifest)


def _refuse(database: Database, batch: Record, manifest: Manifest, error: MusterError) -> None:
    unreadable = isinstance(error, NotFound)
    reason = BatchReason.UNREADABLE if unreadable else BatchReason.REFUSED
    first = manifest.refusals[:LISTED]
    database.transact(lambda tx: batches.refuse(tx, batch.id, reason, error.message, first))


def _read_source(database: Database, batch: Record, manifest: Manifest) -> None:
    """Raises NotFound for what cannot be read, though it may be there later: the batch is sent again then."""
    uri = batch.source
    if uri.startswith("fil_"):
        uri = database.transact(lambda tx: files.hold(tx, batch.tenant, batch.source)).uri
    splitter = Splitter()
    try:
        with storage.reading(*storage.place(uri)) as source:
            while block := source.read(BLOCK_BYTES):
                manifest.take(splitter.feed(block))
    except MusterError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        raise NotFound(f"{batch.source} cannot be read: {type(error).__name__}") from error
    manifest.take(splitter.last())
