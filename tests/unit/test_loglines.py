"""Log chunks become lines: whole, in order, with the rank where there are several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.api.loglines import joined, ranks


def chunks(*written: tuple[int, str]) -> list[Any]:
    return [SimpleNamespace(rank=rank, body=body) for rank, body in written]


def test_a_line_split_over_chunks_is_one_line() -> None:
    assert joined(chunks((0, "one\ntw"), (0, "o\nthr"), (0, "ee")), 10, prefixed=False) == "one\ntwo\nthree\n"


def test_lines_of_several_ranks_do_not_mix_and_name_their_rank() -> None:
    written = chunks((0, "he"), (1, "good"), (0, "llo\n"), (1, "bye\n"))
    assert joined(written, 10, prefixed=True) == "[r0] hello\n[r1] goodbye\n"


def test_an_open_line_is_shown_with_its_rank() -> None:
    assert joined(chunks((2, "loading")), 10, prefixed=True) == "[r2] loading\n"


def test_only_the_last_lines_are_shown() -> None:
    assert joined(chunks((0, "a\nb\nc\nd\n")), 2, prefixed=False) == "c\nd\n"


def test_empty_lines_are_lines() -> None:
    assert joined(chunks((0, "a\n\nb\n")), 10, prefixed=False) == "a\n\nb\n"


def test_nothing_written_is_nothing_shown() -> None:
    assert joined([], 10, prefixed=True) == ""


@pytest.mark.parametrize(("asked", "meant"), [("all", None), ("0", [0]), ("1,3", [1, 3]), ("00007", [7])])
def test_ranks_are_asked_for_by_number_or_all(asked: str, meant: list[int] | None) -> None:
    assert ranks(asked) == meant
