"""The words of a vote and what they add up to. Pure; how they travel is control's affair."""

from dataclasses import dataclass
from enum import IntEnum


class Say(IntEnum):
    """One rank's word in a vote. The highest wins, so the order is the meaning."""

    GO_ON = 0  # at a step
    CANCEL = 1  # at a step, rank 0 only
    TIMEOUT = 2  # at a step, rank 0 only
    DONE = 3  # `run` returned
    FAILED = 4  # `run` raised


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all ranks said together, the same on each."""

    highest: Say
    lowest: Say
    stride: int

    @property
    def all_go_on(self) -> bool:
        return self.highest is Say.GO_ON

    @property
    def all_done(self) -> bool:
        return self.lowest is Say.DONE and self.highest is Say.DONE
