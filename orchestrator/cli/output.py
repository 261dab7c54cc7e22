"""Two voices: data goes to stdout, words for people to stderr.

On a terminal tables have headers and are cut to its width; in a pipe they are plain lines of TAB-separated columns, no
header, nothing cut, times in UTC (RFC 3339). `--json` is the same in both.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import click

from orchestrator.cli.session import Session
from orchestrator.cli.text import age, moment, safe, safe_lines

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.client import Request

Cell = str | int | float | datetime | None
BEYOND_ASCII = re.compile(r"[^\x20-\x7e\n]")
GAP = 2
LEAST_LAST_COLUMN = 12
NARROWEST = 20


def on_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person looks at `stream` (stdout if not said)."""
    stream = sys.stdout if stream is None else stream
    return stream is not None and stream.isatty()


def say(session: Session, text: str) -> None:
    """A word for people."""
    if not session.quiet:
        complain(text)


def complain(text: str) -> None:
    """A word for people that `-q` does not silence."""
    click.echo(safe_lines(text), err=True)


def line(text: str) -> None:
    """A line of data."""
    click.echo(safe(text, keep="\t"))


def lines(text: str) -> None:
    """Text of the service: made harmless for a terminal, as it came for a pipe."""
    if text:
        click.echo(safe_lines(text) if on_terminal() else text, nl=not text.endswith("\n"), color=True)


def document(value: Any) -> None:
    """One JSON document."""
    click.echo(_json(value, indent=2))


def requests(found: Sequence[Request]) -> None:
    """One request is a document, several are a list."""
    if len(found) == 1:
        document(found[0].raw)
    else:
        listing(request.raw for request in found)


def yaml_text(value: Any) -> str:
    """A mapping, its keys in the order in which they came."""
    import yaml

    return str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=_utf8(sys.stdout)))


def json_line(value: Any) -> None:
    """One JSON document on a line of its own, out at once."""
    click.echo(_json(value, indent=None))


def listing(values: Iterable[Any]) -> None:
    """A list as one JSON document."""
    document({"data": list(values)})


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Rows of data; the last column is free text and gives way when the terminal is narrow."""
    if on_terminal():
        _show(columns, rows)
        return
    for cells in rows:
        row(cells)


def row(cells: Sequence[Cell]) -> None:
    """One row of data, out at once: for what comes bit by bit."""
    click.echo("\t".join(_plain(cell) for cell in cells))


def fields(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Names and values, one to a line; what is not known is left out."""
    known = [(name, value) for name, value in pairs if value is not None]
    if not on_terminal():
        for name, value in known:
            click.echo(f"{name}\t{_plain(value)}")
        return
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        shown = f"{moment(value)}, {_shown(value)} ago" if isinstance(value, datetime) else _shown(value)
        text = safe_lines(shown).replace("\n", "\n" + " " * (width + GAP))
        click.echo(f"{name:<{width}}{' ' * GAP}{text}")


def console(stream: TextIO) -> Console:
    """rich on `stream`: it decides nothing about terminals itself, and takes no text for markup."""
    from rich.console import Console

    terminal = on_terminal(stream)
    return Console(
        file=stream, force_terminal=terminal, markup=False, highlight=False, emoji=False, force_interactive=terminal
    )


def _show(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = [[safe(_shown(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    out = console(sys.stdout)
    out.width = max(out.width, NARROWEST, sum(widths[:-1]) + GAP * len(widths) + min(widths[-1], LEAST_LAST_COLUMN))
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name, width in zip(columns[:-1], widths[:-1], strict=True):
        grid.add_column(name, no_wrap=True, min_width=width)
    grid.add_column(columns[-1], no_wrap=True, overflow="ellipsis" if _utf8(sys.stdout) else "crop")
    for row in shown:
        grid.add_row(*(Text(cell) for cell in row))
    out.print(grid)


def _plain(cell: Cell) -> str:
    return safe(moment(cell) if isinstance(cell, datetime) else _text(cell))


def _shown(cell: Cell) -> str:
    return age(cell, datetime.now(UTC)) if isinstance(cell, datetime) else _text(cell) or "-"


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _json(value: Any, *, indent: int | None) -> str:
    """Readable where that is harmless: what a terminal would obey stays escaped, as JSON spells it."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    readable = _utf8(sys.stdout)
    return BEYOND_ASCII.sub(lambda one: one[0] if readable and safe(one[0]) == one[0] else _escaped(one[0]), text)


def _escaped(one: str) -> str:
    return "\\u007f" if one == "\x7f" else json.dumps(one)[1:-1]


def _utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"
