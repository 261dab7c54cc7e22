"""What ranks wrote is read in bounds: whoever writes lines of a megabyte takes no memory of the service with them."""

from __future__ import annotations

import builders as make
import pytest

from orchestrator.store import logs
from orchestrator.store.database import Tx
from orchestrator.store.logs import Chunk


@pytest.fixture
def gang(tx: Tx) -> str:
    """It wrote ten chunks of a hundred bytes, of letters of two bytes each."""
    found = make.ready(tx, make.pool(tx))
    chunks = [Chunk(seq=n, request=None, at=1e9 + n, text=f"{n}" + "é" * 49 + "\n") for n in range(10)]
    logs.append(tx, found.id, 1, 0, chunks)
    return str(found.id)


def seqs(chunks: object) -> list[int]:
    return [chunk.seq for chunk in chunks]  # type: ignore[attr-defined]


def test_of_the_newest_chunks_so_many_bytes_are_read_and_one_chunk_at_least(
    tx: Tx, gang: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, found in ((10_000, [*range(10)]), (1000, [*range(10)]), (300, [7, 8, 9]), (1, [9])):
        monkeypatch.setattr(logs, "MOST_BYTES", most)
        monkeypatch.setattr(logs, "PAGE_BYTES", most)
        assert seqs(logs.of_gang(tx, gang, None, 100)) == found, most
        assert seqs(logs.of_gang(tx, gang, [0], 100)) == found, most
        assert seqs(logs.tails(tx, gang, 1, [0], 100)) == found, most
    assert seqs(logs.of_gang(tx, gang, None, 4)) == [9]
