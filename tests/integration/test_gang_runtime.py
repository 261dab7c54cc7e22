"""Real torchrun gangs against a scripted service: what a rank promises in docs/protocol.md, seen from outside."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripted_service import Gang, ScriptedService, alive, eventually, kill_rank

from inference.contact import Contact

pytestmark = pytest.mark.slow
RANKS = 3


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedService]:
    service = ScriptedService(tmp_path_factory.mktemp("outputs"))
    yield service
    service.close()


@pytest.fixture(scope="module")
def gang(service: ScriptedService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    """One gang for all tests below; each leaves it ready."""
    gang = Gang(service, tmp_path_factory.mktemp("gang"), ranks=RANKS, restarts=20)
    try:
        service.wait_ready()
        yield gang
    finally:
        gang.kill()


# --- one gang that stays warm ---


def test_a_request_runs_on_all_ranks(service: ScriptedService, gang: Gang) -> None:
    finish = service.finished(service.submit(text="hi"))
    assert finish["outcome"] == "succeeded"
    assert finish["error"] is None
    assert finish["healthy"] is True
    assert finish["result"]["text"] == "hi"
    assert finish["result"]["sum"] == RANKS
    assert finish["result"]["pids"] == [service.pids[rank] for rank in range(RANKS)]


def test_the_next_request_finds_the_same_processes_and_the_same_model(service: ScriptedService, gang: Gang) -> None:
    first, second = (service.finished(service.submit())["result"] for _ in range(2))
    assert first["pids"] == second["pids"]
    assert second["builds"] == 1


def test_a_finish_carries_the_next_work(service: ScriptedService, gang: Gang) -> None:
    service.submit(sleep_s=0.3)
    polls = service.seen.count("GET /internal/v1/gangs/gng_test/work")
    attempts = [service.submit() for _ in range(3)]
    for attempt in attempts:
        service.finished(attempt)
    assert service.seen.count("GET /internal/v1/gangs/gng_test/work") <= polls + 2


def test_an_input_larger_than_a_frame_reaches_all_ranks(service: ScriptedService, gang: Gang) -> None:
    text = "ä" * 50_000
    assert service.finished(service.submit(text=text))["result"]["text"] == text


def test_lines_of_every_rank_arrive_under_their_request(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(hooks={"print": "here is"})
    service.finished(attempt)
    request = attempt.replace("att", "req")
    assert service.log_of(request, 0) == "here is 0\n"  # rank 0's came before its finish
    for rank in range(1, RANKS):
        eventually(lambda rank=rank: service.log_of(request, rank) == f"here is {rank}\n", 60, f"rank {rank}'s log")


def test_an_idle_gang_outlives_the_timeout_of_its_data_group(service: ScriptedService, gang: Gang) -> None:
    pids, incarnation = dict(service.pids), service.incarnation
    quiet_since = time.monotonic()
    eventually(lambda: time.monotonic() - quiet_since > 6, 10)  # three times data_timeout_s
    assert service.finished(service.submit())["outcome"] == "succeeded"
    assert (service.pids, service.incarnation) == (pids, incarnation)


def test_outputs_are_published_with_their_size_and_sha256(service: ScriptedService, gang: Gang) -> None:
    content = "x" * 3_000_000
    finish = service.finished(service.submit(hooks={"write": content}))
    (output,) = finish["outputs"]
    assert output["name"] == "echo.txt"
    assert output["media_type"] == "text/plain"
    assert output["bytes"] == len(content)
    published = Path(urlsplit(output["uri"]).path)
    assert output["sha256"] == hashlib.sha256(published.read_bytes()).hexdigest()
    assert [path.name for path in published.parent.iterdir()] == ["echo.txt"]


def test_a_promised_output_that_was_not_written_fails_the_request(service: ScriptedService, gang: Gang) -> None:
    finish = service.finished(service.submit(hooks={"promise": True}))
    assert finish["outcome"] == "failed"
    assert finish["error"]["code"] == "artifact_missing"
    assert "never.txt" in finish["error"]["message"]


def test_an_input_that_does_not_fit_leaves_the_gang_warm(service: ScriptedService, gang: Gang) -> None:
    errors = len(service.errors)
    finish = service.finished(service.submit(steps="many"))
    assert finish["error"]["code"] == "invalid_input"
    assert len(service.errors) == errors


def test_an_error_on_one_rank_names_it_and_the_gang_serves_on(service: ScriptedService, gang: Gang) -> None:
    incarnation, before = service.incarnation, len(service.errors)
    finish = service.finished(service.submit(hooks={"raise_on_rank": 1}, cancel_grace_s=10))
    error = finish["error"]
    assert (finish["outcome"], error["code"], error["type"]) == ("failed", "handler_error", "ValueError")
    assert (error["rank"], error["node"], error["phase"]) == (1, "n0", "echo")
    assert "raises as asked" in error["traceback"]
    assert service.errors[before]["rank"] == 1  # the first writer is the root cause
    assert service.finished(service.submit())["outcome"] == "succeeded"
    assert service.incarnation == incarnation


def test_a_cancel_stops_all_ranks_at_a_step(service: ScriptedService, gang: Gang) -> None:
    incarnation = service.incarnation
    attempt = service.submit(steps=2000, sleep_s=100)
    beat = eventually(lambda: next((b for b in service.beats if _names(b, attempt)), None), 60, "a beat")
    assert beat["attempts"][0]["total"] == 2000
    service.words[attempt] = "cancel"
    finish = service.finished(attempt, within_s=30)
    assert (finish["outcome"], finish["error"]) == ("canceled", None)
    assert service.finished(service.submit())["outcome"] == "succeeded"
    assert service.incarnation == incarnation


def test_a_revoked_attempt_is_stopped_and_not_reported(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(steps=2000, sleep_s=100)
    eventually(lambda: any(_names(beat, attempt) for beat in service.beats), 60, "a beat")
    service.words[attempt] = "revoked"
    del service.leases[attempt]
    assert service.finished(service.submit())["outcome"] == "succeeded"
    assert attempt not in service.finishes


def test_beats_carry_the_step_of_every_rank(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(steps=40, sleep_s=4)
    service.finished(attempt)
    last = [beat for beat in service.beats if _names(beat, attempt)][-1]
    assert [line["rank"] for line in last["ranks"]] == list(range(RANKS))
    assert all(0 < line["step"] <= 40 and line["age_s"] < 3 for line in last["ranks"])


def test_a_deadline_at_a_step_leaves_the_gang_warm(service: ScriptedService, gang: Gang) -> None:
    incarnation = service.incarnation
    finish = service.finished(service.submit(steps=1000, sleep_s=100, timeout_s=0.5))
    assert finish["error"]["code"] == "timeout"
    assert service.finished(service.submit())["outcome"] == "succeeded"
    assert service.incarnation == incarnation


def test_a_result_is_held_while_the_service_is_away(service: ScriptedService, gang: Gang) -> None:
    incarnation = service.incarnation
    attempt = service.submit(sleep_s=2)
    eventually(lambda: any(_names(beat, attempt) for beat in service.beats), 60, "a beat")
    service.away = True
    away_since = time.monotonic()
    eventually(lambda: time.monotonic() - away_since > 5, 6)
    service.away = False
    assert service.finished(attempt)["outcome"] == "succeeded"
    assert service.incarnation == incarnation


# --- the same gang, made whole again ---


def test_a_rank_killed_while_idle_makes_a_new_incarnation(service: ScriptedService, gang: Gang) -> None:
    _survives(service, lambda: kill_rank(service, 1))


@pytest.mark.long
def test_a_rank_killed_while_running_makes_a_new_incarnation(service: ScriptedService, gang: Gang) -> None:
    attempt = service.submit(steps=2000, sleep_s=100)
    eventually(lambda: any(_names(beat, attempt) for beat in service.beats), 60, "a beat")
    _survives(service, lambda: kill_rank(service, 1))
    assert attempt not in service.finishes


def test_a_hang_is_ended_and_the_rank_that_hangs_speaks_first(service: ScriptedService, gang: Gang) -> None:
    before, incarnation = len(service.errors), service.incarnation
    service.submit(hooks={"hang_on_rank": 2}, timeout_s=0.5, cancel_grace_s=0.5)
    service.wait_ready(after=incarnation)
    first = next(error for error in service.errors[before:] if error["exiting"])
    assert (first["rank"], first["type"]) == (2, "Timeout")
    assert "_go_wrong" in first["traceback"]
    assert service.finished(service.submit())["outcome"] == "succeeded"


def test_a_gang_told_to_drain_leaves_in_good_order(service: ScriptedService, gang: Gang) -> None:
    pids = list(service.pids.values())
    with service.changed:
        service.drain = True
        service.changed.notify_all()
    assert gang.wait() == [0]
    assert service.leaves[-1] == {"rank": 0, "signal": None, "drained": True}
    assert not any(alive(pid) for pid in pids)


# --- a handler that misbehaves ---


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedService]:
    """A gang of two ranks with odd_handler.py."""
    folder = tmp_path_factory.mktemp("odd")
    service = ScriptedService(folder, {"handler": f"{Path(__file__).with_name('odd_handler.py')}:Odd"})
    gang = Gang(service, folder, ranks=2, restarts=20)
    try:
        service.wait_ready()
        yield service
    finally:
        gang.kill()
        service.close()


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("not_json", "TypeError", "JSON"),
        ("too_large", "Refused", "413"),
        ("system_exit", "SystemExit", "3"),
        ("different_steps", "Diverged", "steps"),
    ],
)
def test_a_handler_error_of_any_kind_leaves_the_gang_warm(
    odd: ScriptedService, how: str, kind: str, words: str
) -> None:
    error = odd.finished(odd.submit(odd=how))["error"]
    assert (error["code"], error["type"]) == ("handler_error", kind)
    assert words in error["message"]
    assert odd.finished(odd.submit(odd="nothing"))["result"] is None
    assert odd.incarnation == 1


def test_the_rank_that_leaves_the_loop_before_the_others_is_named(odd: ScriptedService) -> None:
    error = odd.finished(odd.submit(odd="leaves_early"))["error"]
    assert (error["type"], error["rank"]) == ("Diverged", 1)
    assert odd.incarnation == 1


def test_a_cancel_that_the_handler_swallows_still_cancels(odd: ScriptedService) -> None:
    attempt = odd.submit(odd="swallow")
    odd.words[attempt] = "cancel"
    assert odd.finished(attempt, within_s=30)["outcome"] == "canceled"
    assert odd.incarnation == 1


def test_output_is_heard_whoever_writes_it(odd: ScriptedService) -> None:
    attempt = odd.submit(odd="speak")
    assert odd.finished(attempt)["metrics"] == {"loss": 1.5}
    lines = odd.log_of(attempt.replace("att", "req"), 0).splitlines()
    assert lines[:5] == ["from logging", "from C", "from a child", " 50%", "100%"]
    assert '"loss": 1.5' in lines[-1]


def test_a_request_whose_outputs_the_service_refuses_fails_with_that_and_the_rank_says_so(odd: ScriptedService) -> None:
    odd.bad_output = True
    attempt = odd.submit(odd="nothing")
    error = odd.finished(attempt)["error"]
    odd.bad_output = False
    assert (error["code"], error["rank"]) == ("bad_output", 0)
    assert "outside the storage" in error["message"]
    eventually(lambda: any("did not take the end of req_" in chunk["text"] for chunk in odd.chunks), 60, "the log line")
    assert odd.finished(odd.submit(odd="nothing"))["outcome"] == "succeeded"


@pytest.mark.long
def test_a_gang_whose_mesh_is_out_of_step_reports_and_restarts(odd: ScriptedService) -> None:
    finish = odd.finished(odd.submit(odd="break_mesh", cancel_grace_s=10))
    assert finish["error"]["rank"] == 1
    assert finish["healthy"] is False
    odd.wait_ready(after=1)
    assert odd.finished(odd.submit(odd="nothing"))["outcome"] == "succeeded"


def test_a_standstill_is_ended_by_the_rank_that_stands(odd: ScriptedService) -> None:
    before, incarnation = len(odd.errors), odd.incarnation
    odd.submit(odd="stand_still", no_progress_s=1.0)
    odd.wait_ready(after=incarnation)
    first = next(error for error in odd.errors[before:] if error["exiting"])
    assert (first["rank"], first["type"]) == (1, "NoProgress")


# --- gangs of their own ---


@pytest.mark.long
def test_a_gang_that_nobody_owns_ends_by_itself(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path, poll_s=0.2)
    gang = Gang(service, tmp_path, ranks=2, MUSTER_ORPHAN_S="1")
    try:
        service.wait_ready()
        service.away = True
        assert gang.wait() == [0]
    finally:
        gang.kill()
        service.close()


@pytest.mark.long
def test_a_worthless_credential_ends_the_gang(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path)
    gang = Gang(service, tmp_path, ranks=1, MUSTER_TOKEN="guess")
    try:
        assert gang.wait(60) == [1]
        assert "exitcode  : 82" in gang.log.read_text()
    finally:
        gang.kill()
        service.close()


@pytest.mark.long
def test_a_gang_that_never_reached_its_service_ends_in_time_though_its_ranks_start_anew(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path)
    service.close()
    gang = Gang(service, tmp_path, ranks=2, MUSTER_ORPHAN_S="15")
    try:
        words = tmp_path / "scratch" / "words" / "n0"
        eventually(lambda: list(words.glob("rank-1-*")), 40, "rank 1")
        os.kill(int(next(words.glob("rank-1-*")).name.rpartition("-")[2]), signal.SIGKILL)
        contact = Contact.of_node(tmp_path / "scratch", "n0")
        since = contact.at
        assert gang.wait(60) == [0]
        assert contact.at == since
        assert 15 < contact.silent_s < 40
        assert "ranks start again in" in gang.log.read_text()
    finally:
        gang.kill()


@pytest.mark.long
def test_a_gang_that_loses_its_service_between_hello_and_ready_ends_too(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path)
    gang = Gang(service, tmp_path, ranks=2, MUSTER_ORPHAN_S="5")
    try:
        with service.changed:
            assert service.changed.wait_for(lambda: service.incarnation, 60)
            service.away = True
        assert gang.wait(60) == [0]
        assert not service.ready
    finally:
        gang.kill()
        service.close()


@pytest.mark.long
def test_two_agents_make_one_gang_and_sigterm_makes_every_rank_leave(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path)
    gang = Gang(service, tmp_path, ranks=2, nodes=2)
    try:
        service.wait_ready()
        assert service.finished(service.submit())["result"]["sum"] == 4
        _survives(service, lambda: kill_rank(service, 3))
        pids = list(service.pids.values())
        gang.terminate()
        gang.wait()
        eventually(lambda: not any(alive(pid) for pid in pids), 10, "the end of all ranks")
        assert {leave["rank"] for leave in service.leaves if leave["signal"] == 15} == {0, 1, 2, 3}
    finally:
        gang.kill()
        service.close()


@pytest.mark.long
def test_a_failed_setup_is_told_with_its_rank(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path, {"args": {"hooks": True, "raise_in_setup_on_rank": 1}})
    gang = Gang(service, tmp_path, ranks=2, restarts=0)
    try:
        error = eventually(lambda: service.errors, 60, "an error")[0]
        assert (error["rank"], error["phase"], error["type"]) == (1, "setup", "RuntimeError")
        assert error["exiting"] is True
        assert gang.wait() == [1]
        assert "exitcode  : 81" in gang.log.read_text()
    finally:
        gang.kill()
        service.close()


def test_ranks_die_with_their_agent(tmp_path: Path) -> None:
    service = ScriptedService(tmp_path)
    gang = Gang(service, tmp_path, ranks=2)
    try:
        service.wait_ready()
        pids = list(service.pids.values())
        gang.kill()
        eventually(lambda: not any(alive(pid) for pid in pids), 10, "the end of all ranks")
    finally:
        gang.kill()
        service.close()


def _names(beat: dict[str, Any], attempt: str) -> bool:
    return any(line["attempt"] == attempt for line in beat["attempts"])


def _survives(service: ScriptedService, harm: Callable[[], None]) -> None:
    before = service.incarnation
    harm()
    service.wait_ready(after=before)
    assert service.finished(service.submit())["outcome"] == "succeeded"
