"""Waits until Postgres takes connections, by making them; says what it answered meanwhile.

Crash recovery can take long, and the server listens during it, so neither a pid nor an open port proves anything.
Our own pid and port in `postmaster.pid` prove that it is this server which answers, and no other that happened to get
the port.

Must not know: how the server is started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg2

from orchestrator.store.embedded.errors import EmbeddedPostgresError

_log = logging.getLogger("muster.postgres")
_POLL = timedelta(milliseconds=20)
_REPORT_EVERY = timedelta(seconds=5)


def wait_until_ready(
    *, connect: Callable[[], None], is_up: Callable[[], bool], died: Callable[[], bool], limit: timedelta
) -> bool:
    """Try `connect` once `is_up`, until it succeeds: True. False if the server `died` first.

    Raises EmbeddedPostgresError after the limit, or at once if the server refuses the password.
    """
    began = reported = time.monotonic()
    answer = "no answer yet"
    while not died():
        try:
            if is_up():
                connect()
                return True
        except psycopg2.OperationalError as error:
            answer = str(error).strip()
            _check_password_taken(answer)
        now = time.monotonic()
        if now - began > limit.total_seconds():
            raise EmbeddedPostgresError(f"Postgres takes no connections after {limit}: {answer}")
        if now - reported > _REPORT_EVERY.total_seconds():
            reported = now
            _log.info("waiting for Postgres since %d s: %s", now - began, answer, extra={"action": "postgres_slow"})
        time.sleep(_POLL.total_seconds())
    return False


def _check_password_taken(answer: str) -> None:
    if "password authentication failed" in answer:
        raise EmbeddedPostgresError(
            f"Postgres refuses the password in its folder: put back the `password` file that the data was made with "
            f"({answer})"
        )


def names_us(pid_file: Path, *, pid: int | None, port: int) -> bool:
    """Whether the pid file is that of this postmaster, with its port open (the last line comes when it listens)."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    # Lines: pid, directory, start time, port, socket folder, address, shared memory, status.
    return len(lines) > 7 and lines[0] == str(pid) and lines[3] == str(port) and lines[7].strip() != "stopping"
