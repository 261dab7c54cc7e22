"""What a gang is to do about the request that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.states import RequestState
from orchestrator.errors import StaleLease
from orchestrator.store.database import Tx
from orchestrator.store.prepared import prepared


class Word(StrEnum):
    CONTINUE = "continue"
    CANCEL = "cancel"
    OVER = "over"
    """The attempt ended, by the gang's own report or not: its beats say more."""


@dataclass(frozen=True, kw_only=True)
class Said:
    request: str
    word: Word


_LOOK = prepared("""
SELECT a.request_id, r.state, a.ended_at IS NOT NULL OR a.incarnation <> g.incarnation AS over
FROM attempt a JOIN gang g ON g.id = a.gang_id JOIN request r ON r.id = a.request_id
WHERE a.id = :attempt AND g.session_hash = :session
""")


def of_attempt(tx: Tx, attempt: str, session_hash: bytes) -> Said:
    """Raises StaleLease for a caller whose incarnation it is not."""
    row = tx.execute(_LOOK, {"attempt": attempt, "session": session_hash}).one_or_none()
    if row is None:
        raise StaleLease(f"attempt {attempt} is not of this incarnation", code="stale_lease")
    if row.over:
        return Said(request=row.request_id, word=Word.OVER)
    word = Word.CANCEL if row.state == RequestState.CANCELING else Word.CONTINUE
    return Said(request=row.request_id, word=word)
