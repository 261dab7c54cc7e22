"""`muster tenant`: who shares an installation, and what each may have. Straight in the database, past all tokens."""

from __future__ import annotations

import click

from orchestrator.cli import output
from orchestrator.cli.session import Commands, Session, common, pass_session

COLUMNS = ("TENANT", "MAX-OPEN", "MAX-QUEUED", "MAX-WAITS", "SUBMIT-RATE", "WEIGHT")
INHERIT = "default"


@click.group(cls=Commands)
def tenant() -> None:
    """Tenants: who shares this installation, and what each may have.

    \b
    Examples:
      muster tenant set ads --max-open 2000 --weight 2
    """


@tenant.command(no_args_is_help=True, name="set")
@click.argument("name")
@click.option("--max-open", help="Requests not at their end.")
@click.option("--max-queued", help="Requests waiting for one template.")
@click.option("--max-waits", help="Calls that one replica holds open.")
@click.option("--submit-rate", help="Submits per second.")
@click.option("--weight", type=click.FloatRange(min=0.001, max=1e6), help="Share of gangs against other tenants.")
@common
@pass_session
def set_bounds(
    session: Session,
    name: str,
    max_open: str | None,
    max_queued: str | None,
    max_waits: str | None,
    submit_rate: str | None,
    weight: float | None,
) -> None:
    """Make a tenant, or change what it may have; `default` goes back to the settings. Needs MUSTER_DATABASE_URL.

    \b
    Example:
      muster tenant set ads --max-open 2000 --submit-rate 50
    """
    from orchestrator.service.offline import set_tenant

    asked = {"max_open": max_open, "max_queued": max_queued, "max_waits": max_waits, "submit_rate": submit_rate}
    bounds = {key: _bound(key, said) for key, said in asked.items() if said is not None}
    changed = set_tenant(_database_url(), name, bounds | ({} if weight is None else {"weight": weight}))
    if session.json:
        output.document(changed)
    else:
        output.table(COLUMNS, [_row(changed)])


@tenant.command()
@common
@pass_session
def ls(session: Session) -> None:
    """List tenants with their own bounds. Needs MUSTER_DATABASE_URL.

    In a pipe: TAB-separated tenant, max-open, max-queued, max-waits, submit-rate, weight.

    \b
    Examples:
      muster tenant ls
    """
    from orchestrator.service.offline import list_tenants

    found = list_tenants(_database_url())
    if session.json:
        output.listing(found)
    else:
        output.table(COLUMNS, [_row(one) for one in found])


def _bound(option: str, said: str) -> float | None:
    """None for `default`: what the settings of the installation say."""
    if said == INHERIT:
        return None
    try:
        number = float(said)
    except ValueError:
        number = -1
    if not 0 <= number <= 1e9 or (option != "submit_rate" and number != int(number)):
        raise click.BadParameter(f"{said!r} is neither a number from 0 to 10^9 nor `{INHERIT}`", param_hint=option)
    return number


def _database_url() -> str:
    from orchestrator.settings import Settings

    url = Settings.from_env().database_url
    if url is None:
        raise click.UsageError("tenants are kept straight in the database: set MUSTER_DATABASE_URL")
    return url


def _row(one: dict[str, object]) -> tuple[str, ...]:
    keys = ("id", "max_open", "max_queued", "max_waits", "submit_rate", "weight")
    return tuple(INHERIT if one[key] is None else f"{one[key]}" for key in keys)
