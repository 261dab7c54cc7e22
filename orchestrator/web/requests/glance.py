"""A request at a glance: what a line of a list says of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api import views
from orchestrator.domain.states import TERMINAL
from orchestrator.store.database import Record
from orchestrator.web.frame.ids import short

_LONGEST = 140
_LONGEST_VALUE = 90
_TELLING = ("prompt", "text", "query", "question", "message", "title", "name")


def line(row: Record) -> dict[str, Any]:
    """One row of `listing.brief`."""
    terminal = row.state in TERMINAL
    return {
        "id": row.id,
        "short": short(row.id),
        "state": row.state,
        "template": row.template,
        "version": row.template_version,
        "about": about(row.input),
        **_marks(row.labels or {}),
        "batch": row.batch_id,
        "custom_id": row.custom_id,
        "attempt": row.attempts,
        "progress": None if terminal else views.progress(row),
        "why": f"{row.reason_code}: {row.reason}" if terminal and row.reason_code else None,
        "created_at": row.created_at,
        **_span(row),
    }


_OURS = "muster/"
_SCHEDULE = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)


def _marks(labels: Mapping[str, str]) -> dict[str, Any]:
    """What somebody marked it with, and the schedule that sent it: what else Muster writes there is told elsewhere."""
    own = sorted((key, value) for key, value in labels.items() if not key.startswith(_OURS))
    said = labels.get(f"{_OURS}schedule", "")  # anybody may write it
    return {"labels": own[:4], "schedule": said if _SCHEDULE.fullmatch(said) else None}


def _span(row: Record) -> dict[str, Any]:
    """How long it ran, or runs, or waits: seconds, or the moment to count from."""
    if row.finished_at is not None:
        begun = row.started_at
        return {"took_s": (row.finished_at - begun).total_seconds() if begun else None, "since": None}
    return {"took_s": None, "since": row.started_at or row.created_at}


def about(values: Mapping[str, Any] | None) -> str:
    """An input in one line."""
    if values is None:
        return "(a large input)"
    told = ", ".join(_told(values))
    return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"


def _told(values: Mapping[str, Any]) -> Iterator[str]:
    first = [name for name in _TELLING if isinstance(values.get(name), str) and values[name]]
    for name in first[:1]:
        yield _cut(" ".join(values[name].split()))
    for name, value in values.items():
        if name not in first[:1]:
            yield f"{name}={_cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
