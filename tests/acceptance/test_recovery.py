"""Whatever is killed: no request is lost, none is finished twice, and a gang is whole again (A5)."""

from __future__ import annotations

import pytest
from stage import Up, echo
from stage.blows import AGENT, LAST_RANK, POSTMASTER, RANK_0, SERVICE, Blow, Recovery, strike_and_recover

NAME = "two-nodes"


@pytest.fixture(scope="module", autouse=True)
def template(up: Up) -> None:
    up.client.apply_template(echo(NAME, nodes=2, ranks=2))
    assert up.done(up.client.submit(NAME, {}).id).succeeded


def blow(up: Up, what: Blow, *, busy: bool) -> Recovery:
    """Strike, and see that the one request succeeded exactly once on a whole gang."""
    recovery = strike_and_recover(up, NAME, what, busy=busy)
    print(f"{recovery.victim} {recovery.moment}: {recovery.done_s:.1f} s, whole after {recovery.whole_s:.1f} s")
    assert recovery.request.succeeded, recovery.request.error
    assert recovery.moves.count("succeed") == 1
    assert recovery.request.result["sum"] == recovery.request.result["builds"] * 4 == 4
    assert recovery.after.ranks is not None
    assert [rank.ready for rank in recovery.after.ranks] == [True] * 4
    return recovery


@pytest.mark.parametrize(
    "victim",
    [RANK_0, *(pytest.param(victim, marks=pytest.mark.long) for victim in (LAST_RANK, AGENT))],
    ids=lambda each: each.victim,
)
def test_a_gang_that_loses_a_process_during_a_run_is_whole_again_and_runs_it_anew(up: Up, victim: Blow) -> None:
    recovery = blow(up, victim, busy=True)
    assert recovery.request.attempt == 2
    assert recovery.moves == ("record", "assign", "start", "retry", "assign", "start", "succeed")


def test_an_idle_gang_that_loses_a_rank_serves_the_next_request(up: Up) -> None:
    recovery = blow(up, LAST_RANK, busy=False)
    assert recovery.request.attempt in (1, 2)  # the service may not have known yet


def test_a_run_goes_on_without_the_service_and_its_result_is_recorded_after_the_restart(up: Up) -> None:
    recovery = blow(up, SERVICE, busy=True)
    assert recovery.gang == "untouched"
    assert recovery.moves == ("record", "assign", "start", "succeed")


def test_an_idle_gang_outlives_the_service(up: Up) -> None:
    recovery = blow(up, SERVICE, busy=False)
    assert recovery.gang == "untouched"
    assert recovery.request.attempt == 1


@pytest.mark.parametrize("busy", [True, False])
def test_a_dead_postgres_is_started_again_and_loses_nothing(up: Up, busy: bool) -> None:
    recovery = blow(up, POSTMASTER, busy=busy)
    assert recovery.gang == "untouched"
    assert recovery.request.attempt == 1


def test_every_request_of_this_file_is_accounted_for(up: Up) -> None:
    assert {request.status for request in up.client.iterate()} == {"succeeded"}
