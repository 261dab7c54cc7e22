"""`muster pool`: how many gangs are kept warm for a template."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import output
from orchestrator.cli.completing import templates
from orchestrator.cli.gangs import print_gangs
from orchestrator.cli.output import Cell
from orchestrator.cli.session import Commands, Duration, Session, common, pass_session
from orchestrator.cli.text import duration

if TYPE_CHECKING:
    from orchestrator.client import Pool

COLUMNS = ("NAME", "TEMPLATE", "MIN", "MAX", "IDLE", "QUEUED", "GANGS", "HELD")


@click.group(cls=Commands)
def pool() -> None:
    """Pools: how many gangs are kept warm for a template.

    \b
    Examples:
      muster pool set digits --min 1              # one gang is always warm
      muster pool ls
    """


@pool.command()
@common
@pass_session
def ls(session: Session) -> None:
    """List pools.

    In a pipe: TAB-separated name, template, min, max, idle timeout, queued, gangs by state, why it is held.

    \b
    Examples:
      muster pool ls
      muster pool ls | awk -F'\\t' '$8'            # those that are held, and why
    """
    with session.connect() as client:
        found = client.pools()
    if session.json:
        output.listing(one.raw for one in found)
    else:
        output.table(COLUMNS, [_row(one) for one in found])


@pool.command(no_args_is_help=True)
@click.argument("name", shell_complete=templates)
@common
@pass_session
def show(session: Session, name: str) -> None:
    """Show a pool.

    \b
    Examples:
      muster pool show digits
    """
    with session.connect() as client:
        found = client.pool(name)
    _print(session, found)


@pool.command("set", no_args_is_help=True)
@click.argument("name", shell_complete=templates)
@click.option("--min", "least", type=click.IntRange(0), help="Gangs that are kept even when idle.")
@click.option("--max", "most", type=click.IntRange(0), help="Gangs at most.")
@click.option("--idle-timeout", type=Duration(), help="How long a gang above --min may be idle.")
@common
@pass_session
def set_(session: Session, name: str, least: int | None, most: int | None, idle_timeout: timedelta | None) -> None:
    """Change a pool; what is not given stays.

    \b
    Examples:
      muster pool set digits --min 1            # keep one gang warm
      muster pool set digits --min 0 --idle-timeout 10m
    """
    if least is None and most is None and idle_timeout is None:
        raise click.UsageError("give at least one of --min, --max, --idle-timeout")
    with session.connect() as client:
        changed = client.set_pool(name, min=least, max=most, idle_timeout=idle_timeout)
    _print(session, changed)


@pool.command(no_args_is_help=True)
@click.argument("name", shell_complete=templates)
@common
@pass_session
def recycle(session: Session, name: str) -> None:
    """Replace the gangs of a pool: each finishes what it has and goes; print ID and state of each.

    New ones come as the minimum and what waits want them.

    \b
    Examples:
      muster pool recycle digits           # after a driver update, say
    """
    with session.connect() as client:
        drained = client.recycle_pool(name)
    print_gangs(session, drained)


@pool.command(no_args_is_help=True)
@click.argument("name", shell_complete=templates)
@common
@pass_session
def drain(session: Session, name: str) -> None:
    """Empty a pool: no gang is launched any more, those that live finish what they have; print ID and state of each.

    Sets minimum and maximum to 0, so what waits gets gangs of its own, or fails if it asked for a warm one.

    \b
    Examples:
      muster pool drain digits
      muster pool set digits --max 1       # open it again
    """
    with session.connect() as client:
        before = client.pool(name)
        drained = client.drain_pool(name)
    print_gangs(session, drained)
    output.say(session, f"open it again: muster pool set {name} --min {before.min or 0} --max {before.max or 1}")


def _print(session: Session, found: Pool) -> None:
    if session.json:
        output.document(found.raw)
    else:
        output.fields(zip((column.lower() for column in COLUMNS), _row(found), strict=True))


def _row(found: Pool) -> tuple[Cell, ...]:
    version = f" v{found.template_version}" if found.template_version else ""
    idle = None if found.idle_timeout_s is None else duration(found.idle_timeout_s)
    template = f"{found.template}{version}" if found.template else None
    return (found.name, template, found.min, found.max, idle, found.queued, _counts(found.gangs), found.held)


def _counts(gangs: Mapping[str, Any] | None) -> str | None:
    return ", ".join(f"{count} {state}" for state, count in (gangs or {}).items() if count) or None
