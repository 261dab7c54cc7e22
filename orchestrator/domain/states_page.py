"""docs/states.md, written from the tables in states.py:  python -m orchestrator.domain.states_page > docs/states.md

The meaning of a state is the text below it in the source, so that it stands once. Knows no store.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.states import (
    BATCH_MOVES,
    FAULTS,
    GANG_MOVES,
    REQUEST_MOVES,
    BatchState,
    GangState,
    Move,
    Reason,
    RequestState,
)

_HEAD = """# States

Written by `python -m orchestrator.domain.states_page > docs/states.md` from `orchestrator/domain/states.py`; a test
compares the two. Every move is one function of the store, guarded by its sources, and writes one event in the same
statement: a row is what its last event says. `tests/integration/test_request_moves.py`, `test_gang_moves.py` and
`test_batch_moves.py` try every move in every state.
"""


@dataclass(frozen=True, kw_only=True)
class _Machine:
    title: str
    states: type[StrEnum]
    moves: dict[str, Move]


_MACHINES = (
    _Machine(title="A request", states=RequestState, moves=REQUEST_MOVES),
    _Machine(title="A gang", states=GangState, moves=GANG_MOVES),
    _Machine(title="A batch", states=BatchState, moves=BATCH_MOVES),
)


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(machine) for machine in _MACHINES), _reasons()])


def _section(machine: _Machine) -> str:
    parts = [f"## {machine.title}", _diagram(machine.moves), _meanings(machine.states), _table(machine.moves)]
    return "\n\n".join(parts) + "\n"


def _diagram(moves: dict[str, Move]) -> str:
    """One arrow for each pair of states, with the moves that go that way."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for move in moves.values():
        for source in sorted(move.sources) or ["[*]"]:
            arrows.setdefault((source, move.target), []).append(move.name)
    targets = {source for move in moves.values() for source in move.sources}
    ends = sorted({move.target for move in moves.values()} - targets)
    lines = [f"    {source} --> {target}: {', '.join(names)}" for (source, target), names in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, *(f"    {end} --> [*]" for end in ends), "```"])


def _meanings(states: type[StrEnum]) -> str:
    found = dict(_documented(states))
    return "\n".join(f"- **{state}**: {found[state.name]}" for state in states)


def _documented(states: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """Each member with the text below it."""
    (definition,) = ast.parse(inspect.getsource(states)).body
    assert isinstance(definition, ast.ClassDef)
    for member, below in zip(definition.body, definition.body[1:], strict=False):
        match member, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())


def _table(moves: dict[str, Move]) -> str:
    rows = [
        f"| `{move.name}` | {' '.join(sorted(move.sources)) or '–'} | {move.target} | {move.meaning} |"
        for move in moves.values()
    ]
    return "\n".join(["| move | from | to | when |", "|---|---|---|---|", *rows])


def _reasons() -> str:
    rows = [f"| `{reason}` | {FAULTS[reason]} |" for reason in Reason]
    lead = "States are few, reasons are many. A fault of the user is final at once, one of infra is tried again."
    return "\n".join(["## Reasons", "", lead, "", "| reason | fault |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
