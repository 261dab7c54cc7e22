"""`muster up`, `serve`, `migrate`: the service itself. The only commands that import it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session, common, pass_session

if TYPE_CHECKING:
    from orchestrator.settings import Settings

_host = click.option("--host", help="Address to listen on; default: MUSTER_HOST, or 127.0.0.1.")
_port = click.option("--port", type=click.IntRange(0, 65535), help="Default: MUSTER_PORT, or 8380; 0 takes a free one.")


@click.command()
@_host
@_port
@common
def up(host: str | None, port: int | None) -> None:
    """Run everything on this machine and stay: Postgres, the service, gangs.

    While it runs, every `muster` command on this machine finds it by itself. State lies in MUSTER_HOME, by default
    ~/.local/share/muster. Set MUSTER_DATABASE_URL to use a Postgres of your own. Ctrl-C stops it in good order.

    \b
    Examples:
      muster up
      MUSTER_HOME=./state muster up --port 0
    """
    from orchestrator.service.running import up as run_up

    raise click.exceptions.Exit(run_up(_settings(host, port)))


@click.command()
@_host
@_port
@common
def serve(host: str | None, port: int | None) -> None:
    """Run one replica of the service, as in a cluster. Needs MUSTER_DATABASE_URL.

    \b
    Examples:
      MUSTER_DATABASE_URL=postgresql+psycopg2://muster:...@db/muster muster serve
    """
    from orchestrator.service.running import serve as run_serve

    raise click.exceptions.Exit(run_serve(_settings(host, port)))


@click.command()
@common
@pass_session
def migrate(session: Session) -> None:
    """Bring the database of MUSTER_DATABASE_URL to this version's schema; print the revision.

    \b
    Examples:
      MUSTER_DATABASE_URL=postgresql+psycopg2://muster:...@db/muster muster migrate
    """
    settings = _settings(None, None)
    if settings.database_url is None:
        raise click.UsageError("set MUSTER_DATABASE_URL (`muster up` migrates its embedded Postgres by itself)")
    from orchestrator.service.offline import migrate as run_migrate

    revision = run_migrate(settings.database_url)
    if session.json:
        output.document({"revision": revision})
    else:
        output.line(revision)


def _settings(host: str | None, port: int | None) -> Settings:
    from orchestrator.settings import Settings

    settings = Settings.from_env()
    return replace(settings, host=host or settings.host, port=settings.port if port is None else port)
