"""Hears which requests and batches ended here, reads what was recorded of them, and has their spans sent; on a thread
of its own, so that nobody waits."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from orchestrator.domain.moved import Moved
from orchestrator.domain.tracing import Trace, Tracing
from orchestrator.errors import MusterError
from orchestrator.traces import drawing
from orchestrator.traces.drawing import Row, Span
from orchestrator.traces.exporting import Sink

log = logging.getLogger("muster.traces")

ENDS = frozenset({"succeed", "fail", "cancel", "end_cancel", "expire"})
BATCH_ENDS = frozenset({"complete", "cancel", "expire", "fail", "refuse"})
MOST = 10_000
"""Ends that wait to be read; what comes on top has no trace."""
TOGETHER = 100
LOOK_S = 0.5
Read = Callable[[Sequence[str]], Sequence[Row]]
"""Rows by IDs, as `store.tracing` reads them."""


class Traces:
    """Of one replica. Every method may be called from any thread and returns at once, but for `close`."""

    def __init__(self, how: Tracing, sink: Sink, requests: Read, batches: Read) -> None:
        self.how = how
        self._sink = sink
        self._read = {"request": requests, "batch": batches}
        self._ended: queue.Queue[tuple[str, str]] = queue.Queue(MOST)
        self._dropped = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="muster-traces", daemon=True)
        self._thread.start()

    def told(self, moved: Sequence[Moved]) -> None:
        """Moves that were committed here."""
        for one in moved:
            if one.request is not None and one.move in ENDS:
                self._put("request", one.request)
            elif one.batch is not None and one.request is None and not one.items and one.move in BATCH_ENDS:
                self._put("batch", one.batch)

    def submitted(self, request_id: str, said: Trace | None, begin_s: float, end_s: float) -> None:
        """The call that recorded a request was answered."""
        span = drawing.submitted(request_id, said, self.how, begin_s, end_s)
        if span is not None:
            self._sink.send([span])

    def close(self, patience: timedelta = timedelta(seconds=5)) -> None:
        """Send what ended until now."""
        self._over.set()
        self._thread.join(timeout=patience.total_seconds())
        self._sink.close()

    def _put(self, kind: str, subject: str) -> None:
        try:
            self._ended.put_nowait((kind, subject))
        except queue.Full:
            self._dropped += 1

    def _work(self) -> None:
        while not (self._over.is_set() and self._ended.empty()):
            if group := self._group():
                self._tell(group)
            if self._dropped:
                log.warning("%d requests without a trace: too many ended at once", self._dropped, extra=DROPPED)
                self._dropped = 0

    def _group(self) -> list[tuple[str, str]]:
        """What ended, as much as there is; waits a little for the first."""
        try:
            group = [self._ended.get(timeout=LOOK_S)]
        except queue.Empty:
            return []
        while len(group) < TOGETHER and not self._ended.empty():
            group.append(self._ended.get())
        return group

    def _tell(self, group: Sequence[tuple[str, str]]) -> None:
        try:
            self._sink.send(self._spans(group))
        except MusterError as error:
            log.warning("no traces of %d requests: %s", len(group), error.message, extra=DROPPED)
        except Exception:
            log.exception("a defect in traces", extra={"action": "defect"})

    def _spans(self, group: Sequence[tuple[str, str]]) -> Iterator[Span]:
        draw = {"request": drawing.request, "batch": drawing.batch}
        for kind, read in self._read.items():
            if ids := [subject for which, subject in group if which == kind]:
                for row in read(ids):
                    yield from draw[kind](row, self.how)


DROPPED = {"action": "traces_dropped"}
