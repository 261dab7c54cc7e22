"""What is said of a request that waits, runs or ended, from facts alone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.explaining import (
    Explanation,
    GangFacts,
    PoolFacts,
    RankAt,
    RequestFacts,
    Running,
    Usual,
    explain_gang,
    explain_pool,
    explain_request,
)
from orchestrator.domain.explaining.forecast import until_start

USUAL = Usual(run_s=40.0, runs=20, cold_s=100.0, starts=5, phases={"launch": 12.0, "setup": 80.0})
NEVER = Usual()


def gang(**changes: Any) -> GangFacts:
    values: dict[str, Any] = {"id": "gng_1", "state": "ready", "mode": "serve", "world": 4, "since_s": 5.0}
    return GangFacts(**(values | changes))


def busy(running_s: float = 10.0, **changes: Any) -> GangFacts:
    return gang(busy=True, request="req_9", running=Running(running_s=running_s, **changes))


def pool(*gangs: GangFacts, **changes: Any) -> PoolFacts:
    values: dict[str, Any] = {
        "template": "wan", "version": 2, "current": True, "min_gangs": 0, "max_gangs": 1, "max_batch_gangs": 2,
        "queued": 1, "gangs": gangs,
    }  # fmt: skip
    return PoolFacts(**(values | changes))


def request(**changes: Any) -> RequestFacts:
    values: dict[str, Any] = {
        "id": "req_1", "state": "queued", "mode": "auto", "placement": "warm", "placement_reason": "a test says so",
        "attempts": 0, "max_attempts": 5, "waited_s": 3.0, "timeout_s": 3600.0,
    }  # fmt: skip
    return RequestFacts(**(values | changes))


def said(explanation: Explanation) -> dict[str, str]:
    """Sentences by code."""
    return {one.code: one.sentence for one in explanation.findings}


def figures(explanation: Explanation, code: str) -> dict[str, Any]:
    return dict(next(one.figures for one in explanation.findings if one.code == code))


def commands(explanation: Explanation) -> list[str | None]:
    return [step.command for step in explanation.next]


# -------------------------------------------------------------------------------------------------------- it waits


def test_a_waiting_request_is_told_its_place_what_is_ahead_and_when_it_starts() -> None:
    told = explain_request(request(ahead=2, ahead_ids=("req_7",)), pool(busy(), queued=3), USUAL)
    assert told.summary == "it waits for 3.00 s at position 3: 2 ahead of it (req_7, ...)"
    assert figures(told, "eta")["seconds"] == 30 + 2 * 40
    assert "a run takes 40.0 s (median of the last 20)" in said(told)["eta"]
    assert "busy with req_9 for 10.0 s" in said(told)["gang_busy"]
    assert "1 gang of at most 1" in said(told)["pool_full"]
    assert commands(told) == ["muster wait req_1", "muster pool set wan --max 2", "muster cancel req_1"]


def test_a_request_of_somebody_else_is_not_named() -> None:
    other = gang(busy=True, running=Running(running_s=1.0))
    assert "busy with a request for" in said(explain_request(request(), pool(other), USUAL))["gang_busy"]


def test_the_progress_of_a_run_says_more_than_the_median() -> None:
    half = busy(30.0, phase="denoise", current=25.0, total=50.0)
    told = explain_request(request(), pool(half), USUAL)
    assert figures(told, "eta")["seconds"] == 30
    assert "in denoise 25 of 50" in said(told)["gang_busy"]


def test_without_history_no_figure_is_made_up() -> None:
    told = explain_request(request(), pool(busy()), NEVER)
    assert said(told)["eta_unknown"].endswith("no run and no start of this template was seen yet")


@pytest.mark.parametrize(
    ("gangs", "most", "ahead", "seconds"),
    [
        ((gang(),), 1, 0, 0.0),
        ((gang(), busy()), 2, 1, 30.0),
        ((busy(), busy(35.0)), 2, 2, 45.0),  # 5 and 30 are taken, the first is free again at 45
        ((busy(100.0),), 1, 0, 0.0),  # longer than usual: any moment now
        ((gang(state="loading", launched_s=70.0),), 1, 1, 70.0),
        ((), 2, 0, 100.0),
        ((), 0, 0, None),
        ((gang(state="draining"),), 1, 0, None),  # it keeps the one place
    ],
)
def test_the_forecast_lets_every_gang_take_the_next_request(
    gangs: tuple[GangFacts, ...], most: int, ahead: int, seconds: float | None
) -> None:
    ending = sum(1 for one in gangs if one.state == "draining")
    assert until_start(pool(*gangs, max_gangs=most, ending=ending), USUAL, ahead).seconds == seconds


def test_a_held_pool_launches_nothing_so_nothing_is_forecast() -> None:
    held = pool(held_s=20.0, failed_starts=2, held_reason="no GPU")
    told = explain_request(request(), held, USUAL)
    assert "eta_unknown" in said(told)
    assert said(told)["pool_held"] == (
        "no gang is launched for 20.0 s: 2 starts failed in a row, the last one because no GPU"
    )


def test_a_start_is_compared_with_what_is_usual() -> None:
    loading = gang(state="loading", launched_s=95.0, starting="setup", starting_s=90.0, start_timeout_s=900.0)
    told = explain_request(request(), pool(loading), USUAL)
    assert said(told)["gang_starting"] == (
        "gang gng_1 starts: in phase setup for 1m30s (usually 1m20s); launched 1m35s ago of usually 1m40s,"
        " ended if not ready after 15m"
    )
    slow = gang(state="loading", launched_s=300.0, starting="setup", starting_s=200.0)
    assert "(usually 1m20s, slow)" in said(explain_request(request(), pool(slow), USUAL))["gang_starting"]


def test_the_backend_s_word_and_missing_ranks_are_told() -> None:
    pending = gang(state="launching", seen_reason="FailedScheduling", seen_detail="0/3 nodes have 8 GPUs")
    told = explain_request(request(), pool(pending), USUAL)
    assert said(told)["backend_says"] == "the backend says of gng_1: FailedScheduling: 0/3 nodes have 8 GPUs"
    half = gang(state="loading", joined=2, missing=(1, 3))
    assert said(explain_gang(half, USUAL, None))["ranks_missing"].endswith("missing: 1, 3")


def test_a_batch_request_waits_for_its_own_gang_alone() -> None:
    own = gang(id="gng_2", state="launching", mode="batch", for_request="req_1", launched_s=30.0)
    told = explain_request(request(placement="batch"), pool(busy(), own), USUAL)
    assert figures(told, "eta")["seconds"] == 70 and "gang_busy" not in said(told)
    full = explain_request(request(placement="batch"), pool(batch_gangs=2), USUAL)
    assert "at most 2 at once" in said(full)["batch_full"]


def test_an_item_of_a_batch_waits_for_the_gangs_of_its_batch() -> None:
    half = {"mode": "batch", "for_batch": "bat_1", "busy": True, "running": Running(running_s=10.0)}
    drains = [gang(id=f"gng_{n}", **half) for n in (2, 3)]
    item = {"placement": "batch", "batch": "bat_1", "batch_state": "running", "ahead": 3}
    told = explain_request(request(**item), pool(busy(), *drains), USUAL)
    assert figures(told, "eta")["seconds"] == 30 + 40
    assert said(told)["item"] == "it is an item of bat_1, drained by 2 gangs"
    other = gang(id="gng_9", state="launching", mode="batch", for_batch="bat_9")
    full = explain_request(request(**item), pool(other, batch_gangs=2), USUAL)
    assert said(full)["batch_full"] == "it gets a gang once one of 2 batch gangs is gone (at most 2 at once): bat_9"
    paused = explain_request(request(**(item | {"batch_state": "paused"})), pool(), USUAL)
    assert "batch_paused" in said(paused) and "eta" not in said(paused)


def test_a_pause_and_a_deadline_are_told() -> None:
    told = explain_request(request(backoff_s=8.0, attempts=2, start_within_s=60.0), pool(gang()), USUAL)
    assert figures(told, "eta")["seconds"] == 8
    assert "attempt 2 was lost" in said(told)["backoff"] and "1m" in said(told)["deadline"]


# --------------------------------------------------------------------------------------------------------- it runs


def test_a_running_request_is_told_its_step_its_rate_and_the_slowest_rank() -> None:
    at = [RankAt(rank=0, step=20, age_s=0.2), RankAt(rank=2, step=17, age_s=9.0)]
    runs = busy(10.0, phase="denoise", current=20.0, total=50.0, moved_s=0.5, beat_s=0.4, ranks=at)
    told = explain_request(request(state="running", gang=runs, attempts=1, no_progress_s=60.0), pool(runs), USUAL)
    assert said(told)["phase"] == "in phase denoise, step 20 of 50, about 15.0 s left, running for 10.0 s"
    assert figures(told, "rate")["steps_per_s"] == 2
    assert said(told)["slowest_rank"] == "rank 2 is last: step 17, 3 behind the first, there for 9.00 s"
    assert figures(told, "step_limit") == {"left_s": 59.5, "limit_s": 60.0}
    assert commands(told)[-1] == "muster cancel req_1"


def test_a_canceled_one_is_not_canceled_again() -> None:
    told = explain_request(request(state="canceling", gang=busy(), attempts=1), pool(busy()), USUAL)
    assert "stops at its next step" in told.summary and "muster cancel req_1" not in commands(told)


# -------------------------------------------------------------------------------------------------------- it ended


def failed(code: str, **changes: Any) -> Explanation:
    error = {"code": code, "message": "it broke", "rank": 2, "node": "n7", "phase": "denoise", "step": 17}
    return explain_request(request(state="failed", error=error, **({"attempts": 1} | changes)), pool(), USUAL)


def test_a_failure_is_told_with_its_place_its_owner_and_what_helps() -> None:
    told = failed("handler_error")
    assert told.summary == "it failed with handler_error on rank 2, node n7, phase denoise, step 17: it broke"
    assert told.cause is not None and (told.cause.whose, told.cause.rank) == ("user", 2)
    assert "Muster did not try it again" in said(told)["not_retried"]
    assert commands(told) == [None, "muster logs req_1 --rank 2"]


def test_a_failure_of_machines_may_be_sent_again_and_says_what_each_attempt_met() -> None:
    lost = [
        {"attempt": number, "reason": "gang_lost", "message": "gone", "rank": None, "node": None, "traceback": "tb"}
        for number in (2, 1)
    ]
    told = failed("gang_lost", attempts=2, losses=lost)
    assert figures(told, "retried") == {"attempts": 2, "max_attempts": 5}
    assert said(told)["lost_attempt"].startswith("attempt 1 was lost: gang_lost")
    assert told.cause is not None and told.cause.traceback == "tb"
    assert commands(told)[-1] == "muster retry req_1"


def test_a_success_says_where_its_time_went() -> None:
    told = explain_request(request(state="succeeded", run_s=41.0, cold_start_s=2.0), pool(), USUAL)
    assert told.summary == "it succeeded: waited 3.00 s (2.00 s of it a cold start), ran 41.0 s"


# ------------------------------------------------------------------------------------------------- gangs and pools


def test_a_pool_says_why_nothing_starts() -> None:
    told = explain_pool(pool(max_gangs=0, queued=2), USUAL)
    assert told.status == "closed" and "pool_closed" in said(told)
    assert commands(told) == ["muster pool set wan --max 1"]


def test_a_gang_of_pods_says_the_part_of_its_launch_that_it_is_in() -> None:
    usual = Usual(cold_s=100.0, starts=5, phases={"launch": 60.0, "scheduling": 2.0, "image": 50.0})
    waits = gang(state="launching", since_s=200.0, launched_s=200.0, coming="scheduling", coming_s=190.0)
    told = explain_gang(waits, usual, None)
    assert "in phase scheduling for 3m10s (usually 2.00 s, slow); launched 3m20s ago of usually 1m40s" in told.summary
    assert told.next == ()  # nothing of it runs: there is no log
    pulls = gang(state="launching", since_s=80.0, coming="image", coming_s=40.0, seen_reason="pulling")
    assert "in phase image for 40.0 s (usually 50.0 s)" in explain_gang(pulls, usual, None).summary
    loads = gang(state="loading", since_s=9.0, starting="setup", starting_s=4.0, coming=None)
    assert "in phase setup for 4.00 s" in explain_gang(loads, usual, None).summary


def test_a_gang_that_is_gone_says_why() -> None:
    told = explain_gang(gang(state="gone", reason_code="idle", reason="idle for 600 s"), USUAL, None)
    assert told.summary == "gang gng_1 is gone (idle): idle for 600 s" and told.next == ()


def test_what_was_seen_of_an_older_version_is_said_to_be() -> None:
    usual = Usual.of(
        3, [(2, 10.0), (2, 30.0), (1, 99.0)], [{"version": 3, "cold_s": 5.0, "setup": 2.0, "launch": None}]
    )
    assert (usual.run_s, usual.runs, usual.cold_s, usual.version) == (20.0, 2, 5.0, 2)
    assert usual.phases == {"setup": 2.0}
