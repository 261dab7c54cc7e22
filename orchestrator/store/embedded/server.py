"""`EmbeddedPostgres`: start, stop and the URL. Puts the other files of this package together.

Must not know: what the service keeps in the database.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import subprocess
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg2

from orchestrator.store.embedded import binaries, cluster, leftovers
from orchestrator.store.embedded.cluster import ADDRESS, ROLE, Cluster
from orchestrator.store.embedded.errors import EmbeddedPostgresError
from orchestrator.store.embedded.identity import account_for
from orchestrator.store.embedded.lock import FolderLock
from orchestrator.store.embedded.readiness import names_us, wait_until_ready
from orchestrator.store.embedded.supervisor import Supervisor

DATABASE = "muster"
START_LIMIT = timedelta(seconds=60)
_PORT_TRIES = 5
# Below the ports that systems give to outgoing connections (Linux from 32768, macOS from 49152): nobody takes ours
# in the moment between a crash and the next start, and no client that retries on it connects to itself.
_PORTS = range(15000, 32000)


class EmbeddedPostgres:
    """A Postgres server in a folder of its own, owned by this process and ending with it.

    Not for use from several threads at once, except `url` and `pid`.
    """

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder=Path(folder).absolute())
        self._lock = FolderLock(self._cluster.folder / "lock")
        self._supervisor: Supervisor | None = None
        self._url: str | None = None
        self._owner_pid: int | None = None

    @property
    def url(self) -> str:
        """The SQLAlchemy URL, with the password. Valid from `start` to `stop`, across crashes of the server."""
        if self._url is None:
            raise EmbeddedPostgresError(f"the Postgres in {self._cluster.folder} is not started: call start() first")
        return self._url

    @property
    def pid(self) -> int | None:
        """Of the postmaster; None while there is none, which also happens for a moment after a crash."""
        supervisor = self._supervisor
        return supervisor.pid if supervisor is not None else None

    def start(self) -> str:
        """Make the folder on the first start, recover it after a crash, and return the URL once it takes connections.

        Raises EmbeddedPostgresError if that is impossible here, or takes longer than START_LIMIT.
        """
        if self._url is not None:
            return self._url
        try:
            self._cluster.make_folder()
            self._lock.acquire()
            self._url = self._start_owned()
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(f"this machine is too slow or too busy for a start: {error}") from error
        except OSError as error:
            raise EmbeddedPostgresError(
                f"cannot keep an embedded Postgres in {self._cluster.folder} ({error}): "
                "give Muster a folder that it can write to, or the URL of a database"
            ) from error
        # Where the kernel gives no signal at our death (macOS), at least our orderly exit ends the server.
        atexit.register(self.stop)
        return self._url

    def stop(self) -> None:
        """Shut down: sessions end, a checkpoint is written, the folder is free. Does nothing if not started."""
        if self._owner_pid != os.getpid():  # not started, or we are a fork of the owner: the server is not ours
            return
        atexit.unregister(self.stop)
        supervisor, self._supervisor = self._supervisor, None
        self._url = self._owner_pid = None
        try:
            if supervisor is not None and not supervisor.stop():
                leftovers.clear(self._cluster.data)
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_owned(self) -> str:
        self._owner_pid = os.getpid()
        try:
            return self._start_server()
        except BaseException:
            self.stop()
            raise

    def _start_server(self) -> str:
        account = account_for(self._cluster.data)
        found = binaries.find(account, major=self._cluster.major(), data=self._cluster.data)
        if self._cluster.major() is None:
            cluster.create(self._cluster, found, account)
        leftovers.clear(self._cluster.data)
        password = self._cluster.password()
        for _ in range(_PORT_TRIES):
            port = _free_port(self._cluster.last_port())
            self._cluster.remember_port(port)
            self._supervisor = Supervisor(
                spawn=partial(cluster.spawn, self._cluster, found, account, port),
                clear=partial(leftovers.clear, self._cluster.data),
            )
            self._supervisor.start()
            if self._becomes_ready(self._supervisor, port, password):
                return f"postgresql+psycopg2://{ROLE}:{quote(password)}@{ADDRESS}:{port}/{DATABASE}"
            self._supervisor.stop()
            if _is_free(port):
                break  # it died of something else, and would again
        raise EmbeddedPostgresError(
            f"Postgres does not start in {self._cluster.folder}; its last words:\n{self._cluster.last_words()}"
        )

    def _becomes_ready(self, supervisor: Supervisor, port: int, password: str) -> bool:
        return wait_until_ready(
            connect=lambda: _ensure_database(port, password),
            is_up=lambda: names_us(self._cluster.pid_file, pid=supervisor.pid, port=port),
            died=lambda: supervisor.deaths > 0,
            limit=START_LIMIT,
        )


def _ensure_database(port: int, password: str) -> None:
    connection = psycopg2.connect(
        host=ADDRESS, port=port, user=ROLE, password=password, dbname="postgres", sslmode="disable", connect_timeout=5
    )
    with closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.rowcount == 0:
                cursor.execute(f"CREATE DATABASE {DATABASE}")


def _free_port(preferred: int | None) -> int:
    if preferred is not None and _is_free(preferred):
        return preferred
    for _ in range(100):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        if _is_free(port):
            return port
    raise EmbeddedPostgresError(f"no free port on {ADDRESS} between {_PORTS.start} and {_PORTS.stop}: free some")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does: old connections may linger
        try:
            trial.bind((ADDRESS, port))
        except OSError:
            return False
        return True
