"""Logs of every rank, in chunks, by request or by gang."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some lines of one rank. `at` in seconds since the epoch, by the pod's clock: for display only."""

    seq: int
    request: str | None
    at: float
    text: str


_APPEND = prepared("""
INSERT INTO log_chunk (gang_id, incarnation, rank, seq, request_id, at, body)
SELECT :gang, :incarnation, :rank, c.seq, c.request, to_timestamp(c.at), c.body
FROM unnest(CAST(:seqs AS int[]), CAST(:requests AS text[]), CAST(:ats AS float8[]), CAST(:bodies AS text[]))
  AS c (seq, request, at, body)
ON CONFLICT DO NOTHING
""")


def append(tx: Tx, gang_id: str, incarnation: int, rank: int, chunks: Sequence[Chunk]) -> None:
    """Keep the chunks; a sequence number that is known already is ignored."""
    tx.execute(
        _APPEND,
        {
            "gang": gang_id,
            "incarnation": incarnation,
            "rank": rank,
            "seqs": [c.seq for c in chunks],
            "requests": [c.request for c in chunks],
            "ats": [c.at for c in chunks],
            "bodies": [c.text.replace("\0", "\ufffd") for c in chunks],
        },
    )


def of_request(tx: Tx, request_id: str, ranks: Sequence[int] | None, limit: int) -> Sequence[Record]:
    """The newest `limit` chunks of a request in order, of these ranks or of all."""
    return _newest(tx, "request_id = :key", request_id, ranks, limit)


def of_gang(tx: Tx, gang_id: str, ranks: Sequence[int] | None, limit: int) -> Sequence[Record]:
    """The newest `limit` chunks of a gang in order: start-up, and every request that it ran."""
    return _newest(tx, "gang_id = :key", gang_id, ranks, limit)


def _newest(tx: Tx, where: str, key: str, ranks: Sequence[int] | None, limit: int) -> Sequence[Record]:
    return tx.execute(
        text(
            "SELECT * FROM (SELECT incarnation, rank, seq, at, body FROM log_chunk"
            f" WHERE {where} AND (CAST(:ranks AS int[]) IS NULL OR rank = ANY(:ranks))"
            " ORDER BY at DESC, rank DESC, seq DESC LIMIT :n) newest ORDER BY at, rank, seq"
        ),
        {"key": key, "ranks": list(ranks) if ranks is not None else None, "n": limit},
    ).all()


def prune(tx: Tx, keep: timedelta, limit: int = 5000) -> int:
    """Delete old chunks, a page at a time."""
    deleted = tx.execute(
        text(
            "DELETE FROM log_chunk WHERE ctid = ANY(ARRAY(SELECT ctid FROM log_chunk"
            " WHERE at < clock_timestamp() - :s * interval '1 second' LIMIT :n))"
        ),
        {"s": keep.total_seconds(), "n": limit},
    )
    return deleted.rowcount
