"""The thread that brings a rank's logs to the service, and the bounded waits of those who need them to have arrived."""

import threading
import time
from collections.abc import Callable

from inference.backoff import delays
from inference.capture import Capture
from inference.logs import Buffer
from inference.service import Over, Refused, Service, Stale, Unreachable

WAIT_BEFORE_FINISH_S = 2.0
WAIT_BEFORE_EXIT_S = 1.5
FLUSH_S = 0.7


class Shipping:
    def __init__(self, rank: int, service: Service) -> None:
        self._rank = rank
        self._service = service
        self._flush_s = 1.0
        self._hurry = threading.Event()
        self._known = threading.Event()
        self._over = False
        self._buffer = Buffer()
        self.capture = Capture(rank, self._buffer)

    def start(self) -> None:
        self.capture.start()
        threading.Thread(target=self._ship, name="muster-logs", daemon=True).start()

    def enter_incarnation(self, flush_s: float) -> None:
        """From now on the service takes logs."""
        self._flush_s = flush_s
        self._known.set()

    def request_ended(self, request: str, *, wait: bool) -> None:
        """Sends the request's lines at once. `wait`: until they arrived, within bounds."""
        self.capture.turn_to(None)
        if not wait:
            self._hurry.set()
            return
        deadline = time.monotonic() + WAIT_BEFORE_FINISH_S
        self.capture.wait_until_read(WAIT_BEFORE_FINISH_S)
        self._wait_while(lambda: self._buffer.holds(request), deadline)

    def flush(self) -> None:
        """What was written until now, on its way to the service. Bounded."""
        self.capture.wait_until_read(FLUSH_S)
        if self._known.is_set():
            self._wait_while(lambda: not self._buffer.is_empty(), time.monotonic() + FLUSH_S)

    def close(self) -> None:
        """Before the process ends. Bounded."""
        self.capture.close()
        if self._known.is_set():
            self._wait_while(lambda: not self._buffer.is_empty(), time.monotonic() + WAIT_BEFORE_EXIT_S)

    def _wait_while(self, pending: Callable[[], bool], deadline: float) -> None:
        with self._buffer.filled:
            if self._over or not pending():
                return
            self._hurry.set()
            self._buffer.filled.wait_for(lambda: self._over or not pending(), max(0.0, deadline - time.monotonic()))

    def _ship(self) -> None:
        self._known.wait()
        while not self._over:
            with self._buffer.filled:
                self._buffer.filled.wait_for(lambda: not self._buffer.is_empty())
            self._hurry.wait(self._flush_s)  # lines come in bursts: let one gather, unless someone waits for it
            self._hurry.clear()
            self._send()

    def _send(self) -> None:
        """One batch, until it arrived or can never arrive."""
        chunks = [chunk.as_json() for chunk in self._buffer.take()]
        for delay in delays():
            try:
                self._service.logs(self._rank, chunks, give_up_s=0.0)
            except Unreachable:
                time.sleep(delay)
                continue
            except Over:
                self._over = True
            except (Stale, Refused):
                pass  # nothing to be done about these lines; newer ones may fare better
            self._buffer.settle()
            return
