"""`muster open`: the pages, in the browser of whoever sits here."""

from __future__ import annotations

import html
import os
import tempfile
import time
import webbrowser
from pathlib import Path

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session, common, pass_session

READ_WITHIN_S = 5
PAGE = """<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}"><title>Muster</title><a href="{address}">Muster</a>
"""


@click.command(name="open")
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
@common
@pass_session
def open_(session: Session, no_browser: bool) -> None:
    """Open the pages in a browser, signed in.

    The token goes to the browser in a file that only you can read, never on a command line, and is not in the address
    that stays. Without a browser on this machine: open the address anywhere and paste a token.

    \b
    Examples:
      muster open
      muster open --no-browser
    """
    from orchestrator.client import find

    found = find(session.url)
    address = f"{found.url.rstrip('/')}/ui/"
    opened = not no_browser and _open(address, found.token)
    if session.json:
        output.document({"url": address, "opened": opened})
    else:
        output.fields([("url", address), ("opened", "yes" if opened else "no: sign in there with a token")])


def _open(address: str, token: str | None) -> bool:
    """Whether a browser took it."""
    if token is None:
        return webbrowser.open(address)
    descriptor, name = tempfile.mkstemp(suffix=".html", prefix="muster-")  # only its owner can read it
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(PAGE.format(address=html.escape(f"{address}login#token={token}")))
        if not webbrowser.open(Path(name).as_uri()):
            return False
        time.sleep(READ_WITHIN_S)
        return True
    finally:
        Path(name).unlink(missing_ok=True)
