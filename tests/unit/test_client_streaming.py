"""Server-sent events on the client's side: read as the standard says, taken up where they broke off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import pytest

from orchestrator.client.streaming import Update, follow, updates
from orchestrator.errors import NotFound, Unavailable

STREAM = (
    b'retry: 1000\n\n:\n\nid: 1\nevent: status\ndata: {"seq":1}\n\n'
    b'event: progress\ndata: {"text":"\xc3\xa9"}\n\nid: 2\r\nevent:done\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
)
READ = [
    Update(kind="status", id="1", data={"seq": 1}),
    Update(kind="progress", id=None, data={"text": "é"}),
    Update(kind="done", id="2", data={"a": 1}),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_the_bytes_are_cut(size: int) -> None:
    assert list(updates(STREAM[at : at + size] for at in range(0, len(STREAM), size))) == READ


def test_an_event_that_is_cut_off_at_the_end_is_none() -> None:
    assert list(updates([STREAM[:-2]])) == READ[:2]


def test_what_is_no_json_is_an_answer_of_somebody_else() -> None:
    with pytest.raises(Unavailable):
        list(updates([b"data: <html>\n\n"]))


class Service:
    """Answers each connection with what is next: chunks, or what it raises."""

    def __init__(self, *answers: list[bytes] | Exception) -> None:
        self.answers, self.seen = list(answers), []

    @contextmanager
    def open(self, headers: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
        self.seen.append(headers.get("Last-Event-ID"))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield iter(answer)

    def follow(self, after: str | None = None, patience_s: float = 60.0) -> list[Update]:
        self.pauses: list[float] = []
        found = follow(
            self.open,
            after=after,
            patience=timedelta(seconds=patience_s),
            on_silence=None,
            sleep=self.pauses.append,
        )
        return list(found)


def test_a_stream_that_breaks_off_goes_on_after_the_last_id() -> None:
    away = Unavailable("away")
    service = Service([b"retry: 1\n\n"], away, [STREAM[:-40]], away, away, [STREAM[-40:]])
    service.answers[-1] = [b"id: 2\nevent: done\ndata: {}\n\n"]
    assert [one.kind for one in service.follow()] == ["status", "progress", "done"]
    assert service.seen == [None, None, None, "1", "1", "1"]
    assert len(service.pauses) == 5 and all(pause > 0 for pause in service.pauses)


def test_a_stream_that_was_read_to_its_end_is_not_opened_again() -> None:
    service = Service([])
    assert service.follow(after="2.1") == [] and service.seen == ["2.1"]


def test_a_service_that_stays_away_is_given_up_and_a_refusal_at_once() -> None:
    with pytest.raises(Unavailable):
        Service(Unavailable("away"), Unavailable("away")).follow(patience_s=-1)
    with pytest.raises(NotFound):
        Service(NotFound("no such request")).follow()
