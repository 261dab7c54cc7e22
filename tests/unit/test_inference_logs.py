"""Output cut into lines and chunks: whose they are, how many bytes are kept, what is dropped."""

import itertools

import pytest

from inference import logs
from inference.logs import Buffer, Lines, Turns


def _fed(content: bytes, size: int) -> str:
    lines = Lines()
    parts = [lines.feed(content[i : i + size]) for i in range(0, len(content), size)]
    return "".join(parts) + lines.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("windows\r\nends\r\n", "windows\nends\n"),
        ("\r 10%\r 20%\r100%\n", " 10%\n 20%\n100%\n"),
        ("\n\nkept\n", "\n\nkept\n"),
        ("no end", "no end\n"),
        ("schön 画\n", "schön 画\n"),
    ],
)
def test_lines_are_whole_wherever_the_reads_were_cut(written: str, lines: str, size: int) -> None:
    assert _fed(written.encode(), size) == lines


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    assert _fed(b"a\xffb\n", 100) == "a\ufffdb\n"


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_every_byte_belongs_to_the_request_that_ran_when_it_was_written(size: int) -> None:
    turns, owner = Turns(), None
    turns.expect(4, "first")
    turns.expect(9, None)
    turns.expect(11, "second")
    owned: dict[str | None, bytes] = {}
    stream = b"gangfirst--second"
    for start in range(0, len(stream), size):
        for piece, passed in turns.split(stream[start : start + size]):
            owned[owner] = owned.get(owner, b"") + piece
            owner = passed[-1] if passed else owner
    assert owned == {None: b"gang--", "first": b"first", "second": b"second"}
    assert not turns


def test_a_request_that_wrote_nothing_owns_nothing() -> None:
    turns = Turns()
    turns.expect(1, "silent")
    turns.expect(1, None)
    assert list(turns.split(b"ab")) == [(b"a", ["silent", None]), (b"b", [])]


def _taken(buffer: Buffer) -> list[tuple[int, str | None, str]]:
    taken = [(chunk.seq, chunk.request, chunk.text) for chunk in buffer.take()]
    buffer.settle()
    return taken


def test_chunks_are_numbered_and_belong_to_one_request_each() -> None:
    buffer = Buffer()
    buffer.add("before\n")
    buffer.turn_to("req_1")
    buffer.add("a\n")
    buffer.add("b\n")
    assert _taken(buffer) == [(1, None, "before\n"), (2, "req_1", "a\nb\n")]
    buffer.add("c\n")
    assert _taken(buffer) == [(3, "req_1", "c\n")]


def test_what_did_not_arrive_is_sent_again_under_the_same_number() -> None:
    buffer = Buffer()
    buffer.add("a\n")
    first = [chunk.as_json() for chunk in buffer.take()]
    buffer.add("b\n")
    assert [chunk.as_json() for chunk in buffer.take()] == first
    buffer.settle()
    assert _taken(buffer) == [(2, None, "b\n")]


def test_an_attempt_that_writes_too_much_is_cut_with_a_line_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ATTEMPT_BYTES", 10)
    buffer = Buffer()
    buffer.turn_to("req_1")
    for _ in range(5):
        buffer.add("123456\n")
    buffer.turn_to("req_2")
    buffer.add("next\n")
    (_, _, first), (_, _, second) = _taken(buffer)
    assert first.startswith("123456\n123")
    assert first.count("truncated") == 1
    assert second == "next\n"


def test_a_silent_service_costs_the_oldest_lines_and_the_rank_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PENDING_BYTES", 100)
    monkeypatch.setattr(logs, "CHUNK_BYTES", 20)
    buffer = Buffer()
    for number in range(50):
        buffer.add(f"line {number:02}\n")
    text = "".join(itertools.chain.from_iterable(chunk.text for chunk in buffer.take(10_000)))
    assert "bytes of output dropped" in text.splitlines()[0]
    assert "line 00" not in text
    assert text.endswith("line 49\n")
    assert len(text) < 250
