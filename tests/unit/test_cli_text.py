"""Words of the CLI: what a terminal would obey is spelt out; durations, sizes, new log lines."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.loglines import SKIPPED, NewLines
from orchestrator.cli.output import _json
from orchestrator.cli.text import age, clock, duration, moment, parse_duration, safe, safe_lines, size

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202egnp\u2066\u200b\ufeff\u2028\x7f\r\U000e0041\x00"


def test_everything_a_terminal_would_obey_is_spelt_out() -> None:
    assert safe(HOSTILE).isascii() and safe(HOSTILE).isprintable()
    assert safe("a\x1b[0m") == "a\\x1b[0m" and safe("\u202e") == "\\u202e" and safe("\n") == "\\n"


def test_plain_words_of_all_languages_stay_as_they_are() -> None:
    words = "Zürich 東京 שלום नमस्ते می‌خواهم 👩‍🚀 [red]x[/red]"
    assert safe(words) == words


def test_lines_keep_their_ends_and_tabs_but_cannot_return_the_carriage() -> None:
    assert safe_lines("a\tb\r\nc\rd\n") == "a\tb\nc\\rd\n"


@given(st.text())
def test_safe_text_can_be_printed_anywhere(text: str) -> None:
    bidi = {unicodedata.bidirectional(one) for one in safe(text)}
    assert not bidi & {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    assert all(byte >= 0x20 and byte != 0x7F for byte in safe(text).encode("utf-8"))


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_says_the_same_whatever_is_escaped(value: object) -> None:
    assert json.loads(_json(value, indent=2)) == value
    assert "\n" not in _json(value, indent=None)


def test_json_on_a_terminal_is_harmless() -> None:
    text = _json({"x": HOSTILE + "東京"}, indent=None)
    assert safe(text) == text and json.loads(text)["x"].startswith("\x1b]0;")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "5 m", "1w", "1e3s", "PT1H", "nan", "9999999d", "٣s", "1h\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_figures_are_told_in_words() -> None:
    assert [duration(one) for one in (0.003, 0.123, 12.34, 75, 600, 12000, 200_000)] == [
        "3 ms", "0.12 s", "12.3 s", "1m15s", "10m", "3h20m", "2d07h",
    ]  # fmt: skip
    assert [clock(one) for one in (-1, 3.2, 75, 3900)] == ["0:00", "0:03", "1:15", "1:05:00"]
    assert [size(one) for one in (0, 9999, 12345, 10**7, 10**15)] == [
        "0 bytes", "9999 bytes", "12.1 KiB", "9.5 MiB", "909.5 TiB",
    ]  # fmt: skip
    then = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(then, then + timedelta(seconds=3)) == "3s" and age(then, then - timedelta(seconds=3)) == "0s"
    assert moment(then) == "2026-01-01T00:00:00Z"


def test_only_new_lines_are_shown() -> None:
    log = NewLines()
    assert log.of("a\nb\n") == ["a", "b"]
    assert log.of("a\nb\n") == []
    assert log.of("a\nb\nb\n") == ["b"]
    assert log.of("b\nb\nc\n") == ["c"], "the window moved on"


def test_lines_of_ranks_may_change_places() -> None:
    log = NewLines()
    assert log.of("[r0] a\n[r1] a\n") == ["[r0] a", "[r1] a"]
    assert log.of("[r0] a\n[r0] b\n[r1] a\n[r1] b\n") == ["[r0] b", "[r1] b"]
    assert log.of("[r1] a\n[r0] a\n[r0] b\n[r1] b\n[r2] x\n") == ["[r2] x"]


def test_lines_that_were_missed_are_admitted() -> None:
    log = NewLines()
    log.of("a\nb\n")
    assert log.of("x\ny\n") == [SKIPPED, "x", "y"]
