"""What people type for spans and moments. Pure; how they are shown is in domain/text.py."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from orchestrator.domain.text import age as age
from orchestrator.domain.text import clock as clock
from orchestrator.domain.text import duration as duration
from orchestrator.domain.text import moment as moment
from orchestrator.domain.text import safe as safe
from orchestrator.domain.text import safe_lines as safe_lines
from orchestrator.domain.text import size as size

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhd])+")
PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
LONGEST = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """`30s`, `5m`, `2h`, `1d`, `1h30m`. Raises ValueError with a remedy."""
    if not DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write 30s, 5m, 2h or 1d")
    amount_s = sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    if not 0 <= amount_s <= LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than {LONGEST.days} days")
    return timedelta(seconds=amount_s)


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
