"""Result files: `results/NAME.md` for people, `results/NAME.json` with every sample."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine

FOLDER = Path(__file__).parent / "results"


@dataclass(kw_only=True)
class Aim:
    """What a figure should be, and what it is."""

    what: str
    aim: str
    measured: str
    met: bool | None
    """None: not measured, `measured` says why."""


@dataclass(kw_only=True)
class Result:
    """One benchmark's outcome."""

    name: str
    title: str
    method: str
    load_before: float = field(default_factory=machine.load)
    aims: list[Aim] = field(default_factory=list)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=list)
    """Heading, column names, rows."""
    notes: list[str] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path = FOLDER) -> None:
        """Write both files and print what people read."""
        facts = {
            **machine.describe(),
            "load average before": f"{self.load_before:.2f}",
            "after": f"{machine.load():.2f}",
        }
        facts["measured"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        text = "\n".join(_page(self, facts))
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.md").write_text(text)
        (folder / f"{self.name}.json").write_text(
            json.dumps({"facts": facts, "samples": self.samples}, indent=1) + "\n"
        )
        print(text, flush=True)


def _page(result: Result, facts: dict[str, str]) -> list[str]:
    lines = [f"# {result.title}", "", f"`python -m benchmarks.{result.name}`", "", result.method.strip(), ""]
    if result.aims:
        rows = [(aim.what, aim.aim, aim.measured, _verdict(aim.met)) for aim in result.aims]
        lines += [*_table(("what", "aim", "measured", ""), rows), ""]
    for heading, columns, rows_ in result.tables:
        lines += [f"## {heading}", "", *_table(columns, rows_), ""]
    if result.notes:
        lines += ["## Notes", "", *(f"* {note}" for note in result.notes), ""]
    return [*lines, "## Machine", "", *(f"* {name}: {value}" for name, value in facts.items()), ""]


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[met]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
