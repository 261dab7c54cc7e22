"""The thing under test, as people run it: an embedded Postgres (fsync and synchronous commit on) and `muster up`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from benchmarks.wire import Line
from orchestrator.store.database import Database
from orchestrator.store.embedded import EmbeddedPostgres

T = TypeVar("T")

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started here ends with us

ROOT = Path(__file__).resolve().parent.parent
STARTED_S = 60.0
STOPPED_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Stand:
    """One running service."""

    url: str
    token: str
    pid: int
    database: Database

    def line(self) -> Line:
        """A new connection with the token of this run."""
        return Line(self.url, self.token)

    def apply(self, name: str, **changes: Any) -> None:
        """Register a template of the product, changed: a dict is merged, all else replaced."""
        template = yaml.safe_load((ROOT / "job_templates" / f"{changes.pop('like', name)}.yaml").read_text())
        template["name"] = name
        for key, value in changes.items():
            template[key] = {**template.get(key, {}), **value} if isinstance(value, dict) else value
        self.line().good("PUT", f"/v1/templates/{name}", template)

    def gangs(self, template: str) -> list[dict[str, Any]]:
        """The live gangs of a template."""
        return [gang for gang in self.line().good("GET", "/v1/gangs")["data"] if gang["template"] == template]

    def drain(self, template: str) -> None:
        """End all gangs of a template and wait until they are gone."""
        for gang in self.gangs(template):
            self.line().good("POST", f"/v1/gangs/{gang['id']}/drain")
        until(lambda: not self.gangs(template), f"the gangs of {template} are gone")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of a fresh Postgres in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder, EmbeddedPostgres(Path(folder)) as server:
        yield server.url


@contextlib.contextmanager
def service(database_url: str, **settings: str) -> Iterator[Stand]:
    """`muster up` over that Postgres, with MUSTER_* settings; its gangs end with it."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        home = Path(folder)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "MUSTER_HOME": folder,
            "MUSTER_PORT": "0",
            "MUSTER_DATABASE_URL": database_url,
            **settings,
        }
        with (home / "log").open("wb") as log:
            command = [sys.executable, "-m", "orchestrator.cli.main", "up"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        database = Database(database_url, connections=2)
        try:
            known = _introduced(process, home)
            yield Stand(url=known["url"], token=known["token"], pid=process.pid, database=database)
        finally:
            database.close()
            process.terminate()
            process.wait(STOPPED_S)


def _introduced(process: subprocess.Popen[bytes], home: Path) -> dict[str, str]:
    def look() -> dict[str, str] | None:
        if process.poll() is not None:
            raise RuntimeError(f"`muster up` ended:\n{(home / 'log').read_text()[-3000:]}")
        found = home / "local.json"
        return json.loads(found.read_text()) if found.exists() else None

    return until(look, "`muster up` is up", within_s=STARTED_S)


def until(look: Callable[[], T | None], what: str, *, within_s: float = 120.0, every_s: float = 0.05) -> T:
    """What `look` finds. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(every_s)
    raise TimeoutError(f"not within {within_s:g} s: {what}")
