"""How long to wait before the next try."""

import random
from collections.abc import Iterator

FIRST_S = 0.2
LONGEST_S = 5.0


def delays() -> Iterator[float]:
    """0.2 s doubling to 5 s, each shortened by up to half so that the ranks of many gangs do not return together."""
    delay = FIRST_S
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
        delay = min(delay * 2, LONGEST_S)
