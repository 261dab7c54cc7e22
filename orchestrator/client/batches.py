"""`Client.batches`: many requests at once; docs/batch.md."""

from __future__ import annotations

import io
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypedDict, Unpack

from orchestrator.client.paths import path, records
from orchestrator.client.records import Page, Record
from orchestrator.client.request_records import Request
from orchestrator.client.sending import Counted
from orchestrator.client.transport import Answer, Call, Transport
from orchestrator.errors import Unavailable

STORED_S = 900.0
"""How long the service may take for the lines after the last of them was sent."""
TRIES = 3
"""For the lines: the key makes them safe to send again."""
MEDIA = "application/jsonl"


@dataclass(frozen=True, kw_only=True)
class BatchCounts(Record):
    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    refused: int = 0

    @property
    def over(self) -> int:
        return self.succeeded + self.failed + self.canceled + self.expired


@dataclass(frozen=True, kw_only=True)
class RefusedLine(Record):
    line: int
    code: str
    message: str
    custom_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Batch(Record):
    id: str
    status: str
    is_terminal: bool
    counts: BatchCounts
    outcome: str | None = None
    reason: str | None = None
    reason_code: str | None = None
    template: str | None = None
    max_parallel: int | None = None
    gangs: int | None = None
    gpu_seconds: float | None = None
    rate_per_s: float | None = None
    eta_s: float | None = None
    labels: Mapping[str, Any] | None = None
    refusals: tuple[RefusedLine, ...] | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class BatchTerms(TypedDict, total=False):
    """What may be said of a batch; what is left out is the service's default."""

    max_parallel: int | None
    errors: str | None
    """`strict` or `items`."""
    max_failed: str | None
    """A number or a share (`10%`)."""
    on_max_failed: str | None
    """`stop` or `pause`."""
    priority: int | None
    expire_after: timedelta | None
    labels: Mapping[str, str] | None


class Batches:
    """One method for each thing that docs/batch.md offers."""

    def __init__(self, transport: Transport, send: Callable[..., Answer], sleep: Callable[[float], None]) -> None:
        self._transport = transport
        self._send = send
        self._sleep = sleep

    def submit(
        self,
        template: str,
        lines: str | Path | Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        sent: Callable[[int], None] | None = None,
        **terms: Unpack[BatchTerms],
    ) -> Batch:
        """Records a batch of the lines of a JSONL file, or of items as objects. `sent` is told of bytes as they go.

        Sent again when the answer is lost: the key, given or our own, makes that safe.
        """
        params: dict[str, str | int] = {"template": template, **_query(terms)}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), "Content-Type": MEDIA}
        call = Call(method="POST", path=path("batches"), params=params, headers=headers, wait_s=STORED_S)
        with _opened(lines) as content:
            for tried in range(1, TRIES + 1):
                content.seek(0)
                try:
                    body = content if isinstance(content, io.BytesIO) else Counted(content, sent)
                    return Batch.read(self._transport.upload(call, body).json())
                except Unavailable:
                    if tried == TRIES:
                        raise
                    self._sleep(0.5 * tried)
        raise AssertionError("tries is at least 1")

    def submit_named(
        self,
        template: str,
        *,
        file: str | None = None,
        url: str | None = None,
        idempotency_key: str | None = None,
        **terms: Unpack[BatchTerms],
    ) -> Batch:
        """Records a batch whose lines are an upload (`fil_…`) or in storage; they are looked at later."""
        said = {"template": template, "file": file, "url": url, **_terms(terms), "labels": terms.get("labels")}
        body = {name: value for name, value in said.items() if value is not None}
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return Batch.read(self._send("POST", path("batches"), body=body, headers=headers).json())

    def get(self, batch_id: str) -> Batch:
        return Batch.read(self._send("GET", path("batches", batch_id)).json())

    def list(
        self,
        *,
        status: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Batch]:
        """One page, newest first, of those that have all these labels."""
        params: dict[str, str | int] = {"limit": limit}
        params |= {f"label.{key}": value for key, value in (labels or {}).items()}
        if status:
            params["status"] = ",".join(status)
        if cursor:
            params["cursor"] = cursor
        return _page(Batch, self._send("GET", path("batches"), params=params).json())

    def items(
        self, batch_id: str, *, status: Sequence[str] = (), limit: int = 50, cursor: str | None = None
    ) -> Page[Request]:
        """One page, in the order of the lines."""
        params: dict[str, str | int] = {"limit": limit}
        if status:
            params["status"] = ",".join(status)
        if cursor:
            params["cursor"] = cursor
        return _page(Request, self._send("GET", path("batches", batch_id, "items"), params=params).json())

    def item(self, batch_id: str, custom_id: str) -> Request:
        return Request.read(self._send("GET", path("batches", batch_id, "items", custom_id)).json())

    def results(self, batch_id: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of results.jsonl as they come: a line for each item that is over, in the order of the lines."""
        return self._transport.stream(Call(method="GET", path=path("batches", batch_id, "results.jsonl")))

    def errors(self, batch_id: str) -> AbstractContextManager[Iterator[bytes]]:
        """Likewise of errors.jsonl: what did not succeed, as lines that can be sent again."""
        return self._transport.stream(Call(method="GET", path=path("batches", batch_id, "errors.jsonl")))

    def cancel(self, batch_id: str) -> Batch:
        """No item starts any more; what runs is asked to stop: `wait` for that."""
        return self._move(batch_id, "cancel")

    def delete(self, batch_id: str) -> None:
        """With all its items and what they left. Raises Conflict `not_terminal` while it is open, NotFound."""
        self._send("DELETE", path("batches", batch_id))

    def pause(self, batch_id: str) -> Batch:
        return self._move(batch_id, "pause")

    def resume(self, batch_id: str) -> Batch:
        """Goes on with a paused batch, or runs what is not done of one that is over."""
        return self._move(batch_id, "resume")

    def retry_item(self, batch_id: str, custom_id: str) -> Request:
        """A new request for an item that is over without success."""
        call = path("batches", batch_id, "items", custom_id, "retry")
        return Request.read(self._send("POST", call, repeatable=False).json())

    def watch(
        self,
        batch_id: str,
        *,
        every: timedelta = timedelta(seconds=1),
        timeout: timedelta | None = None,
        patience: timedelta = timedelta(minutes=3),
        on_silence: Callable[[Unavailable], None] | None = None,
    ) -> Iterator[Batch]:
        """Looks at the batch now and then `every` so often, until it is over or `timeout` is.

        The service may be away for `patience` once it has answered: `on_silence` is told, and watching goes on.
        """
        began = heard = time.monotonic()
        batch = self.get(batch_id)
        yield batch
        while not batch.is_terminal:
            left_s = math.inf if timeout is None else began + timeout.total_seconds() - time.monotonic()
            if left_s <= 0:
                return
            self._sleep(min(every.total_seconds(), left_s))
            try:
                batch = self.get(batch_id)
            except Unavailable as error:
                if time.monotonic() - heard > patience.total_seconds():
                    raise
                if on_silence is not None:
                    on_silence(error)
            else:
                heard = time.monotonic()
                yield batch

    def wait(self, batch_id: str, timeout: timedelta | None = None) -> Batch:
        """The batch that is over, or the unfinished one when `timeout` is: ask `.is_terminal`."""
        *_, last = self.watch(batch_id, timeout=timeout)
        return last

    def _move(self, batch_id: str, verb: str) -> Batch:
        return Batch.read(self._send("POST", path("batches", batch_id, verb)).json())


def _opened(lines: str | Path | Iterable[Mapping[str, Any]]) -> IO[bytes]:
    if isinstance(lines, str | Path):
        return Path(lines).open("rb")
    return io.BytesIO(b"".join(json.dumps(dict(one), allow_nan=False).encode() + b"\n" for one in lines))


def _terms(terms: BatchTerms) -> dict[str, Any]:
    """What is said, labels left aside."""
    said: dict[str, Any] = {name: value for name, value in terms.items() if name not in ("expire_after", "labels")}
    if (after := terms.get("expire_after")) is not None:
        said["expire_after_s"] = after.total_seconds()
    return {name: value for name, value in said.items() if value is not None}


def _query(terms: BatchTerms) -> dict[str, str]:
    labels = {f"label.{key}": value for key, value in (terms.get("labels") or {}).items()}
    return {name: str(value) for name, value in _terms(terms).items()} | labels


def _page(kind: type[Any], document: Any) -> Page[Any]:
    page = document if isinstance(document, dict) else {}
    return Page(data=records(kind, document), has_more=bool(page.get("has_more")), next_cursor=page.get("next_cursor"))
