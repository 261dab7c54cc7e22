"""What lies in the folder of an embedded Postgres, and how it is made and opened.

    folder/          0700, of the owner (a folder that is there already keeps its mode)
      lock           held by the owner; names its pid
      password       0600, of the owner: the password of the one role, `muster`
      port           the port of the last start, kept while it is free
      log, log.1     what Postgres and initdb said
      data/          0700, of the account that runs Postgres (`identity.py`)

Must not know: threads, and what an owner is.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from orchestrator.store.embedded import launch, leftovers
from orchestrator.store.embedded.binaries import Binaries
from orchestrator.store.embedded.errors import EmbeddedPostgresError
from orchestrator.store.embedded.identity import Account, reachable

ROLE = "muster"
ADDRESS = "127.0.0.1"
_INITDB_LIMIT = timedelta(minutes=3)
_LOG_LIMIT_BYTES = 10_000_000
_SETTINGS = {
    "listen_addresses": ADDRESS,
    "unix_socket_directories": "",  # no socket: nothing to protect and no path that can be too long
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    # An accepted request survives any crash.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",  # stderr is the log file
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One folder."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def major(self) -> int | None:
        """The major version that made the data; None if there is no data yet."""
        if not self.data.exists():
            return None
        try:
            return int((self.data / "PG_VERSION").read_text())
        except (OSError, ValueError) as error:
            raise EmbeddedPostgresError(
                f"{self.data} is no data directory of Postgres ({error}): move it away, or give Muster another folder"
            ) from error

    def password(self) -> str:
        try:
            return (self.folder / "password").read_text().strip()
        except OSError as error:
            raise EmbeddedPostgresError(
                f"cannot read the password of {self.data} ({error}): put the file back, or give Muster another folder"
            ) from error

    def last_port(self) -> int | None:
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return None

    def remember_port(self, port: int) -> None:
        (self.folder / "port").write_text(f"{port}\n")

    def last_words(self) -> str:
        """The end of the log, for an error message."""
        with suppress(OSError):
            return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-8:])
        return "the log cannot be read"


def create(cluster: Cluster, binaries: Binaries, account: Account) -> None:
    """Make the data directory, whole or not at all: an initdb that was killed leaves only `data.new`."""
    staged = cluster.folder / "data.new"
    if staged.exists():
        leftovers.clear(staged)
        shutil.rmtree(staged)
    staged.mkdir(mode=0o700)
    if not account.is_ours:
        os.chown(staged, account.uid, account.gid)
    password = _new_password(cluster.folder / "password")
    _initdb(cluster, staged, password, binaries, account)
    staged.rename(cluster.data)
    _sync(cluster.folder)


def _new_password(path: Path) -> str:
    password = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
        file.flush()
        os.fsync(file.fileno())
    return password


def _initdb(cluster: Cluster, directory: Path, password: str, binaries: Binaries, account: Account) -> None:
    with (
        reachable(directory, account) as (where, data_descriptors),
        _password_for(account, password, cluster.folder) as (password_file, password_descriptors),
        _open_log(cluster) as log,
    ):
        program = [
            *(binaries.program("initdb"), "-D", where, "--username", ROLE, "--pwfile", password_file),
            *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        ]
        command = launch.command(program, account, at_owners_death=signal.SIGKILL)
        with _start(command, data_descriptors + password_descriptors, log) as process:
            try:
                code = process.wait(_INITDB_LIMIT.total_seconds())
            finally:
                process.kill()
    if code != 0:
        raise EmbeddedPostgresError(f"initdb failed in {directory}; its last words:\n{cluster.last_words()}")


@contextmanager
def _password_for(account: Account, password: str, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The password in a file that the account may open, for as long as initdb reads it."""
    with tempfile.NamedTemporaryFile("w", dir=folder) as file:
        file.write(password)
        file.flush()
        if not account.is_ours:
            os.fchown(file.fileno(), account.uid, account.gid)
        with reachable(Path(file.name), account) as found:
            yield found


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def spawn(cluster: Cluster, binaries: Binaries, account: Account, port: int) -> subprocess.Popen[bytes]:
    """Start the postmaster. It shuts down (fast, with a checkpoint) when the calling *thread* ends."""
    settings = _SETTINGS | {"port": str(port), "cluster_name": leftovers.mark(cluster.data)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with reachable(cluster.data, account) as (where, descriptors), _open_log(cluster) as log:
        program = [binaries.program("postgres"), "-D", where, *options]
        return _start(launch.command(program, account, at_owners_death=signal.SIGINT), descriptors, log)


def _start(command: list[str], descriptors: tuple[int, ...], log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=launch.ENVIRONMENT,
        pass_fds=descriptors,
        start_new_session=True,  # Ctrl-C in a terminal is for the owner, which then ends this in order
    )


@contextmanager
def _open_log(cluster: Cluster) -> Iterator[int]:
    path = cluster.folder / "log"
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(path.with_name("log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
