"""`muster gang`: the sets of ranks that are up, or were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.completing import gangs
from orchestrator.cli.logs import Ranks
from orchestrator.cli.logs import show as show_log
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Commands, Session, common, pass_session
from orchestrator.cli.text import duration

if TYPE_CHECKING:
    from orchestrator.client import Gang, Replica

COLUMNS = ("ID", "STATE", "TEMPLATE", "MODE", "RANKS", "SERVED", "PLANNED", "NOTE")
RANK_COLUMNS = ("RANK", "NODE", "PID", "DEVICE", "READY", "STEP")


@click.group(cls=Commands)
def gang() -> None:
    """Gangs: the sets of ranks that are up, or were.

    \b
    Examples:
      muster gang ls
      muster gang logs gng_01j... --rank 2
    """


@gang.command()
@click.option("-s", "--state", "states", multiple=True, help="Only these; several, or idle,busy.")
@common
@pass_session
def ls(session: Session, states: Sequence[str]) -> None:
    """List gangs.

    In a pipe: TAB-separated ID, state, template, mode, ranks, requests served, planned, note.

    \b
    Examples:
      muster gang ls -s idle,busy
      muster gang ls -s gone               # those that ended, and why
    """
    names = [name.strip() for part in states for name in part.split(",") if name.strip()]
    with session.connect() as client:
        found = client.gangs(state=names)
    if session.json:
        output.listing(one.raw for one in found)
    else:
        output.table(COLUMNS, [_row(one) for one in found])


@gang.command(no_args_is_help=True)
@click.argument("gang_id", metavar="ID", shell_complete=gangs)
@common
@pass_session
def show(session: Session, gang_id: str) -> None:
    """Show a gang and each of its ranks.

    \b
    Examples:
      muster gang show gng_01j...
    """
    with session.connect() as client:
        found = client.gang(gang_id)
    if session.json:
        output.document(found.raw)
        return
    output.fields(_described(found))
    ranks = [(one.rank, one.node, one.pid, one.device, _yes(one.ready), one.step) for one in found.ranks or ()]
    output.table(RANK_COLUMNS, ranks)


@gang.command(no_args_is_help=True)
@click.argument("gang_ids", metavar="ID...", nargs=-1, required=True, shell_complete=gangs)
@common
@pass_session
def drain(session: Session, gang_ids: Sequence[str]) -> None:
    """Let gangs finish what they have, then go; print ID and state of each.

    \b
    Examples:
      muster gang drain gng_01j...
    """
    with session.connect() as client:
        drained = [client.drain_gang(gang_id) for gang_id in gang_ids]
    print_gangs(session, drained)


@gang.command(no_args_is_help=True)
@click.argument("gang_id", metavar="ID", shell_complete=gangs)
@click.option("--rank", type=Ranks(), default="0", show_default=True, help="0, 1,3 or all.")
@click.option("-n", "--tail", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Lines to show.")
@common
@pass_session
def logs(session: Session, gang_id: str, rank: str, tail: int) -> None:
    """Print the log of a gang: its start, and all its requests.

    \b
    Examples:
      muster gang logs gng_01j... --rank all -n 50
    """
    with session.connect() as client:
        show_log(session, client.gang_logs(gang_id, rank=rank, tail=tail))


def print_gangs(session: Session, found: Sequence[Gang]) -> None:
    """ID and state of each."""
    if session.json:
        output.listing(one.raw for one in found)
    else:
        for one in found:
            output.line(f"{one.id}\t{one.state}")


def _row(found: Gang) -> tuple[Cell, ...]:
    template = f"{found.template} v{found.template_version}" if found.template else None
    running = [one.request for one in found.replicas or () if one.request]
    note = f"{len(running)} requests" if len(running) > 1 else found.request or found.reason
    return (found.id, found.state, template, found.mode, _ready(found), found.served, found.planned_at, note)


def _ready(found: Gang) -> str:
    ready = sum(1 for one in found.ranks or () if one.ready)
    return f"{ready}/{found.world}" if found.world else str(ready)


def _yes(ready: bool | None) -> str | None:
    return None if ready is None else "yes" if ready else "no"


def _link(link: Mapping[str, Any]) -> str | None:
    """What the preflight measured."""
    if "latency_ms" not in link:
        return None
    free = f", {link['free_mb']:g} MB free" if "free_mb" in link else ""
    return f"all-reduce {link['latency_ms']:g} ms, {link['mb_per_s']:g} MB/s{free}"


def _requests(found: Gang) -> list[tuple[str, Cell]]:
    """What it runs; of several replicas each its own."""
    parts = found.replicas or ()
    if len(parts) < 2:
        return [("request", found.request)]
    return [(f"replica {one.number}", f"ranks {_range(one)}: {one.request or 'idle'}") for one in parts]


def _range(part: Replica) -> str:
    first, count = part.first_rank or 0, part.ranks or 1
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def _described(found: Gang) -> list[tuple[str, Cell]]:
    seconds = [(key, value) for key, value in (found.launch_seconds or {}).items() if isinstance(value, int | float)]
    return [
        ("id", found.id),
        ("name", found.name),
        ("state", found.state),
        ("reason", found.reason),
        ("template", f"{found.template} v{found.template_version}" if found.template else None),
        ("mode", found.mode),
        ("nodes", found.nodes),
        ("ranks", _ready(found)),
        ("incarnation", found.incarnation),
        *_requests(found),
        ("served", found.served),
        ("planned", found.planned_at),
        ("launched", found.launched_at),
        ("scheduled", found.scheduled_at),
        ("started", found.started_at),
        ("ready", found.ready_at),
        ("idle since", found.idle_since),
        ("gone", found.gone_at),
        ("launch", ", ".join(f"{key} {duration(value)}" for key, value in seconds) or None),
        ("link", _link(found.link or {})),
    ]
