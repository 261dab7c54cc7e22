"""A gang may idle for much longer than its collectives may take (A4; benchmarks/recovery.py waits for a minute)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from stage import PATIENT, Up, until

IDLE = timedelta(seconds=20)  # four times the timeout of its collectives


def test_a_gang_that_idled_for_longer_than_its_data_timeout_serves_with_the_same_ranks(service: Up) -> None:
    gang = service.idle_gang(PATIENT)
    assert gang.idle_since is not None
    until(lambda: datetime.now(UTC) - gang.idle_since > IDLE, "the gang has idled")
    request = service.run(PATIENT)
    assert gang.ranks is not None
    assert request.result["pids"] == [rank.pid for rank in gang.ranks]
    assert (request.attempt, service.client.gang(gang.id).incarnation) == (1, 1)
