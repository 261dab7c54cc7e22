"""Logs of every rank, in chunks, by request or by gang."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from orchestrator.store.database import Record, Tx
from orchestrator.store.prepared import prepared

MOST_BYTES = 32 << 20
"""Of one look at what was written: a chunk may hold much, and the service holds all of an answer."""
PAGE_BYTES = 1 << 20
"""Of the last lines that a page shows, again and again."""


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


def of_request(
    tx: Tx, request_id: str, ranks: Sequence[int] | None, limit: int, since: float | None = None
) -> Sequence[Record]:
    """The newest `limit` chunks of a request, or MOST_BYTES, in order, of these ranks or of all; `since` as in `Reach`.

    Rank 0 is also the first one of the replica that ran it: no other rank 0 wrote anything for it.
    """
    return _newest(tx, "request_id = :key", request_id, ranks, limit, since, f"0 = ANY(:ranks) AND rank = {_FIRST}")


def of_gang(
    tx: Tx, gang_id: str, ranks: Sequence[int] | None, limit: int, since: float | None = None
) -> Sequence[Record]:
    """The newest `limit` chunks of a gang in order: start-up, and every request that it ran."""
    return _newest(tx, "gang_id = :key", gang_id, ranks, limit, since)


_TAILS = prepared("""
SELECT rank, seq, at, body FROM (
  SELECT c.*, sum(octet_length(c.body)) OVER (ORDER BY c.at DESC, c.rank DESC, c.seq DESC) AS upto
  FROM unnest(CAST(:ranks AS int[])) AS k (rank) CROSS JOIN LATERAL (
    SELECT rank, seq, at, body FROM log_chunk
    WHERE gang_id = :gang AND incarnation = :incarnation AND rank = k.rank ORDER BY seq DESC LIMIT :n) c) newest
WHERE upto - octet_length(body) < :bytes ORDER BY at, rank, seq
""")


def tails(tx: Tx, gang_id: str, incarnation: int, ranks: Sequence[int], each: int) -> Sequence[Record]:
    """The newest chunks of these ranks of one life of a gang, of each at most so many, in order; a page's worth."""
    asked = {"gang": gang_id, "incarnation": incarnation, "ranks": list(ranks), "n": each, "bytes": PAGE_BYTES}
    return tx.execute(_TAILS, asked).all()


_FIRST = (
    "ANY(ARRAY(SELECT a.slot * (g.world / g.replicas) FROM attempt a JOIN gang g ON g.id = a.gang_id"
    " WHERE a.request_id = :key))"
)


def _newest(
    tx: Tx, where: str, key: str, ranks: Sequence[int] | None, limit: int, since: float | None, more: str = "false"
) -> Sequence[Record]:
    return tx.execute(
        text(
            "SELECT gang_id, incarnation, rank, seq, at, body FROM ("
            "SELECT n.*, sum(octet_length(body)) OVER (ORDER BY at DESC, rank DESC, seq DESC) AS upto"
            " FROM (SELECT gang_id, incarnation, rank, seq, at, body FROM log_chunk"
            f" WHERE {where} AND (CAST(:ranks AS int[]) IS NULL OR rank = ANY(:ranks) OR {more})"
            " AND at >= to_timestamp(:since)"
            " ORDER BY at DESC, rank DESC, seq DESC LIMIT :n) n) newest"
            " WHERE upto - octet_length(body) < :bytes ORDER BY at, rank, seq"
        ),
        {
            "key": key,
            "ranks": list(ranks) if ranks is not None else None,
            "since": since or 0.0,
            "n": limit,
            "bytes": MOST_BYTES,
        },
    ).all()


def lives(tx: Tx, request_id: str) -> dict[tuple[str, int], int]:
    """The first attempt of the request on each incarnation of a gang, by gang and incarnation."""
    rows = tx.execute(
        text("SELECT gang_id, incarnation, min(number) AS number FROM attempt WHERE request_id = :r GROUP BY 1, 2"),
        {"r": request_id},
    )
    return {(row.gang_id, row.incarnation): row.number for row in rows}


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Which chunks of a request somebody wants who follows its logs."""

    ranks: Sequence[int] | None
    """None: all of the gang. 0 is also the first rank of the replica."""
    since: float | None
    """Seconds since the epoch, by the pods' clocks."""
    known: Mapping[tuple[int, int], int]
    """The last sequence number seen, by attempt and rank; see `beyond`."""


FORGOTTEN_LIVES = 3
"""What ranks send of an attempt once that many later ones have sent something is not followed any more."""

_STREAMS = """
WITH life AS MATERIALIZED (
  SELECT a.gang_id, a.incarnation, min(a.number) AS number, max(g.world) AS world,
         array_agg(a.slot * (g.world / g.replicas)) AS firsts
  FROM attempt a JOIN gang g ON g.id = a.gang_id WHERE a.request_id = :r GROUP BY a.gang_id, a.incarnation
), stream AS MATERIALIZED (
  SELECT l.*, k.rank, coalesce(n.seq, 0) AS seq
  FROM life l CROSS JOIN LATERAL generate_series(0, l.world - 1) k (rank)
  LEFT JOIN json_to_recordset(CAST(:known AS json)) AS n (number int, rank int, seq int)
    ON n.number = l.number AND n.rank = k.rank
  WHERE l.number > :floor AND (CAST(:ranks AS int[]) IS NULL OR k.rank = ANY(:ranks)
    OR 0 = ANY(:ranks) AND k.rank = ANY(l.firsts))
)
"""
_BEYOND = prepared(f"""{_STREAMS}
SELECT s.number, s.rank, c.seq, c.at, c.body,
       max(c.at) OVER (PARTITION BY s.number, s.rank ORDER BY c.seq) AS not_before
FROM stream s CROSS JOIN LATERAL (
  SELECT seq, at, body FROM log_chunk c
  WHERE c.request_id = :r AND c.gang_id = s.gang_id AND c.incarnation = s.incarnation AND c.rank = s.rank
    AND c.seq > s.seq AND c.at >= to_timestamp(:since)
  ORDER BY c.seq LIMIT :n) c
ORDER BY s.number, not_before, s.rank, c.seq LIMIT :n
""")


_ENDS = prepared(f"""{_STREAMS}
SELECT s.number, s.rank, c.seq FROM stream s CROSS JOIN LATERAL (
  SELECT seq FROM log_chunk c
  WHERE c.request_id = :r AND c.gang_id = s.gang_id AND c.incarnation = s.incarnation AND c.rank = s.rank
  ORDER BY c.seq DESC LIMIT 1) c
""")


def ends(tx: Tx, request_id: str, ranks: Sequence[int] | None) -> dict[tuple[int, int], int]:
    """The last sequence number of each rank that wrote, by attempt and rank, as in `Reach.known`."""
    rows = tx.execute(
        _ENDS, {"r": request_id, "known": "[]", "floor": 0, "ranks": list(ranks) if ranks is not None else None}
    )
    return {(row.number, row.rank): row.seq for row in rows}


def beyond(tx: Tx, request_id: str, reach: Reach, limit: int) -> Sequence[Record]:
    """The next chunks: `number`, `rank`, `seq`, `at`, `body`. Those of one rank come in the order it wrote them.

    What a rank sends is numbered, so a reader's place is a number for each rank of each life of a gang (by its first
    attempt): exact whichever rank's chunk arrives first, which no order of all chunks is.
    """
    known = [{"number": number, "rank": rank, "seq": seq} for (number, rank), seq in reach.known.items()]
    newest = max((number for number, _ in reach.known), default=0)
    return tx.execute(
        _BEYOND,
        {
            "r": request_id,
            "known": json.dumps(known),
            "floor": newest - FORGOTTEN_LIVES,
            "ranks": list(reach.ranks) if reach.ranks is not None else None,
            "since": reach.since or 0.0,
            "n": limit,
        },
    ).all()


def prune(tx: Tx, keep: timedelta, limit: int = 5000) -> int:
    """Delete old chunks, a page at a time."""
    deleted = tx.execute(
        text(
            "DELETE FROM log_chunk WHERE ctid = ANY(ARRAY(SELECT ctid FROM log_chunk"
            " WHERE at < (SELECT clock_timestamp()) - :s * interval '1 second' LIMIT :n))"
        ),
        {"s": keep.total_seconds(), "n": limit},
    )
    return deleted.rowcount
