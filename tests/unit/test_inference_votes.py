"""Frames, ballots and the cadence of votes: what must be the same on every rank."""

import random

import pytest

from inference.attempt import Cadence
from inference.control import FRAME_BYTES, INLINE_BYTES, Frame, Kind, pack, unpack
from inference.vote import STRIDES, Say, ballot, count


@pytest.mark.parametrize("size", [0, 1, 300, INLINE_BYTES])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_frame_comes_back_as_it_was(kind: Kind, size: int) -> None:
    body = random.randbytes(size)
    packed = pack(Frame(kind=kind, body=body))
    assert unpack(packed.ljust(FRAME_BYTES, b"\xff")) == (kind, size, body)


def test_a_body_too_long_for_the_frame_is_announced_and_left_out() -> None:
    packed = pack(Frame(kind=Kind.WORK, body=b"x" * (INLINE_BYTES + 1)))
    assert len(packed) <= FRAME_BYTES
    assert unpack(packed.ljust(FRAME_BYTES, b"\0")) == (Kind.WORK, INLINE_BYTES + 1, b"")


@pytest.mark.parametrize("said", [(a, b, c) for a in Say for b in Say for c in Say])
def test_every_rank_learns_the_highest_and_the_lowest_word(said: tuple[Say, ...]) -> None:
    combined = 0
    for say in said:
        combined |= ballot(say)
    assert combined < 2**31
    verdict = count(combined)
    assert (verdict.highest, verdict.lowest) == (max(said), min(said))


def test_the_widest_stride_wins() -> None:
    assert count(ballot(Say.GO_ON, 2) | ballot(Say.GO_ON, 8) | ballot(Say.GO_ON, 1)).stride == 8


def test_a_result_counts_only_if_all_ranks_are_done() -> None:
    assert count(ballot(Say.DONE) | ballot(Say.DONE)).all_done
    assert not count(ballot(Say.DONE) | ballot(Say.GO_ON)).all_done
    assert not count(ballot(Say.DONE) | ballot(Say.FAILED)).all_done


@pytest.mark.parametrize("seed", range(20))
def test_ranks_with_different_clocks_vote_at_the_same_steps(seed: int) -> None:
    """Each rank sees its own step times; all follow the widest wish of the vote."""
    chance = random.Random(seed)
    ranks = [Cadence() for _ in range(4)]
    clocks = [0.0] * len(ranks)
    for _ in range(300):
        clocks = [clock + chance.choice([0.0001, 0.003, 0.5]) for clock in clocks]
        due = {cadence.due() for cadence in ranks}
        assert len(due) == 1
        if due == {True}:
            widest = max(cadence.wish(clock) for cadence, clock in zip(ranks, clocks, strict=True))
            for cadence, clock in zip(ranks, clocks, strict=True):
                cadence.agree(widest, clock)
        assert len({cadence.stride for cadence in ranks}) == 1


def test_long_steps_are_voted_on_every_time_and_short_ones_in_groups() -> None:
    def votes(step_s: float, steps: int) -> int:
        cadence, now, voted = Cadence(), 0.0, 0
        cadence.agree(1, now)
        for _ in range(steps):
            now += step_s
            if cadence.due():
                voted += 1
                cadence.agree(cadence.wish(now), now)
        return voted

    assert votes(0.02, 100) == 100
    assert votes(0.0001, 800) <= 800 / STRIDES[-1] + 5
