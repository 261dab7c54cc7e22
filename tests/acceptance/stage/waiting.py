"""Bounded looks at a condition, instead of sleeps that hope for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from orchestrator.errors import Unavailable

T = TypeVar("T")

PATIENCE = timedelta(seconds=120)  # several cold starts of four ranks on two cores that others keep busy
_POLL_S = 0.05


def until(look: Callable[[], T | None], what: str, *, within: timedelta = PATIENCE) -> T:
    """The first answer that is true. A service that is away for the moment counts as "not yet"."""
    deadline = time.monotonic() + within.total_seconds()
    while True:
        with suppress(Unavailable):
            if found := look():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within.total_seconds():g} s in vain: {what}")
        time.sleep(_POLL_S)
