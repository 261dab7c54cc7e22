"""The move tables: every word is a state, nothing leaves a terminal state, every state can be reached and left."""

from __future__ import annotations

from enum import StrEnum

import pytest

from orchestrator.domain.states import (
    BATCH_MOVES,
    BATCH_OVER,
    GANG_MOVES,
    LEASED,
    REQUEST_MOVES,
    TERMINAL,
    BatchState,
    GangState,
    Move,
    RequestState,
)

MACHINES = [
    pytest.param(REQUEST_MOVES, RequestState, TERMINAL, id="request"),
    pytest.param(GANG_MOVES, GangState, frozenset({GangState.GONE}), id="gang"),
    pytest.param(
        {name: move for name, move in BATCH_MOVES.items() if name != "reopen"}, BatchState, BATCH_OVER, id="batch"
    ),
]


@pytest.mark.parametrize(("moves", "states", "terminal"), MACHINES)
def test_every_source_and_target_is_a_state(
    moves: dict[str, Move], states: type[StrEnum], terminal: frozenset[str]
) -> None:
    assert {move.target for move in moves.values()} | {s for m in moves.values() for s in m.sources} == set(states)


@pytest.mark.parametrize(("moves", "states", "terminal"), MACHINES)
def test_no_move_leaves_a_terminal_state(
    moves: dict[str, Move], states: type[StrEnum], terminal: frozenset[str]
) -> None:
    assert not any(move.sources & terminal for move in moves.values())


@pytest.mark.parametrize(("moves", "states", "terminal"), MACHINES)
def test_every_other_state_can_end(moves: dict[str, Move], states: type[StrEnum], terminal: frozenset[str]) -> None:
    ends = set(terminal)
    while more := {s for m in moves.values() if m.target in ends for s in m.sources} - ends:
        ends |= more
    assert ends == set(states)


@pytest.mark.parametrize(("moves", "states", "terminal"), MACHINES)
def test_exactly_one_move_begins_a_life_and_all_states_follow_from_it(
    moves: dict[str, Move], states: type[StrEnum], terminal: frozenset[str]
) -> None:
    (birth,) = [move for move in moves.values() if not move.sources]
    reached = {birth.target}
    while more := {m.target for m in moves.values() if m.sources & reached} - reached:
        reached |= more
    assert reached == set(states)


@pytest.mark.parametrize(("moves", "states", "terminal"), MACHINES)
def test_a_move_knows_its_name_its_guard_and_its_meaning(
    moves: dict[str, Move], states: type[StrEnum], terminal: frozenset[str]
) -> None:
    for name, move in moves.items():
        assert move.name == name and move.meaning
        assert move.guard == sorted(move.sources)


def test_a_request_is_leased_terminal_or_queued() -> None:
    assert LEASED | TERMINAL | {RequestState.QUEUED} == set(RequestState)
    assert not LEASED & TERMINAL


def test_a_batch_that_is_over_goes_on_only_when_it_is_reopened() -> None:
    assert {name for name, move in BATCH_MOVES.items() if move.sources & BATCH_OVER} == {"reopen"}
    assert BATCH_MOVES["reopen"].sources == BATCH_OVER


def test_the_only_way_into_a_lease_is_assign() -> None:
    into = {m.name for m in REQUEST_MOVES.values() if m.target in LEASED and not m.sources <= LEASED}
    assert into == {"assign"}


def test_no_new_attempt_starts_after_a_cancel() -> None:
    assert {m.target for m in REQUEST_MOVES.values() if RequestState.CANCELING in m.sources} == {"canceled"}
