"""A file on its way to the service, with a bar on a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session
from orchestrator.cli.text import safe

if TYPE_CHECKING:
    from orchestrator.client import Client


def send(session: Session, client: Client, path: Path) -> str:
    """Uploads the file; the ID under which a request may name it."""
    if session.quiet or session.json or not output.on_terminal(sys.stderr):
        return client.upload(path).id
    with click.progressbar(length=path.stat().st_size, label=f"sending {safe(path.name)}", file=sys.stderr) as bar:
        return client.upload(path, sent=bar.update).id
