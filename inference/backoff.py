"""How long to wait before the next try."""

import random
from collections.abc import Iterator

FIRST_S = 0.2
LONGEST_S = 5.0


def delays(first_s: float | None = None, longest_s: float | None = None) -> Iterator[float]:
    """0.2 s doubling to 5 s unless told otherwise, each shortened by up to half: gangs shall not return together."""
    delay, longest = first_s or FIRST_S, longest_s or LONGEST_S
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
        delay = min(delay * 2, longest)
