"""`muster token`: credentials of people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import click

from orchestrator.cli import output
from orchestrator.cli.completing import tokens
from orchestrator.cli.removing import one_by_one
from orchestrator.cli.session import Commands, Duration, Session, common, pass_session
from orchestrator.cli.text import moment

COLUMNS = ("ID", "NAME", "CREATED", "EXPIRES", "SCOPES")


@click.group(cls=Commands)
def token() -> None:
    """Tokens: credentials of people and programs.

    \b
    Examples:
      muster token create ci --scope submit --expires 90d > token.txt
      muster token revoke tok_01j...
    """


@token.command(no_args_is_help=True)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("submit", "read"),
    show_default=True,
    help="What it may: submit, read, admin; several, or submit,read.",
)
@click.option("--expires", type=Duration(), help="When it ends; default: never.")
@click.option("--local", is_flag=True, help="Straight into MUSTER_DATABASE_URL: an installation's first token.")
@click.option("--tenant", help="With --local: whose token it is; default: `default`.")
@common
@pass_session
def create(
    session: Session, name: str, scopes: Sequence[str], expires: timedelta | None, local: bool, tenant: str | None
) -> None:
    """Make a token and print it. It is shown this once.

    \b
    Examples:
      muster token create ci --scope submit --expires 90d > token.txt
      muster token create ops --scope admin --local
    """
    if local:
        output.line(_made_in_the_database(name, _split(scopes), expires, tenant or "default"))
        return
    if tenant:
        raise click.UsageError("a token is of the tenant that makes it: --tenant goes with --local")
    with session.connect() as client:
        made = client.create_token(name, _split(scopes), expires_in=expires)
    if session.json:
        output.document(made.raw)
        return
    output.line(made.token or "")
    output.say(session, f"{made.id}: shown only now; whoever uses it sets MUSTER_TOKEN")


@token.command()
@common
@pass_session
def ls(session: Session) -> None:
    """List tokens, without their secrets.

    In a pipe: TAB-separated ID, name, created, expires, scopes.

    \b
    Examples:
      muster token ls
    """
    with session.connect() as client:
        found = client.tokens()
    if session.json:
        output.listing(one.raw for one in found)
    else:
        rows = [
            (one.id, one.name, one.created_at, _expires(one.expires_at), ",".join(one.scopes or ())) for one in found
        ]
        output.table(COLUMNS, rows)


@token.command(no_args_is_help=True)
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True, shell_complete=tokens)
@common
@pass_session
def revoke(session: Session, token_ids: Sequence[str]) -> None:
    """End tokens at once.

    \b
    Examples:
      muster token revoke tok_01j...
    """
    one_by_one(session, token_ids, lambda client, token_id: client.revoke_token(token_id), "revoked")


def _made_in_the_database(name: str, scopes: Sequence[str], expires: timedelta | None, tenant: str) -> str:
    from orchestrator.service.offline import first_token
    from orchestrator.settings import Settings

    url = Settings.from_env().database_url
    if url is None:
        raise click.UsageError("--local needs MUSTER_DATABASE_URL")
    return first_token(url, name=name, scopes=scopes, expires_in=expires, tenant=tenant)


def _split(scopes: Sequence[str]) -> list[str]:
    return [scope.strip() for part in scopes for scope in part.split(",") if scope.strip()]


def _expires(when: datetime | None) -> str:
    return moment(when) if when else "never"
