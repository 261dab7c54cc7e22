"""A replica of the API for tests: the real application behind a real uvicorn on a thread, and callers of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import builders as make
import declared
import httpx
from races import eventually

from orchestrator.api.office import Office
from orchestrator.service.server import Server
from orchestrator.settings import Settings
from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope
from orchestrator.store.wakeups import Notifier

ALL = (Scope.READ, Scope.SUBMIT, Scope.ADMIN)


@dataclass
class Replica:
    """One replica over a database. No loops run: tests run the passes they need. `rung` tells which bells rang."""

    database: Database
    office: Office
    url: str
    server: Server
    leave: Callable[[], None]
    """Begin to end, as on SIGTERM: whoever is parked is answered."""
    rung: list[str] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)

    def caller(self, *scopes: Scope, tenant: str | None = None, **token: Any) -> httpx.Client:
        """Somebody with a token; of a tenant of its own unless one is named."""

        def work(tx: make.Tx) -> str:
            of = tenant or make.tenant(tx)
            return tokens.create(tx, tenant=of, name="test", scopes=scopes or ALL, **token)[1]

        return self.client(self.database.transact(work))

    def client(self, token: str | None = None) -> httpx.Client:
        """Whoever bears the token; closed with the replica at the latest."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        hooks = {"response": [declared.check]}
        self.clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=60, event_hooks=hooks))
        return self.clients[-1]


@contextmanager
def replica(database: Database, folder: Path, **settings: Any) -> Iterator[Replica]:
    """Until the block ends; its parked polls are answered then."""
    rung: list[str] = []
    own = Database(database.url)
    notifier = Notifier(own)
    given = Settings(folder=folder, database_url=database.url, lease=timedelta(seconds=30), **settings)
    office = Office(database=own, settings=given, notifier=notifier, ring=rung.append)
    server, listening = Server(office), socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()

    clients: list[httpx.Client] = []

    def leave() -> None:
        server.should_exit = True

    def stop() -> None:
        for client in clients:
            client.close()
        leave()
        thread.join(timeout=20)
        assert not thread.is_alive(), "the server did not end"
        notifier.close()
        listening.close()
        own.close()

    try:
        eventually(lambda: server.started or not thread.is_alive())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield Replica(database=database, office=office, url=url, server=server, leave=leave, rung=rung, clients=clients)
    finally:
        stop()
