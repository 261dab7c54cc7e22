"""A running gang hears of a cancel long before its next beat, and does without where the service is an older one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_service import Gang, ScriptedService, eventually


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ScriptedService]:
    service = ScriptedService(tmp_path, beat_s=4.0, poll_s=5.0)
    gang = Gang(service, tmp_path, ranks=2)
    try:
        service.wait_ready()
        yield service
    finally:
        gang.kill()
        service.close()


def cancel(service: ScriptedService) -> str:
    """Of a request that runs, just after a beat that named it."""
    attempt = service.submit(steps=1000, sleep_s=50)
    eventually(lambda: any(one["attempt"] == attempt for beat in service.beats for one in beat["attempts"]), 10)
    with service.changed:
        service.words[attempt] = "cancel"
        service.changed.notify_all()
    return attempt


@pytest.mark.long
def test_a_cancel_is_heard_before_the_next_beat(service: ScriptedService) -> None:
    service.parks_words = True
    for _ in range(2):
        assert service.finished(cancel(service), within_s=2)["outcome"] == "canceled"
    assert service.finished(service.submit())["outcome"] == "succeeded"
    assert service.submit(sleep_s=1) and not service.errors
    service.parks_words = False
    assert service.finished(cancel(service), within_s=8)["outcome"] == "canceled"
