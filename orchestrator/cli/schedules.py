"""`muster schedule`: what starts by itself, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from orchestrator.cli import output
from orchestrator.cli.completing import schedules, templates
from orchestrator.cli.orders import Given, takes_input
from orchestrator.cli.output import Cell
from orchestrator.cli.removing import one_by_one
from orchestrator.cli.schedule_terms import RESETS, Order, When, takes_order, takes_when
from orchestrator.cli.session import Commands, Session, common, pass_session
from orchestrator.cli.text import moment

if TYPE_CHECKING:
    from orchestrator.client import Fire, Schedule

COLUMNS = ("NAME", "STATE", "CRON", "ZONE", "NEXT", "LAST", "ID")
FIRE_COLUMNS = ("TICK", "STATE", "RUN", "DECIDED", "REASON")
Ref = click.argument("ref", metavar="SCHEDULE", shell_complete=schedules)
Refs = click.argument("refs", metavar="SCHEDULE...", nargs=-1, required=True, shell_complete=schedules)


@click.group(cls=Commands)
def schedule() -> None:
    """Schedules: requests and batches at the times of a cron rule (docs/schedules.md).

    \b
    Examples:
      muster schedule create nightly digits --cron "0 2 * * *" --tz Europe/Berlin -i digit=3
      muster schedule fires nightly
    """


@schedule.command(no_args_is_help=True)
@click.argument("name")
@click.argument("template", shell_complete=templates)
@click.option("--cron", "rule", required=True, metavar="RULE", help="Five fields, or an alias as @daily.")
@takes_input
@takes_order
@takes_when
@click.option("--paused", is_flag=True, default=None, help="Make it, but let nothing run yet.")
@common
@pass_session
def create(
    session: Session,
    /,
    name: str,
    template: str,
    rule: str,
    given: Given,
    order: Order,
    when: When,
    paused: bool | None,
) -> None:
    """Run TEMPLATE at the times of a rule, and print the ID.

    Values of a tick are put where --inject says: scheduled_at, scheduled_local, scheduled_date, scheduled_unix.

    \b
    Examples:
      muster schedule create nightly digits --cron "0 2 * * *" --tz Europe/Berlin -i digit=3
      muster schedule create hourly report --cron @hourly --inject /input/day=scheduled_date --overlap queue
      muster schedule create weekly wan --cron "0 4 * * sun" --batch s3://bucket/batches/weekly.jsonl
    """
    with session.connect() as client:
        runs = order.runs(session, client, template, given)
        made = client.schedules.create(name, rule, runs, paused=paused, **when.told())
    if session.json:
        output.document(made.raw)
        return
    output.line(made.id)
    _say_next(session, made)


@schedule.command(no_args_is_help=True)
@Ref
@click.option("--cron", "rule", metavar="RULE", help="Five fields, or an alias as @daily.")
@takes_input
@takes_order
@takes_when
@click.option(
    "--reset", "resets", multiple=True, type=click.Choice([*RESETS]), help="Back to the default; more than once."
)
@common
@pass_session
def edit(
    session: Session,
    /,
    ref: str,
    rule: str | None,
    given: Given,
    order: Order,
    when: When,
    resets: Sequence[str],
) -> None:
    """Change a schedule for the ticks that come, and print the next five.

    What is not named stays. -i and --label are put over what there is; --input-file and --stdin are the whole input.

    \b
    Examples:
      muster schedule edit nightly --cron "30 2 * * *" --tz America/New_York
      muster schedule edit nightly -i digit=4 --overlap queue
      muster schedule edit weekly --batch s3://bucket/batches/other.jsonl --reset end
    """
    changes = {RESETS[one]: None for one in resets} | when.told() | ({"cron": rule} if rule is not None else {})
    with session.connect() as client:
        before = client.schedules.get(ref)
        runs = order.over(session, client, before.runs or {}, given)
        if not changes and runs is None:
            raise click.UsageError("say what is to be different; `muster schedule edit --help` lists what can be")
        changed = client.schedules.change(ref, **changes, **({"runs": runs} if runs is not None else {}))
    if session.json:
        output.document(changed.raw)
        return
    same = changed.version == before.version
    output.say(session, f"{changed.name} is as it was" if same else f"{changed.name} is version {changed.version}")
    _say_next(session, changed)


@schedule.command()
@common
@pass_session
def ls(session: Session) -> None:
    """List schedules by name.

    In a pipe: TAB-separated name, state, rule, zone, next tick, what became of the last, ID.

    \b
    Examples:
      muster schedule ls
    """
    with session.connect() as client:
        found = client.schedules.list()
    if session.json:
        output.listing(one.raw for one in found)
        return
    output.table(COLUMNS, [_row(one) for one in found])


def _row(one: Schedule) -> tuple[Cell, ...]:
    upcoming = moment(one.next_fires[0]) if one.next_fires else None
    last = one.last_fire
    return one.name, one.state, one.cron, one.timezone, upcoming, _became(last) if last else None, one.id


def _became(fire: Fire) -> str:
    return fire.state if fire.reason_code is None else f"{fire.state}: {fire.reason_code}"


@schedule.command(no_args_is_help=True)
@Ref
@common
@pass_session
def show(session: Session, ref: str) -> None:
    """Show a schedule, by name or ID, with its next five ticks.

    \b
    Examples:
      muster schedule show nightly
      muster schedule show nightly --json | jq .runs
    """
    with session.connect() as client:
        found = client.schedules.get(ref)
    if session.json:
        output.document(found.raw)
        return
    names = ("id", "name", "version", "state", "cron", "timezone", "overlap", "misfire")
    output.fields([(name, getattr(found, name)) for name in names])
    output.fields(
        [(name, _told(found.raw.get(name))) for name in ("grace_s", "jitter_s", "start_at", "end_at", "inject")]
    )
    kinds = (f"{kind} of {order.get('template')}" for kind, order in (found.runs or {}).items())
    last = [("last", f"{moment(found.last_fire.tick)} {_became(found.last_fire)}")] if found.last_fire else []
    upcoming = [("next", moment(one)) for one in found.next_fires or ()]
    output.fields([("runs", ", ".join(kinds)), *last, *upcoming])


def _told(said: Any) -> Cell:
    """Nothing of what is not set."""
    if isinstance(said, dict):
        return ", ".join(f"{where}={word}" for where, word in said.items()) or None
    return said or None


@schedule.command(no_args_is_help=True)
@Ref
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@common
@pass_session
def fires(session: Session, ref: str, limit: int) -> None:
    """List what became of its ticks, newest first.

    In a pipe: TAB-separated tick, state (or why it was skipped), request or batch, when that was decided, reason.

    \b
    Examples:
      muster schedule fires nightly
      muster schedule fires nightly -n 1000 | grep skipped
    """
    with session.connect() as client:
        found = list(client.schedules.fires(ref, limit=limit))
        upcoming = client.schedules.get(ref)
    if session.json:
        output.listing(one.raw for one in found)
        return
    if found:
        _print_fires(found)
    else:
        output.say(session, f"{upcoming.name} has not fired yet")
    _say_next(session, upcoming)


@schedule.command(no_args_is_help=True)
@Ref
@common
@pass_session
def trigger(session: Session, ref: str) -> None:
    """Run it now, once, whatever else runs, and print the ID of the run.

    \b
    Examples:
      muster wait $(muster schedule trigger nightly)
    """
    with session.connect() as client:
        fired = client.schedules.trigger(ref)
    if session.json:
        output.document(fired.raw)
    else:
        output.line(fired.run or "")


@schedule.command(no_args_is_help=True)
@Ref
@common
@pass_session
def pause(session: Session, ref: str) -> None:
    """Let nothing run from now on: its ticks are skipped, with that as their reason.

    \b
    Examples:
      muster schedule pause nightly
    """
    with session.connect() as client:
        _tell(session, client.schedules.pause(ref))


@schedule.command(no_args_is_help=True)
@Ref
@common
@pass_session
def resume(session: Session, ref: str) -> None:
    """Let it run again, from now on.

    \b
    Examples:
      muster schedule resume nightly
    """
    with session.connect() as client:
        _tell(session, client.schedules.resume(ref))


@schedule.command(no_args_is_help=True)
@Refs
@common
@pass_session
def rm(session: Session, refs: Sequence[str]) -> None:
    """Remove schedules. What they started goes on.

    \b
    Examples:
      muster schedule rm nightly
    """
    one_by_one(session, refs, lambda client, ref: client.schedules.remove(ref), "removed")


def _tell(session: Session, found: Schedule) -> None:
    if session.json:
        output.document(found.raw)
        return
    output.say(session, f"{found.name} is {found.state}")
    if found.state == "active":
        _say_next(session, found)


def _say_next(session: Session, found: Schedule) -> None:
    for one in found.next_fires or ():
        output.say(session, f"  next: {moment(one)}{_there(one, found.timezone)}")


def _there(tick: datetime, timezone: str) -> str:
    """What the clocks of the schedule's zone show then; nothing where this machine does not know the zone."""
    try:
        return "" if timezone == "UTC" else f" ({tick.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M} {timezone})"
    except (KeyError, ValueError, OSError):
        return ""


def _print_fires(found: Sequence[Fire]) -> None:
    rows = [(moment(one.tick), _became(one), one.run, one.decided_at, one.reason) for one in found]
    output.table(FIRE_COLUMNS, rows)
