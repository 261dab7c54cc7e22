"""Sends what the outbox holds: claim, commit, send, record. Never a call inside a transaction.

A receiver that is slow or dead holds up only its own lane (`domain.lanes`). A replica that dies between sending and
recording leaves a claim that runs out: the message is sent again, with the same ID.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta

from orchestrator.domain.lanes import SLOTS, choose
from orchestrator.domain.webhooks import DeliveryState, Keys, Message, Seed, keys, signed
from orchestrator.errors import MusterError
from orchestrator.loops.desk import Desk, Report
from orchestrator.loops.egress import Egress
from orchestrator.store import outbox
from orchestrator.store.database import Record
from orchestrator.store.outbox import DISABLED, Answer

log = logging.getLogger("muster.deliver")

STALE_S = outbox.CLAIM.total_seconds() / 2
"""A send that begins so long after its claim could meet another replica's."""
_MOST_AILING = 10_000


class Sender:
    """One replica's open sends, on an event loop and a thread of their own that exist once something is to be sent."""

    def __init__(
        self,
        egress: Egress,
        sent: Callable[[str], None] = lambda _: None,
        gave_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`sent` is told the outcome of every try, `gave_up` that a message is tried no more.

        Both are called from threads of their own.
        """
        self._egress = egress
        self._sent = sent
        self._gave_up = gave_up
        self._lock = threading.Lock()
        self._open: dict[Future[None], str] = {}
        self._ailing: set[str] = set()
        self._done = Report()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recorders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="muster-deliver")

    def run_once(self, desk: Desk) -> Report:
        """Begin to send what is due and fits; reports what came to an end since the last pass."""
        with self._lock:
            open_, ailing = list(self._open.values()), set(self._ailing)
        if len(open_) < SLOTS:
            due = desk.database.look(outbox.due)
            claimed = self._claim(desk, choose(due, open_, ailing))
            for one in claimed:
                self._begin(desk, one)
        with self._lock:
            done, self._done = self._done, Report()
        return done

    def settle(self, patience: timedelta) -> None:
        """Wait for the open sends."""
        with self._lock:
            open_ = list(self._open)
        wait(open_, timeout=patience.total_seconds())

    def close(self, patience: timedelta = timedelta(seconds=3)) -> None:
        """Let open sends end; what does not is sent again by whoever comes next."""
        self.settle(patience)
        with self._lock:
            loop, self._loop = self._loop, None
            open_ = list(self._open)
        for one in open_:
            one.cancel()
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout=5)
        self._recorders.shutdown(wait=False)

    def _claim(self, desk: Desk, chosen: Sequence[Record]) -> Sequence[Record]:
        return desk.database.single(lambda tx: outbox.claim(tx, chosen)) if chosen else ()

    def _begin(self, desk: Desk, one: Record) -> None:
        sending = asyncio.run_coroutine_threadsafe(self._deliver(desk, one, time.monotonic()), self._running())
        with self._lock:
            self._open[sending] = one.lane
        sending.add_done_callback(self._ended)

    def _ended(self, sending: Future[None]) -> None:
        with self._lock:
            self._open.pop(sending, None)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            log.error("a defect in deliver", exc_info=error, extra={"action": "defect", "duty": "deliver"})

    async def _deliver(self, desk: Desk, one: Record, claimed_at: float) -> None:
        if time.monotonic() - claimed_at > STALE_S:
            return
        answer = await self._send(desk, one)
        self._sent(answer.outcome)
        await asyncio.get_running_loop().run_in_executor(self._recorders, self._record, desk, one, answer)

    async def _send(self, desk: Desk, one: Record) -> Answer:
        if one.disabled:
            return Answer(error=DISABLED)
        secrets = _secrets(keys(desk.settings.webhook_keys), one)
        if not secrets:
            return Answer(error="no_key")
        message = Message(subject=one.subject, seq=one.seq, type=one.type, status=one.status, at=one.at, more=one.more)
        body = message.body(desk.settings.public_url)
        return await self._egress.post(one.url, signed(message.id, body, secrets, one.now), body)

    def _record(self, desk: Desk, one: Record, answer: Answer) -> None:
        """What cannot be recorded now is sent again when the claim has run out."""
        chance = random.random()  # noqa: S311 - jitter
        try:
            state = desk.database.transact(lambda tx: outbox.settle(tx, one, answer, chance))
        except MusterError as error:
            said = {"action": "delivery_unrecorded", "webhook": one.webhook_id}
            log.warning("cannot record a delivery: %s", error.message, extra=said)
            return
        with self._lock:
            self._note(one, answer, state)

    def _note(self, one: Record, answer: Answer, state: DeliveryState | None) -> None:
        if answer.delivered:
            self._ailing.discard(one.lane)
        elif len(self._ailing) < _MOST_AILING:
            self._ailing.add(one.lane)
        verb = {DeliveryState.DELIVERED: "delivered", DeliveryState.PENDING: "put_off", DeliveryState.FAILED: "gave_up"}
        if state is DeliveryState.FAILED:
            self._gave_up()
        if state is not None:
            self._done.note(verb[state], f"{one.webhook_id}/{one.subject}_{one.seq}")

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # an abandoned look-up of a name holds its thread until the resolver gives up
            self._loop.set_default_executor(ThreadPoolExecutor(2 * SLOTS, thread_name_prefix="muster-resolve"))
            self._thread = threading.Thread(target=_run, args=(self._loop,), name="muster-deliver-net", daemon=True)
            self._thread.start()
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _secrets(known: Keys, one: Record) -> list[str]:
    """Newest first; those whose key is not here any more sign nothing."""
    found = (known.secret(Seed(**seed)) for seed in one.seeds)
    return [secret for secret in found if secret is not None]
