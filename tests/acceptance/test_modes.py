"""Warm and batch: one protocol, two lives of a gang, and a stored reason for the choice."""

from __future__ import annotations

import pytest
from stage import QUAD, Up, echo, processes, until

from orchestrator.client import Gang, Request

RUN_S = 3


def gone_in_order(service: Up, gang_id: str) -> Gang:
    """The gang, once it and all its processes have ended."""
    until(lambda: service.client.gang(gang_id).state == "gone", f"gang {gang_id} is gone")
    until(lambda: not processes.of_gang(gang_id), f"no process of gang {gang_id} is left")
    return service.client.gang(gang_id)


def gang_of(request: Request) -> str:
    assert request.placement is not None
    assert request.placement.gang is not None
    return request.placement.gang


def test_an_auto_request_takes_a_warm_gang_that_is_idle(service: Up) -> None:
    gang = service.idle_gang(QUAD)
    request = service.run(QUAD)
    assert request.placement is not None
    assert (request.placement.kind, request.placement.reason) == ("warm", "a warm gang is idle")
    assert gang_of(request) == gang.id


def test_a_batch_request_gets_a_gang_of_its_own_that_ends_with_it(service: Up) -> None:
    service.client.apply_template(echo("solo", ranks=2, max=0))
    request = service.run("solo", {"hooks": {"write": "done", "print": "hello from"}}, mode="batch")
    assert request.succeeded, request.error
    gang = gone_in_order(service, gang_of(request))
    assert (gang.mode, gang.raw["for_request"], gang.served) == ("batch", request.id, 1)
    assert gang.raw["reason_code"] == "drained"
    assert sorted(service.client.logs(request.id, rank="all").splitlines()) == [
        "[r0] hello from 0",
        "[r1] hello from 1",
    ]


@pytest.mark.long
def test_a_full_pool_with_a_long_queue_sends_auto_requests_to_batch_and_says_why(service: Up) -> None:
    service.client.apply_template(echo("busy", ranks=2, max=1))
    slow = {"sleep_s": RUN_S, "steps": 30}
    assert service.run("busy", slow).succeeded  # from here there is history to compare with
    requests = [service.client.submit("busy", slow)]
    while requests[-1].placement.kind == "warm" and len(requests) < 12:
        requests.append(service.client.submit("busy", slow))
    placements = [request.placement for request in requests]
    assert placements[-1].kind == "batch", placements
    assert "a fresh gang is sooner" in placements[-1].reason
    assert "waiting for a warm gang is sooner" in placements[1].reason
    for request in reversed(requests):
        service.client.cancel(request.id)
    assert {service.done(request.id).status for request in requests} == {"canceled"}
    until(lambda: all(gang.mode == "serve" for gang in service.gangs("busy")), "the batch gang has nothing to do: gone")
    service.client.set_pool("busy", max=0)
