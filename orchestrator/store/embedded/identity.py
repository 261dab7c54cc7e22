"""Which user Postgres runs as, and how that user gets at files below directories that are closed to it.

Postgres refuses to run as root. A plain user runs it as itself; root runs it as an account that is there already,
and no account is created.

That account may be unable to reach the data folder by name: `/root` has mode 700, and the modes of other people's
directories are not ours to change. Moving the data to `/var/tmp` would put it where cleaners delete old files, and
off the volume that somebody mounted for it. So root opens the directory and hands the open descriptor down:
`/proc/self/fd/N` leads the new process, and all it forks, straight to the directory without passing its parents.
(The binaries cannot go this way, for Postgres resolves its own path by name: see `binaries.py`.)

Must not know: what is in those files.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.store.embedded.errors import EmbeddedPostgresError

# `postgres` first: where the distribution made it, it has no other purpose. `nobody` may be shared with other daemons.
_UNPRIVILEGED = ("postgres", "nobody", "daemon")


@dataclass(frozen=True, kw_only=True)
class Account:
    """The user that Postgres runs as."""

    uid: int
    gid: int
    name: str

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()


def account_for(data: Path) -> Account:
    """The account for this data directory: the one that it belongs to, or for a new one whoever can run Postgres."""
    if data.exists():
        return _owner_of(data)
    if os.geteuid() != 0:
        return _ourselves()
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=name)
    raise EmbeddedPostgresError(
        f"Postgres does not run as root and none of the users {', '.join(_UNPRIVILEGED)} exists here: "
        "start Muster as a plain user, or give it the URL of a database"
    )


def _owner_of(data: Path) -> Account:
    found = data.stat()
    ours = os.geteuid()
    if ours not in (0, found.st_uid):
        raise EmbeddedPostgresError(
            f"{data} belongs to user {_name(found.st_uid)} and this process runs as {_name(ours)}: "
            "start Muster as that user, or give it another folder"
        )
    if found.st_uid == 0:
        raise EmbeddedPostgresError(
            f"{data} belongs to root, and Postgres does not run as root: "
            "give it back to the user that made it (chown -R), or give Muster another folder"
        )
    return Account(uid=found.st_uid, gid=found.st_gid, name=_name(found.st_uid))


def _ourselves() -> Account:
    uid = os.geteuid()
    try:
        return Account(uid=uid, gid=os.getegid(), name=pwd.getpwuid(uid).pw_name)
    except KeyError:
        raise EmbeddedPostgresError(
            f"user id {uid} has no entry in /etc/passwd, and initdb needs one: "
            "add an entry, start Muster as a user that has one, or give it the URL of a database"
        ) from None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@contextmanager
def reachable(path: Path, account: Account) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A name under which a child that runs as the account finds `path`, and the descriptors to pass down for it.

    The account needs its own rights on `path` itself, only not on the parents.
    """
    if account.is_ours or sys.platform != "linux":
        yield str(path), ()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)
