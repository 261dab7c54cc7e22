"""What a PromQL expression names: its metrics with the labels that it asks of each, as far as our panels go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
ADDED = frozenset({"instance", "job", "le"})
"""Labels that Prometheus puts on, or that a histogram has."""


@dataclass(frozen=True)
class Named:
    """What an expression names."""

    metrics: frozenset[str]
    matched: frozenset[tuple[str, str]]
    """(metric, label) of each matcher."""
    grouped: frozenset[str]
    """Labels of `by`, `on` and their like."""


def named(expression: str) -> Named:
    bare = _STRING.sub('""', expression)
    grouped = {label.strip() for found in _GROUPING.findall(bare) for label in found.split(",") if label.strip()}
    bare = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", bare))
    matched = set(_matched(bare))
    bare = re.sub(r"\{[^}]*\}", "", bare)
    metrics = {
        found.group()
        for found in _NAME.finditer(bare)
        if found.group() not in _WORDS
        and not bare[found.end() :].lstrip().startswith("(")
        and not bare[: found.start()][-1:].isdigit()
    }
    return Named(frozenset(metrics), frozenset(matched), frozenset(grouped))


def _matched(bare: str) -> Iterator[tuple[str, str]]:
    for metric, inside in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", bare):
        for part in inside.split(","):
            if part.strip():
                yield metric, re.split(r"[=!]", part.strip())[0].strip()


def unknown(expression: str, exposed: dict[str, set[str]]) -> list[str]:
    """What it names and a scrape does not have. `exposed`: sample -> its labels."""
    names = named(expression)
    missing = [f"no metric {metric}" for metric in sorted(names.metrics) if metric not in exposed]
    missing += [
        f"no label {label} of {metric}"
        for metric, label in sorted(names.matched)
        if label not in exposed.get(metric, set()) | ADDED
    ]
    of_any = set().union(ADDED, *(exposed.get(metric, set()) for metric in names.metrics))
    return missing + [f"no label {label} to group by" for label in sorted(names.grouped - of_any)]
