"""Services as people run them: `muster up`, or two `muster serve` over one Postgres, each a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psutil

from orchestrator.client import Client, Gang, Request
from orchestrator.service.offline import first_token, migrate
from orchestrator.store import invariants
from orchestrator.store.database import Database, Tx
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.tokens import Scope

from . import processes
from .waiting import PATIENCE, until

T = TypeVar("T")

MUSTER = Path(sys.executable).with_name("muster")
QUICK = {"MUSTER_LEASE": "6", "MUSTER_BEAT": "1", "MUSTER_POLL": "5", "MUSTER_STOP_GRACE": "3"}
STARTED = timedelta(seconds=120)  # initdb included, on a machine that others keep busy
STOPPED = timedelta(seconds=60)


class Replica:
    """One process of the service, on one port for all its lives."""

    def __init__(self, command: str, home: Path, port: int, settings: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / f"{command}-{port}.log"
        self._command = command
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")},
            **QUICK,
            "MUSTER_HOME": str(home),
            "MUSTER_PORT": str(port),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the replica was not started"
        return self._process.pid

    def settings(self, **given: str) -> None:
        """For its next life."""
        self._environment |= given

    def begin(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [MUSTER, self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd="/",
            )

    def await_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"`muster {self._command}` ended:\n{self.words()}"
            return client.ready().ok

        with Client(self.url, retries=0) as client:
            until(ready, f"`muster {self._command}` becomes ready", within=STARTED)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code; does nothing to what has ended."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(STOPPED.total_seconds())
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"`muster {self._command}` did not stop:\n{self.words()}") from None

    def words(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Stage:
    """What `Up` and `Replicas` have in common."""

    home: Path
    client: Client
    token: str

    def start(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def database_url(self) -> str:
        raise NotImplementedError

    def look(self, query: Callable[[Tx], T]) -> T:
        """Run a query over a connection of its own."""
        with closing(Database(self.database_url(), connections=1)) as database:
            return database.transact(query)

    def violations(self) -> list[invariants.Violation]:
        """Every promise that does not hold at this moment, files included."""
        found = self.look(invariants.check)
        return found + invariants.damaged(self.look(invariants.outputs))

    def gangs(self, template: str) -> list[Gang]:
        """The gangs of a template that are not gone."""
        return [gang for gang in self.client.gangs() if gang.template == template and gang.state != "gone"]

    def idle_gang(self, template: str) -> Gang:
        """A gang of the template that is ready and has nothing to do."""
        return until(
            lambda: next((gang for gang in self.gangs(template) if gang.state == "idle"), None),
            f"a gang of {template} is idle",
        )

    def running(self, request_id: str, *, past_step: int = 0) -> Request:
        """The request, once its gang said that it is under way."""

        def look() -> Request | None:
            request = self.client.get(request_id)
            assert not request.is_terminal, f"it is {request.status}: {request.error}"
            steps = request.progress.current if request.progress and request.progress.current is not None else 0
            return request if request.status == "running" and steps >= past_step else None

        return until(look, f"{request_id} runs")

    def done(self, request_id: str, within: timedelta = PATIENCE) -> Request:
        """The terminal request."""

        def look() -> Request | None:
            request = self.client.get(request_id)
            return request if request.is_terminal else None

        return until(look, f"{request_id} ends", within=within)

    def run(self, template: str, values: dict[str, Any] | None = None, **more: Any) -> Request:
        """Submit and wait for the end."""
        return self.done(self.client.submit(template, values or {}, **more).id)

    def moves(self, request_id: str) -> list[str]:
        return [event.move for event in self.client.events(request_id)]

    def leftovers(self) -> list[str]:
        """What still runs here; for a stage that has been closed."""
        return [_described(process) for process in processes.of_folder(self.home)]

    def _clear(self) -> None:
        """After a test failed half-way: end what it left, so that the next one starts clean."""
        processes.send(signal.SIGCONT, processes.of_folder(self.home))
        processes.send(signal.SIGKILL, processes.of_folder(self.home))


class Up(Stage):
    """`muster up` in a folder of its own, with its embedded Postgres and its local gangs."""

    def __init__(self, home: Path, **settings: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.replica = Replica("up", home, free_port(), settings)

    def start(self) -> None:
        """Start, or start again on the same folder and port; the client gets the token of this run."""
        (self.home / "local.json").unlink(missing_ok=True)
        self.replica.begin()
        self.replica.await_ready()
        self.token = until(self._token, "`muster up` leaves its token")
        self.client = Client(self.replica.url, self.token)

    def kill(self) -> None:
        """SIGKILL to the service. The kernel tells its Postgres to end as well."""
        self.client.close()
        self.replica.kill()

    def stop(self) -> int:
        """SIGTERM to the service; the exit code."""
        self.client.close()
        return self.replica.stop()

    def close(self) -> None:
        try:
            assert self.stop() == 0
        finally:
            self._clear()

    def postmaster(self) -> psutil.Process:
        return processes.postgres(self.home / "postgres" / "data")[0]

    def database_url(self) -> str:
        folder = self.home / "postgres"
        password, port = (folder / "password").read_text().strip(), int((folder / "port").read_text())
        return f"postgresql+psycopg2://muster:{quote(password)}@127.0.0.1:{port}/muster"

    def _token(self) -> str | None:
        try:
            return str(json.loads((self.home / "local.json").read_text())["token"])
        except FileNotFoundError:
            return None


class Replicas(Stage):
    """Two `muster serve` over one Postgres, which lives in this process."""

    def __init__(self, home: Path, **settings: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._postgres = EmbeddedPostgres(home / "postgres")
        self._settings = settings
        self.both: Sequence[Replica] = ()

    def start(self) -> None:
        url = self._postgres.start()
        migrate(url)
        self.token = first_token(url, name="test", scopes=tuple(Scope))
        ports = free_port(), free_port()
        settings = {
            "MUSTER_DATABASE_URL": url,
            "MUSTER_API_URLS": ",".join(f"http://127.0.0.1:{port}" for port in ports),
            **self._settings,
        }
        self.both = [Replica("serve", self.home, port, settings) for port in ports]
        for replica in self.both:
            replica.begin()
        for replica in self.both:
            replica.await_ready()
        self.client = Client(self.both[0].url, self.token)

    def close(self) -> None:
        """`muster serve` leaves gangs running, so the pools are emptied first."""
        try:
            for pool in self.client.pools():
                self.client.set_pool(pool.name, min=0, idle_timeout=timedelta(seconds=0.1))
            until(lambda: not list((self.home / "gangs").glob("m-*")), "the backend has removed all gangs")
            self.client.close()
            assert [replica.stop() for replica in self.both] == [0, 0]
        finally:
            for replica in self.both:
                replica.kill()
            self._postgres.stop()
            self._clear()

    def database_url(self) -> str:
        return self._postgres.url


S = TypeVar("S", bound=Stage)


@contextmanager
def running(stage: S) -> Iterator[S]:
    """Nothing of it runs afterwards."""
    try:
        stage.start()
        yield stage
    finally:
        stage.close()
    assert stage.leftovers() == []


def free_port() -> int:
    """Below the ports of outgoing connections, so that nothing takes it while a service is restarted."""
    while True:
        port = random.randrange(18000, 19000)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:150]}"
    except psutil.Error:
        return f"{process.pid}, just ended"
