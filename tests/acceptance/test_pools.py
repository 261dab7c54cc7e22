"""A pool has as many gangs as its policy says, and lets them go in good order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stage import PATIENT, Up, echo, processes, until

from orchestrator.client import Gang

NAME = "spring"


def only_gang(service: Up, *, other_than: str = "") -> Gang:
    return until(
        lambda: next((g for g in service.gangs(NAME) if g.state == "idle" and g.id != other_than), None),
        "the pool has a gang",
    )


def gone(service: Up, gang_id: str) -> Gang:
    until(lambda: service.client.gang(gang_id).state == "gone", f"gang {gang_id} is gone")
    until(lambda: not processes.of_gang(gang_id), f"no process of gang {gang_id} is left")
    return service.client.gang(gang_id)


def test_a_pool_scales_to_zero_when_idle_and_back_when_asked(service: Up) -> None:
    service.client.apply_template(echo(NAME, ranks=2, idle_timeout_s=0.5))
    first, second = (gone(service, service.run(NAME).placement.gang) for _ in range(2))
    assert first.id != second.id
    assert {gang.raw["reason_code"] for gang in (first, second)} <= {"idle", "drained"}
    assert service.gangs(NAME) == []


@pytest.mark.long
def test_a_minimum_of_one_keeps_one_gang_and_replaces_it_when_it_is_drained(service: Up) -> None:
    service.client.set_pool(NAME, min=1, idle_timeout=timedelta(seconds=0.5))
    kept = only_gang(service)
    service.client.drain_gang(kept.id)
    gone(service, kept.id)
    following = only_gang(service, other_than=kept.id)
    assert [gang.id for gang in service.gangs(NAME)] == [following.id]
    service.client.set_pool(NAME, min=0)
    gone(service, following.id)


def test_a_busy_gang_that_is_drained_finishes_what_it_has(service: Up) -> None:
    gang = service.idle_gang(PATIENT)
    request = service.client.submit(PATIENT, {"sleep_s": 2, "steps": 20})
    service.running(request.id)
    assert service.client.drain_gang(gang.id).state == "draining"
    assert service.done(request.id).attempt == 1
    gone(service, gang.id)
