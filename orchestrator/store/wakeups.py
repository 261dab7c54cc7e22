"""Waking those who wait on other replicas: one LISTEN connection per replica, NOTIFYs gathered.

A notifying commit takes a lock over the whole database, so it is never part of a move: topics are sent after the
commit, the first at once, those that follow within a few milliseconds together. A lost one costs a poll interval. A
replica that is alone tells nobody; it looks around once a second.
"""

from __future__ import annotations

import contextlib
import json
import select
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

import psycopg2
from sqlalchemy import text

from orchestrator.errors import MusterError
from orchestrator.store.database import Database, Tx

_CHANNEL = "muster"
_LARGEST_PAYLOAD = 7000
_LOOK_AROUND_S = 1.0
_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'muster-listen-%' AND application_name <> :us"
)


class Notifier:
    """Tells the other replicas; at most one NOTIFY per `gap`, from a thread of its own."""

    def __init__(self, database: Database, gap: timedelta = timedelta(milliseconds=20)) -> None:
        self._database = database
        self._gap_s = gap.total_seconds()
        self._topics: set[str] = set()
        self._alone_until = 0.0
        self._ready = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._send_for_ever, name="muster-notify", daemon=True)
        self._thread.start()

    def tell(self, topics: Iterable[str]) -> None:
        """Send soon, if there is another replica. Never blocks, never fails."""
        if time.monotonic() < self._alone_until:
            return
        with self._ready:
            self._topics.update(topics)
            self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._stopped = True
            self._ready.notify()
        self._thread.join(timeout=2)

    def _send_for_ever(self) -> None:
        while (topics := self._wait()) is not None:
            with contextlib.suppress(MusterError):
                if self._is_alone():
                    continue
                for payload in _payloads(topics):
                    self._send(payload)
            time.sleep(self._gap_s)

    def _wait(self) -> list[str] | None:
        with self._ready:
            self._ready.wait_for(lambda: self._topics or self._stopped)
            if self._stopped:
                return None
            topics, self._topics = sorted(self._topics), set()
            return topics

    def _is_alone(self) -> bool:
        others = self._database.transact(lambda tx: tx.execute(_OTHERS, {"us": self._database.name}).scalar_one())
        if not others:
            self._alone_until = time.monotonic() + _LOOK_AROUND_S
        return not others

    def _send(self, payload: str) -> None:
        self._database.transact(lambda tx: tx.execute(text(f"SELECT pg_notify('{_CHANNEL}', :p)"), {"p": payload}))


def _payloads(topics: list[str]) -> Iterable[str]:
    page: list[str] = []
    for topic in topics:
        if page and len(json.dumps([*page, topic])) > _LARGEST_PAYLOAD:
            yield json.dumps(page)
            page = []
        page.append(topic)
    if page:
        yield json.dumps(page)


class Listener:
    """Hears the other replicas on a connection of its own; after a loss it connects again and says so."""

    def __init__(self, database: Database, heard: Callable[[list[str]], None], lost: Callable[[], None]) -> None:
        """`heard` gets topics; `lost` is called after every reconnect: something may have been missed."""
        self._database = database
        self._heard = heard
        self._lost = lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen_for_ever, name="muster-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=3)

    def _listen_for_ever(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(psycopg2.Error, OSError):
                self._listen()
            self._stop.wait(0.5)

    def _listen(self) -> None:
        connection = self._database.listener()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {_CHANNEL}")
                self._lost()
                while not self._stop.is_set():
                    self._hear(connection, cursor)
        finally:
            connection.close()

    def _hear(self, connection: psycopg2.extensions.connection, cursor: psycopg2.extensions.cursor) -> None:
        readable, _, _ = select.select([connection], [], [], 1.0)
        if not readable:
            return
        connection.poll()
        while connection.notifies:
            if topics := _topics(connection.notifies.pop(0).payload):
                self._heard(topics)


def _topics(payload: str) -> list[str]:
    """What a payload names; nothing if it is not one of ours: anybody may notify."""
    try:
        topics = json.loads(payload)
    except ValueError:
        return []
    return [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []


@dataclass(frozen=True, kw_only=True)
class Missed:
    """Who waits although there is something to see."""

    gangs: tuple[str, ...]
    requests: tuple[str, ...]


def missed(tx: Tx, gangs: list[str], requests: list[str]) -> Missed:
    """The safety net below NOTIFY: one look for all who wait on this replica."""
    waiting = tx.execute(
        text(
            "SELECT g.id FROM gang g WHERE g.id = ANY(:ids) AND (g.state IN ('draining', 'gone')"
            " OR EXISTS (SELECT 1 FROM attempt a WHERE a.gang_id = g.id AND a.ended_at IS NULL))"
        ),
        {"ids": gangs},
    )
    ended = tx.execute(
        text("SELECT id FROM request WHERE id = ANY(:ids) AND finished_at IS NOT NULL"), {"ids": requests}
    )
    return Missed(gangs=tuple(waiting.scalars()), requests=tuple(ended.scalars()))


def versions(tx: Tx, requests: list[str]) -> dict[str, int]:
    """The version of each request that is still there."""
    rows = tx.execute(text("SELECT id, version FROM request WHERE id = ANY(:ids)"), {"ids": requests})
    return {row.id: row.version for row in rows}
