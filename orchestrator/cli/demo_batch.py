"""The second half of the demo: a batch of all ten digits, one file of results, one contact sheet."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import output
from orchestrator.cli.batch_watching import stay, tell
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.session import Session
from orchestrator.errors import MusterError

if TYPE_CHECKING:
    from orchestrator.client import Batch, Client

DIGITS = range(10)
COLUMNS = 5
PICTURE = "digit.png"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What the batch left in the demo's folder."""

    batch: Batch
    lines: Path
    results: Path
    picture: Path
    seconds: float


def run(client: Client, template: str, folder: Path, until: float) -> Sheet:
    """Raises MusterError unless all ten items succeed before `until` (monotonic seconds)."""
    lines = folder / "digits.jsonl"
    lines.write_text("".join(json.dumps(_line(digit)) + "\n" for digit in DIGITS))
    session, began = Session(), time.monotonic()
    batch = client.batches.submit(template, lines)
    left = timedelta(seconds=max(1.0, until - time.monotonic()))
    batch = stay(session, client, batch.id, timeout=left)
    seconds = time.monotonic() - began
    if tell(session, batch) is not ExitCode.OK:
        raise MusterError(f"{batch.id} {batch.status} ({batch.outcome or 'not over'})")
    results = folder / "results.jsonl"
    with results.open("wb") as file, client.batches.results(batch.id) as chunks:
        file.writelines(chunks)
    pictures = _download(client, results, folder / "batch")
    picture = folder / "contact-sheet.png"
    paste(pictures, picture)
    return Sheet(batch=batch, lines=lines, results=results, picture=picture, seconds=seconds)


def _line(digit: int) -> dict[str, object]:
    return {"custom_id": f"digit-{digit}", "input": {"digit": digit, "seed": 7}}


def _download(client: Client, results: Path, folder: Path) -> list[Path]:
    """The picture of each line of the results, in their order."""
    told = [json.loads(line) for line in results.read_text().splitlines()]
    return [client.download(one["request"], PICTURE, folder, save_as=f"{one['custom_id']}.png") for one in told]


def paste(pictures: Sequence[Path], sheet: Path) -> None:
    """All pictures in a grid. They have one size."""
    from PIL import Image

    tiles = [Image.open(path).convert("L") for path in pictures]
    width, height = tiles[0].size
    canvas = Image.new("L", (COLUMNS * width, -(-len(tiles) // COLUMNS) * height))
    for place, tile in enumerate(tiles):
        canvas.paste(tile, (place % COLUMNS * width, place // COLUMNS * height))
    canvas.save(sheet)


def show(sheet: Sheet) -> None:
    from rich.table import Table

    counts = sheet.batch.counts
    grid = Table(title="Ten at once", show_header=False, title_justify="left")
    grid.add_row("lines", os.path.relpath(sheet.lines))
    grid.add_row("batch", f"{sheet.batch.id}, {counts.succeeded} of {counts.total} items succeeded")
    grid.add_row(
        "took", f"{sheet.seconds:.1f} s  launch a gang of its own, load the model once, draw ten; it left by itself"
    )
    grid.add_row("results", os.path.relpath(sheet.results))
    grid.add_row("picture", os.path.relpath(sheet.picture))
    click.echo()
    output.console(sys.stdout).print(grid)
