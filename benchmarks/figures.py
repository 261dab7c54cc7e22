"""Numbers out of samples. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

__all__ = ["median", "ms", "quantile", "spread"]


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def ms(seconds: float) -> float:
    """Milliseconds, two decimals."""
    return round(seconds * 1000, 2)


def spread(samples: Sequence[float]) -> str:
    """Median and range."""
    return f"{median(samples):.2f} ({min(samples):.2f}-{max(samples):.2f})"
