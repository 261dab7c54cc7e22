"""A gang that leaks is replaced before its host suffers, and nobody who asked for something notices (S6)."""

from __future__ import annotations

import pytest
from stage import Up, until

from orchestrator.client import Gang

LEAK = {"how": "leak", "on_rank": -1, "at_step": 0, "steps": 2, "megabytes": 50}


@pytest.mark.long
def test_a_handler_that_leaks_is_recycled_and_no_request_is_lost(service: Up) -> None:
    service.client.apply_template(
        {
            "name": "leaky",
            "handler": "inference.samples.failing:Failing",
            "pool": {"min": 1, "max": 1},
            "recycle": {"max_rss_growth_mb": 120},
        }
    )
    first = service.idle_gang("leaky")
    requests = []

    def replaced() -> bool:
        requests.append(service.run("leaky", LEAK))
        return requests[-1].placement is not None and requests[-1].placement.gang != first.id

    until(replaced, "another gang serves")
    assert {request.status for request in requests} == {"succeeded"}
    assert {request.attempt for request in requests} == {1}
    gone = until(lambda: _gone(service, first.id), "it is gone")
    assert gone.raw["reason_code"] == "recycled"
    assert "memory grew" in gone.raw["reason"]


def _gone(service: Up, gang_id: str) -> Gang | None:
    gang = service.client.gang(gang_id)
    return gang if gang.state == "gone" else None
