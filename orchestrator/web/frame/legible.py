"""JSON for people to read, in bounded time and length whatever it is: a page is made while others wait. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

INDENTED = 16 << 10
"""Characters on one line up to which JSON gets a line for each value."""
DEEPEST = 32
"""The same of its depth: each line begins with as many blanks as it lies deep."""
SHOWN = 64 << 10
"""Characters of anything that a page shows in one place."""

_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


def pretty(value: Any) -> str:
    """All of it; indented if it is short and flat."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) > INDENTED or _depth(line) > DEEPEST:
        return line
    return json.dumps(value, ensure_ascii=False, indent=2)


def short(value: Any) -> str | None:
    """As `pretty`, of what may be shown whole; None for what may not."""
    text = pretty(value)
    return text if len(text) <= SHOWN else None


def beginning(text: str) -> str:
    """A text, or its beginning and how long it is."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… ({len(text):,} characters)"


def shown(value: Any) -> str:
    """The beginning of a value, or all."""
    return beginning(pretty(value))


def _depth(line: str) -> int:
    depth = deepest = 0
    for mark in _MARKS.finditer(line):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        deepest = max(deepest, depth)
    return deepest
