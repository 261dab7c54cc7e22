"""The axis of time that the attempts of a request are drawn on. Pure.

It is even, unless waits would leave no room for what is looked for: twelve hours in the queue before a run of a minute.
Then all long waits together get a part of the axis, and all else the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONG_S = 60.0
"""What is shorter is drawn as long as it was."""
_TOO_MUCH = 2.0
"""So many times as long as all else together, waits are drawn shorter."""
_SHARE = 0.3
_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Axis:
    """From 0 to `whole_s` seconds. `cuts`: the waits that are drawn shorter, as seconds from and to, apart."""

    whole_s: float
    cuts: Sequence[tuple[float, float]] = ()

    def share(self, at_s: float) -> float:
        """Where on the axis a moment lies: 0 to 1."""
        at_s = min(max(at_s, 0.0), self.whole_s)
        if not self.cuts:
            return at_s / self.whole_s
        waited = sum(max(0.0, min(end, at_s) - begin) for begin, end in self.cuts)
        return _SHARE * waited / self._cut_s + (1 - _SHARE) * (at_s - waited) / (self.whole_s - self._cut_s)

    def moment(self, share: float) -> float:
        """What lies there, in seconds."""
        if not self.cuts or share in (0, 1):
            return share * self.whole_s
        least, most = 0.0, self.whole_s
        for _ in range(_HALVINGS):
            middle = (least + most) / 2
            least, most = (middle, most) if self.share(middle) < share else (least, middle)
        return most

    @property
    def _cut_s(self) -> float:
        return sum(end - begin for begin, end in self.cuts)


def axis(whole_s: float, waits: Sequence[tuple[float, float]]) -> Axis:
    """For a request of this length that waited then and then."""
    long = [(begin, end) for begin, end in waits if end - begin >= LONG_S]
    cut_s = sum(end - begin for begin, end in long)
    rest_s = whole_s - cut_s
    return Axis(whole_s=whole_s, cuts=long if rest_s > 0 and cut_s > _TOO_MUCH * rest_s else ())
