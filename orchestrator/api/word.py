"""/internal/v1, the parked question of a busy gang: is its request to stop? A beat would tell it seconds later."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from orchestrator.api.auth import Here, WorkerRoute, bearer
from orchestrator.api.hub import request_topic, wait_for
from orchestrator.api.reports import AttemptId
from orchestrator.store import words
from orchestrator.store.tokens import digest
from orchestrator.store.words import Word

router = APIRouter(prefix="/internal/v1", include_in_schema=False, route_class=WorkerRoute)

LONGEST_S = 30.0


@router.get("/attempts/{attempt}/word")
async def word(attempt: AttemptId, http: Request, here: Here, wait: Annotated[float, Query(ge=0)] = 0.0) -> Any:
    """Answers when the word is no longer `continue`, or after `wait` seconds."""
    session = digest(bearer(http))
    deadline = time.monotonic() + min(wait, LONGEST_S)
    found = await here.transact(lambda tx: words.of_attempt(tx, attempt, session))
    with here.hub.waiter(request_topic(found.request)) as woken:
        while True:
            found = await here.transact(lambda tx: words.of_attempt(tx, attempt, session))
            left = deadline - time.monotonic()
            if found.word is not Word.CONTINUE or left <= 0 or here.hub.closing:
                return {"word": found.word}
            await wait_for(woken, left)
