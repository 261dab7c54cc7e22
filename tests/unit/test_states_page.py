"""docs/states.md says what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.states import GANG_MOVES, REQUEST_MOVES, GangState, Reason, RequestState
from orchestrator.domain.states_page import page

COMMITTED = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_committed_page_is_the_generated_one() -> None:
    assert COMMITTED.read_text() == page(), "run: python -m orchestrator.domain.states_page > docs/states.md"


@pytest.mark.parametrize("state", [*RequestState, *GangState])
def test_every_state_has_a_sentence(state: str) -> None:
    line = next(line for line in page().splitlines() if line.startswith(f"- **{state}**: "))
    assert line.endswith(".") and len(line) > len(state) + 20


def test_every_move_and_every_reason_stands_in_a_table() -> None:
    for name in (*REQUEST_MOVES, *GANG_MOVES, *Reason):
        assert f"| `{name}` |" in page()


def test_every_move_is_an_arrow_of_the_diagram() -> None:
    arrows = [line.strip() for line in page().splitlines() if " --> " in line and ": " in line]
    for move in (*REQUEST_MOVES.values(), *GANG_MOVES.values()):
        for source in move.sources or {"[*]"}:
            (arrow,) = [a for a in arrows if a.startswith(f"{source} --> {move.target}: ")]
            assert move.name in arrow.split(": ")[1].split(", ")
