"""`Client`, requests: from the submit to what they wrote, and the files that they name; docs/rest.md."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Unpack

from orchestrator.client.caller import Caller
from orchestrator.client.explaining import Explanation
from orchestrator.client.paths import path as _path
from orchestrator.client.paths import records as _records
from orchestrator.client.records import Page
from orchestrator.client.request_records import Event, File, LogChunk, Output, Request, Validation
from orchestrator.client.saving import Incomplete, safe_name, save
from orchestrator.client.sending import Counted, plain_name
from orchestrator.client.streaming import HEARTBEAT_S, Update, follow
from orchestrator.client.transport import Call
from orchestrator.client.wanted import Wanted, asked, said
from orchestrator.errors import NotFound, Unavailable

EVERY = timedelta(seconds=20)  # how long one long-poll hangs
PATIENCE = timedelta(minutes=3)  # how long a watcher outlives a silent service


class Requests(Caller):
    """One method for each thing that is done with a request."""

    def submit(
        self,
        template: str,
        input: Mapping[str, Any] | None = None,
        *,
        mode: str = "auto",
        priority: int = 0,
        timeout: timedelta | None = None,
        expire_queued_after: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        wait: timedelta | None = None,
        request_id: str | None = None,
        webhook: Mapping[str, Any] | None = None,
    ) -> Request:
        """Records a request. A key of our own making keeps a repeated try from recording a second one.

        `request_id`: an ID of the caller's own, `req_` and a ULID in lower case, which then does what the key does.
        `webhook`: `{"url", "events"}`, told of this request alone.
        """
        body = _submission(template, input, mode, priority, timeout, expire_queued_after, labels)
        if webhook:
            body["webhook"] = dict(webhook)
        wait_s, headers = _preferring(wait)
        method, path = ("POST", "/v1/requests") if request_id is None else ("PUT", _request(request_id))
        if request_id is None:
            headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        return Request.read(self._send(method, path, body=body, headers=headers, wait_s=wait_s).json())

    def validate(
        self,
        template: str,
        input: Mapping[str, Any] | None = None,
        *,
        mode: str = "auto",
        priority: int = 0,
        timeout: timedelta | None = None,
        expire_queued_after: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Validation:
        """What `submit` would say, and raise, without recording anything."""
        body = _submission(template, input, mode, priority, timeout, expire_queued_after, labels)
        return Validation.read(self._send("POST", "/v1/requests:validate", body=body).json())

    def retry(self, request_id: str, *, idempotency_key: str | None = None, wait: timedelta | None = None) -> Request:
        """A new request that asks for the same as this ended one. Raises Conflict `not_terminal` while it is open."""
        wait_s, headers = _preferring(wait)
        headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        return Request.read(self._send("POST", _request(request_id, "retry"), headers=headers, wait_s=wait_s).json())

    def delete(self, request_id: str) -> None:
        """Deletes an ended request with its files, events and logs; one that is deleted already is no error.

        Raises Conflict `not_terminal` while it is open, NotFound if there never was one.
        """
        try:
            self._send("DELETE", _request(request_id))
        except NotFound as error:
            if error.code != "purged":
                raise

    def get(self, request_id: str, *, wait: timedelta | None = None) -> Request:
        """The request as it is now, or as it is when terminal if that comes within `wait` (whole seconds)."""
        wait_s = int(wait.total_seconds()) if wait else 0
        params = {"wait": wait_s} if wait_s else {}
        return Request.read(self._send("GET", _request(request_id), params=params, wait_s=wait_s).json())

    def wait(self, request_id: str, timeout: timedelta | None = None) -> Request:
        """The terminal request, or the unfinished one when `timeout` is over: ask `.is_terminal`."""
        *_, last = self.watch(request_id, every=EVERY, timeout=timeout)
        return last

    def watch(
        self,
        request_id: str,
        *,
        every: timedelta = timedelta(seconds=1),
        timeout: timedelta | None = None,
        patience: timedelta = PATIENCE,
        on_silence: Callable[[Unavailable], None] | None = None,
    ) -> Iterator[Request]:
        """Looks at the request now and then `every` so often, until it is terminal or `timeout` is over.

        The service may be away for `patience`: `on_silence` is told, and watching goes on.
        """
        began = heard = time.monotonic()
        request = self.get(request_id)
        yield request
        while not request.is_terminal:
            left_s = math.inf if timeout is None else began + timeout.total_seconds() - time.monotonic()
            if left_s <= 0:
                return
            asked = time.monotonic()
            pause = timedelta(seconds=min(every.total_seconds(), left_s))
            try:
                request = self.get(request_id, wait=pause)
                heard = time.monotonic()
            except Unavailable as error:
                if time.monotonic() - heard > patience.total_seconds():
                    raise
                if on_silence is not None:
                    on_silence(error)
            else:
                yield request
            if not request.is_terminal:  # a service that did not hold the answer back must not be hammered
                self._sleep(max(0.0, pause.total_seconds() - (time.monotonic() - asked)))

    def list(self, *, limit: int = 50, cursor: str | None = None, **wanted: Unpack[Wanted]) -> Page[Request]:
        """One page of the requests that are wanted, newest first. A cursor is good for the same ones only."""
        params: dict[str, str | int] = {**asked(wanted), "limit": limit}
        if cursor:
            params["cursor"] = cursor
        document = self._send("GET", "/v1/requests", params=params).json()
        page = document if isinstance(document, dict) else {}
        return Page(
            data=_records(Request, document),
            has_more=bool(page.get("has_more")),
            next_cursor=page.get("next_cursor"),
        )

    def iterate(self, **wanted: Unpack[Wanted]) -> Iterator[Request]:
        """All requests that are wanted, newest first, page after page."""
        cursor: str | None = None
        while True:
            page = self.list(limit=200, cursor=cursor, **wanted)
            yield from page.data
            if not page.has_more or page.next_cursor in (None, cursor):
                return
            cursor = page.next_cursor

    def cancel(self, request_id: str) -> Request:
        """Asks for the end; canceling is not canceled: `wait` for that."""
        return Request.read(self._send("POST", _request(request_id, "cancel")).json())

    def events(self, request_id: str) -> tuple[Event, ...]:
        """Every move until now; `follow_events` goes on."""
        return _records(Event, self._send("GET", _request(request_id, "events")).json())

    def logs(
        self, request_id: str, *, rank: str | int = 0, tail: int = 200, since: str | datetime | None = None
    ) -> str:
        """Log lines of a rank, of some (`"1,3"`) or of `"all"`; then every line starts with its rank, `[r1] `."""
        params: dict[str, str | int] = {"rank": rank, "tail": tail}
        if since is not None:
            params["since"] = said("since", since) if isinstance(since, datetime) else since
        return self._send("GET", _request(request_id, "logs"), params=params).text()

    def explain(self, request_id: str) -> Explanation:
        """Why it waits, what it does, or why it failed; and what to do about it."""
        return Explanation.read(self._send("GET", _request(request_id, "explain")).json())

    def follow_events(
        self,
        request_id: str,
        *,
        logs: bool = False,
        rank: str | int = 0,
        after: str | None = None,
        patience: timedelta = PATIENCE,
        on_silence: Callable[[Unavailable], None] | None = None,
    ) -> Iterator[Update]:
        """What happens to the request, from its first move (or `after` an update's ID) until `done`.

        Kinds: `status`, `progress`, `log` (if `logs`), `output`, `done`. After a break, over any replica, it goes on
        where it was: no status, log or output is missed or comes twice. The service may be away for `patience`.
        """
        params: dict[str, str | int] = {"logs": "true", "rank": rank} if logs else {}
        call = Call(method="GET", path=_request(request_id, "events"), params=params, wait_s=HEARTBEAT_S)
        return self._follow(call, after, patience, on_silence)

    def follow_logs(
        self,
        request_id: str,
        *,
        rank: str | int = 0,
        tail: int = 200,
        since: str | datetime | None = None,
        patience: timedelta = PATIENCE,
        on_silence: Callable[[Unavailable], None] | None = None,
    ) -> Iterator[LogChunk]:
        """The last lines of some ranks and what they go on writing, until the request has ended and all of it is here.

        `since`: `5m`, `2h`, `1d` or a moment with a zone. `rank="all"` follows the first 64.
        """
        params: dict[str, str | int] = {"rank": rank, "tail": tail}
        if since is not None:
            params["since"] = said("since", since) if isinstance(since, datetime) else since
        call = Call(method="GET", path=_request(request_id, "logs"), params=params, wait_s=HEARTBEAT_S)
        for update in self._follow(call, None, patience, on_silence):
            if update.kind == "log":
                yield LogChunk.read(update.data)

    def _follow(
        self,
        call: Call,
        after: str | None,
        patience: timedelta,
        on_silence: Callable[[Unavailable], None] | None,
    ) -> Iterator[Update]:
        return follow(
            lambda headers: self._transport.stream(replace(call, headers=headers)),
            after=after,
            patience=patience,
            on_silence=on_silence,
            sleep=self._sleep,
        )

    def outputs(self, request_id: str) -> tuple[Output, ...]:
        return _records(Output, self._send("GET", _request(request_id, "outputs")).json())

    def download(self, request_id: str, name: str, folder: str | Path = ".", *, save_as: str | None = None) -> Path:
        """Saves one output into `folder`, checked by size and sha256; returns its path."""
        output = next((one for one in self.outputs(request_id) if one.name == name), None)
        if output is None:
            raise NotFound(f"{request_id} has no output {name!r}: `muster get {request_id}` lists them")
        return self.save_output(request_id, output, Path(folder) / safe_name(save_as or name))

    def save_output(self, request_id: str, output: Output, path: Path, *, tries: int = 3) -> Path:
        """Like `download`, for an output already at hand and a path of the caller's own choice."""
        path.parent.mkdir(parents=True, exist_ok=True)
        call = Call(method="GET", path=_request(request_id, "outputs", output.name))
        for tried in range(1, tries + 1):
            try:
                with self._transport.stream(call) as chunks:
                    save(chunks, path, size_bytes=output.bytes, sha256=output.sha256)
                    return path
            except (Incomplete, Unavailable):
                if tried == tries:
                    raise
                self._sleep(0.5 * tried)
        raise AssertionError("tries is at least 1")

    def upload(self, path: str | Path, *, sent: Callable[[int], None] | None = None) -> File:
        """Stores a file for requests to name. `sent` is told of bytes as they go; they must be the bytes that came."""
        path = Path(path)
        name = plain_name(path.name)
        call = Call(method="POST", path="/v1/files", params={"name": name}, repeatable=False)
        with path.open("rb") as content:
            counted = Counted(content, sent)
            file = File.read(self._transport.upload(call, counted).json())
        if file.sha256 != counted.sha256:
            raise Unavailable(f"{path} changed on the way: send it again", code="incomplete_upload")
        return file


def _preferring(wait: timedelta | None) -> tuple[int, dict[str, str]]:
    """In whole seconds, and what asks the service to hold the answer back for so long."""
    wait_s = math.ceil(wait.total_seconds()) if wait else 0
    return wait_s, {"Prefer": f"wait={wait_s}"} if wait_s else {}


def _submission(
    template: str,
    input: Mapping[str, Any] | None,
    mode: str,
    priority: int,
    timeout: timedelta | None,
    expire_queued_after: timedelta | None,
    labels: Mapping[str, str] | None,
) -> dict[str, Any]:
    """What is not given is not sent."""
    body: dict[str, Any] = {"template": template, "input": dict(input or {}), "mode": mode, "priority": priority}
    if timeout is not None:
        body["timeout_s"] = timeout.total_seconds()
    if expire_queued_after is not None:
        body["expire_queued_after_s"] = expire_queued_after.total_seconds()
    if labels:
        body["labels"] = dict(labels)
    return body


def _request(request_id: str, *parts: str) -> str:
    return _path("requests", request_id, *parts)
