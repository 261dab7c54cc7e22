"""One replica's sender over a database, and what a test does around it. Time passes by moving `next_at`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import builders as make
from scripted_backend import ScriptedBackend
from sqlalchemy import text

from orchestrator.backends.places import Places
from orchestrator.domain.targets import Policy
from orchestrator.domain.webhooks import EVENTS, keys
from orchestrator.loops.deliver import Sender
from orchestrator.loops.desk import Desk
from orchestrator.loops.egress import Egress, Resolve, resolve
from orchestrator.settings import Settings
from orchestrator.store import express, webhooks
from orchestrator.store.database import Database, Record

KEYS = keys(["k" * 32])
HOUR = 3600.0


@dataclass
class House:
    """One replica's sender over a database, and what a test does around it."""

    database: Database
    desk: Desk
    sender: Sender
    allowed: list[str] = field(default_factory=lambda: ["*"])
    outcomes: list[str] = field(default_factory=list)
    """Of every try, as the metrics count them."""

    def send(self) -> dict[str, list[str]]:
        """One pass, until all that it began is over."""
        first = self.sender.run_once(self.desk).did
        self.sender.settle(timedelta(seconds=30))
        for verb, subjects in self.sender.run_once(self.desk).did.items():
            first.setdefault(verb, []).extend(subjects)
        return first

    def endpoint(self, url: str, *events: str, tenant: str = "default") -> tuple[str, str]:
        """Its ID and secret."""
        target = Policy.read([*self.allowed, url.rpartition("/")[0]]).target(url)

        def work(tx: make.Tx) -> tuple[str, str]:
            row, seed = webhooks.create(tx, tenant, target, events or EVENTS, KEYS.newest or "")
            return row.id, KEYS.secret(seed) or ""

        return self.database.transact(work)

    def finished(self) -> str:
        """A request that just succeeded, by the way that nearly every report takes."""

        def work(tx: make.Tx) -> str:
            lease = make.leased(tx, make.pool(tx))
            told = express.Report(
                attempt=lease.attempt, session_hash=lease.gang.session_hash, finish=make.report(lease)
            )
            assert express.succeed(tx, [told])
            return lease.request

        return self.database.transact(work)

    def deliveries(self, webhook: str) -> list[Record]:
        query = text("SELECT * FROM delivery WHERE webhook_id = :w ORDER BY at, seq")
        return list(self.database.transact(lambda tx: tx.execute(query, {"w": webhook}).all()))

    def pass_until_next_try(self, webhook: str) -> float:
        """Let the time pass at which the pending delivery is tried again; says how long that was."""
        query = text(
            "WITH old AS (SELECT * FROM delivery WHERE webhook_id = :w AND next_at IS NOT NULL)"
            " UPDATE delivery d SET next_at = clock_timestamp() FROM old o"
            " WHERE (d.webhook_id, d.subject, d.seq) = (o.webhook_id, o.subject, o.seq)"
            " RETURNING extract(epoch FROM o.next_at - clock_timestamp())"
        )
        return max(float(s) for s in self.database.transact(lambda tx: tx.execute(query, {"w": webhook}).scalars()))

    def disabled(self, webhook: str) -> str | None:
        why: str | None = self.database.transact(lambda tx: webhooks.get(tx, "default", webhook)).disabled
        return why


@contextmanager
def house(
    database: Database, folder: Path, *allowed: str, resolve: Resolve = resolve, tls: ssl.SSLContext | None = None
) -> Iterator[House]:
    settings = Settings(folder=folder, webhook_keys=("k" * 32,), public_url="https://muster.example")
    desk = Desk(database=database, places=Places(ScriptedBackend()), settings=settings, wake=lambda **_: None)
    outcomes: list[str] = []
    sender = Sender(Egress(policy=Policy.read(["*", *allowed]), resolve=resolve, tls=tls), outcomes.append)
    try:
        yield House(database=database, desk=desk, sender=sender, outcomes=outcomes)
    finally:
        sender.close()
