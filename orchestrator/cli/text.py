"""What people type for spans and moments. Pure; how they are shown is in domain/text.py."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.domain.durations import DURATION
from orchestrator.domain.durations import parse_duration as parse_duration
from orchestrator.domain.text import age as age
from orchestrator.domain.text import clock as clock
from orchestrator.domain.text import duration as duration
from orchestrator.domain.text import moment as moment
from orchestrator.domain.text import safe as safe
from orchestrator.domain.text import safe_lines as safe_lines
from orchestrator.domain.text import size as size


def parse_moment(text: str, now: datetime) -> datetime:
    """`5m` (so long before `now`), or RFC 3339 with a zone. Raises ValueError with a remedy."""
    if DURATION.fullmatch(text):
        return now - parse_duration(text)
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        said = None
    if said is None or said.tzinfo is None:
        raise ValueError(f"{text!r} is no moment: write 5m, 2h, 1d (ago), or 2026-01-31T12:00:00Z")
    return said.astimezone(UTC)
