"""One request as it is now, or as it is when it has ended. A wait is parked on the hub: no thread, no connection."""

from __future__ import annotations

import time

from orchestrator.api import views
from orchestrator.api.hub import Waiter, request_topic, wait_for
from orchestrator.api.office import Office
from orchestrator.api.views import Json
from orchestrator.api.waiting import explain
from orchestrator.domain.states import LEASED, RequestState
from orchestrator.store import losses, requests
from orchestrator.store.database import Record, Tx


async def shown(here: Office, tenant: str, request_id: str) -> Json:
    """Raises NotFound."""
    answer, _ = await tagged(here, tenant, request_id)
    return answer


async def tagged(here: Office, tenant: str, request_id: str) -> tuple[Json, str]:
    """The request and its ETag. Raises NotFound."""
    return await here.look(lambda tx: view(tx, requests.get(tx, tenant, request_id)))


def view(tx: Tx, row: Record) -> tuple[Json, str]:
    """A row of `requests.get` as it is shown, and its ETag."""
    lost = losses.of_request(tx, row.id) if has_losses(row) else []
    return views.request(row, waiting=explain(tx, row), losses=lost), views.etag(row)


async def until_terminal(here: Office, tenant: str, request_id: str, woken: Waiter, seconds: float) -> Json:
    """The request when it has ended, or as it is after that long. It is looked at when something happened to it."""
    deadline = time.monotonic() + seconds
    with here.admission.held(tenant):
        while not here.hub.closing and await wait_for(woken, deadline - time.monotonic()):
            if woken.ended is not None and not has_losses(woken.ended):
                return views.request(woken.ended)
            answer = await shown(here, tenant, request_id)
            if answer["is_terminal"]:
                return answer
    return await shown(here, tenant, request_id)


async def earlier(here: Office, tenant: str, request_id: str, seconds: float) -> Json:
    """A request of before, which may have ended already; waits for its end if not."""
    with here.hub.waiter(request_topic(request_id)) as woken:
        answer = await shown(here, tenant, request_id)
        if answer["is_terminal"] or not seconds:
            return answer
        return await until_terminal(here, tenant, request_id, woken, seconds)


def has_losses(row: Record) -> bool:
    """Not while its first attempt lives, nor if that succeeded: this saves nearly every look a join."""
    if row.attempts == 1:
        return row.state not in LEASED and row.state != RequestState.SUCCEEDED
    return bool(row.attempts)
