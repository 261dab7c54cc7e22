"""Who writes a handler learns what went wrong, on which rank, and the gang serves the next one."""

from __future__ import annotations

import time

import pytest
from stage import QUAD, Up, echo


def test_an_error_on_one_rank_is_the_cause_of_the_request_and_leaves_the_gang_warm(service: Up) -> None:
    gang = service.idle_gang(QUAD)
    request = service.run(QUAD, {"steps": 5, "hooks": {"raise_on_rank": 1, "at_step": 2}})
    error = request.error
    assert error is not None
    assert (request.status, error.code, error.rank, error.retryable) == ("failed", "handler_error", 1, False)
    assert error.message == "rank 1 raises as asked"
    assert error.node
    assert "_go_wrong(ctx, hooks)" in (error.traceback or "")
    assert service.moves(request.id)[-1] == "fail"
    following = service.run(QUAD)
    assert gang.ranks is not None
    assert following.result["pids"] == [rank.pid for rank in gang.ranks]
    assert following.result["builds"] == 1


@pytest.mark.long
def test_an_error_on_one_rank_ends_the_request_in_seconds_though_collectives_time_out_after_minutes(
    service: Up,
) -> None:
    template = echo("default", ranks=4, handler="inference.samples.failing:Failing", input={"type": "object"})
    service.client.apply_template(template)
    assert service.run("default", {}).status == "succeeded"
    begun = time.monotonic()
    request = service.run("default", {"how": "raise_error", "on_rank": 2})
    took_s = time.monotonic() - begun
    error = request.error
    assert error is not None
    assert (request.status, request.raw["reason"]) == ("failed", "handler_error")
    assert (error.code, error.rank) == ("handler_error", 2)
    assert error.message.endswith("rank 2 raises as asked")
    assert "in raise_error" in (error.traceback or "")
    assert took_s < 14, took_s
    assert service.run("default", {}).status == "succeeded"


def test_a_promised_output_that_was_not_written_is_a_failure(service: Up) -> None:
    error = service.run(QUAD, {"hooks": {"promise": True}}).error
    assert error is not None
    assert (error.code, error.rank) == ("artifact_missing", 0)


def test_a_published_output_is_whole(service: Up) -> None:
    request = service.run(QUAD, {"hooks": {"write": "x" * 100_000}})
    path = service.client.download(request.id, "echo.txt", service.home / "downloads")
    assert path.read_text() == "x" * 100_000


def test_requests_of_a_template_whose_setup_fails_fail_with_its_traceback(service: Up) -> None:
    service.client.apply_template(echo("broken", ranks=2, args={"raise_in_setup_on_rank": 1}))
    request = service.run("broken")
    error = request.error
    assert error is not None
    assert (request.status, error.code, error.rank) == ("failed", "setup_failed", 1)
    assert "setup fails as asked" in (error.traceback or "")
    assert service.gangs("broken") == []
