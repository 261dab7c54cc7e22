"""`muster up` with its own Postgres and local gangs, as the acceptance tests stage it: for what is done to gangs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "acceptance"))
from stage import Up, blows, echo, processes, until

__all__ = ["Up", "blows", "count", "echo", "processes", "staged", "until"]


@contextmanager
def staged(name: str) -> Iterator[Up]:
    """One that has started, in a folder of its own; closed at the end, however that comes."""
    with tempfile.TemporaryDirectory(prefix=f"muster-{name}-") as folder:
        up = Up(Path(folder))
        try:
            up.start()
            yield up
        finally:
            up.close()


def count(up: Up, query: str, **values: Any) -> int:
    """The one number that the query answers."""
    return up.look(lambda tx: int(tx.execute(text(query), values).scalar_one()))
