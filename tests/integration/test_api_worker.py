"""The worker protocol over HTTP, spoken by a gang that computes nothing."""

from __future__ import annotations

from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_in
from replica import Replica

from orchestrator.domain.placement import Placement
from orchestrator.domain.states import Reason
from orchestrator.store import gangs, requests, scheduling
from orchestrator.store.database import Record


@pytest.fixture
def pool(here: Replica) -> Record:
    return here.database.transact(lambda tx: make.pool(tx, ranks_per_node=2, args={"size": 5}))


@pytest.fixture
def gang(here: Replica, pool: Record) -> HttpGang:
    """Whole and idle."""
    return gang_in(here, pool).begin()


@pytest.fixture
def lease(here: Replica, pool: Record, gang: HttpGang) -> dict[str, Any]:
    """What the gang was given to do."""
    here.database.transact(lambda tx: [make.queued(tx, pool), make.assign(tx, pool)])
    return gang.lease()


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def state_of(here: Replica, request_id: str) -> str:
    return str(here.database.transact(lambda tx: make.request_row(tx, request_id)).state)


# --------------------------------------------------------------------------------------------------- the happy path


def test_a_gang_says_hello_gets_work_beats_and_reports(here: Replica, pool: Record) -> None:
    gang = gang_in(here, pool)
    first = gang.hello(nonce="a" * 32)
    assert first.json()["incarnation"] == 1 and gang.hello(nonce="a" * 32).json() == first.json()
    config = first.json()["config"]
    assert (config["template"], config["mode"], config["args"]) == (pool.template, "serve", {"size": 5})
    assert gang.join(1).json() == {"incarnation": 1}
    assert gang.ready(1).json() == {"gang_ready": False} and gang.ready(0).json() == {"gang_ready": True}
    assert gang.work().json() == {"action": "continue", "work": []}
    request_id = here.database.transact(lambda tx: (make.queued(tx, pool), make.assign(tx, pool)))[0]
    lease = gang.lease()
    assert lease["request"] == request_id and lease["number"] == 1 and lease["input"] == {"text": "hello"}
    assert lease["output_prefix"].endswith(f"/outputs/default/{request_id}/1") and 0 < lease["timeout_s"] <= 60
    assert gang.lease()["token"] == lease["token"]
    answer = gang.beat(lease, phase="denoise", current=17, total=50)
    assert answer.json() == {"action": "continue", "attempts": {lease["attempt"]: "continue"}}
    assert state_of(here, request_id) == "running"
    output = {
        "name": "digit.gif",
        "media_type": "image/gif",
        "bytes": 3,
        "sha256": "0" * 64,
        "uri": lease["output_prefix"] + "/digit.gif",
    }
    assert gang.finish(lease, outputs=[output]).json() == {"action": "continue", "work": []}
    assert gang.finish(lease, outputs=[output]).status_code == 200
    refused(gang.finish(lease, outputs=[output], result={"ok": False}), 409, "result_exists")
    row = here.database.transact(lambda tx: requests.get(tx, "default", request_id))
    assert row.state == "succeeded" and row.value == {"ok": True} and row.outputs[0]["name"] == "digit.gif"


def test_the_answer_to_a_report_carries_the_next_lease(
    here: Replica, pool: Record, gang: HttpGang, lease: dict[str, Any]
) -> None:
    following = here.database.transact(lambda tx: make.queued(tx, pool))
    answer = gang.finish(lease).json()
    assert [one["request"] for one in answer["work"]] == [following]
    assert gang.lease()["attempt"] == answer["work"][0]["attempt"]


def test_a_batch_gang_gets_its_request_when_whole_and_leaves_after_it(here: Replica, pool: Record) -> None:
    def plan(tx: make.Tx) -> tuple[str, make.Gang]:
        request_id = make.queued(tx, pool, placement=Placement.BATCH)
        return request_id, make.launching(tx, pool, request_id=request_id)

    request_id, planned = here.database.transact(plan)
    gang = HttpGang(here, planned, world=2).begin()
    lease = gang.lease()
    assert lease["request"] == request_id
    assert gang.finish(lease).json() == {"action": "drain", "work": []}
    assert gang.call("POST", f"/gangs/{gang.id}/leave", {"rank": 0, "drained": True}).status_code == 200
    row = here.database.transact(lambda tx: make.gang_row(tx, gang.id))
    assert (row.state, row.reason_code) == ("gone", "drained")
    assert state_of(here, request_id) == "succeeded"


def test_a_draining_gang_is_told_to_go_when_it_is_done(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    here.database.transact(lambda tx: gangs.drain(tx, gang.id, Reason.IDLE, "idle"))
    assert gang.beat(lease).json()["action"] == "drain"
    assert gang.finish(lease).json() == gang.work().json() == {"action": "drain", "work": []}


def test_a_cancel_reaches_the_gang_with_its_next_beat(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    gang.beat(lease)
    here.database.transact(lambda tx: requests.cancel(tx, "default", lease["request"]))
    assert gang.beat(lease).json()["attempts"] == {lease["attempt"]: "cancel"}
    assert gang.finish(lease, outcome="canceled", result=None).status_code == 200
    assert state_of(here, lease["request"]) == "canceled"
    assert gang.beat(lease).json()["attempts"] == {lease["attempt"]: "revoked"}


# --------------------------------------------------------------------------------------------------------- refusals


def test_a_worthless_credential_is_401(here: Replica, gang: HttpGang, pool: Record) -> None:
    refused(
        gang.call("POST", f"/gangs/{gang.id}/ranks/0/hello", {"node": "n", "nonce": "b" * 32}, token="no"),
        401,
        "unauthorized",
    )
    other = gang_in(here, pool)
    refused(
        gang.call("POST", f"/gangs/{other.id}/ranks/0/hello", {"node": "n"}, token=gang.gang_token), 401, "unauthorized"
    )
    refused(gang.call("GET", f"/gangs/gng_{'0' * 26}/work"), 401, "unauthorized")
    refused(gang.http.get(f"/internal/v1/gangs/{gang.id}/work"), 401, "unauthorized")


def test_the_token_of_a_person_opens_no_gang_and_that_of_a_gang_no_api(here: Replica, gang: HttpGang) -> None:
    with here.caller() as person:
        token = person.headers["authorization"].split()[1]
        assert gang.call("GET", f"/gangs/{gang.id}/work", token=token).status_code == 410
        assert gang.call("POST", f"/gangs/{gang.id}/ranks/0/hello", {"node": "n"}, token=token).status_code == 401
    for worker_token in (gang.session, gang.gang_token):
        with here.client(worker_token) as client:
            assert client.get("/v1/requests").status_code == 401


@pytest.mark.parametrize("call", ["work", "beat", "ready", "logs", "leave", "error", "join"])
def test_a_superseded_incarnation_is_410_on_every_call(here: Replica, gang: HttpGang, call: str) -> None:
    old = gang.session
    gang.hello()
    gang.session = old
    path = f"/gangs/{gang.id}"
    answers = {
        "work": lambda: gang.work(),
        "beat": lambda: gang.beat(),
        "ready": lambda: gang.ready(),
        "join": lambda: gang.join(1),
        "logs": lambda: gang.call("POST", f"{path}/logs", {"rank": 0, "chunks": []}),
        "leave": lambda: gang.call("POST", f"{path}/leave", {"rank": 1, "signal": 15}),
        "error": lambda: gang.call(
            "POST", f"{path}/ranks/1/error", {"node": "n", "type": "E", "message": "m", "exiting": True}
        ),
    }
    refused(answers[call](), 410, "gang_superseded")
    assert here.database.transact(lambda tx: make.gang_row(tx, gang.id)).state == "loading"


def test_a_gang_that_is_gone_is_told_so(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    here.database.transact(lambda tx: gangs.end(tx, gang.id, Reason.IDLE, "idle"))
    refused(gang.work(), 410, "gang_gone")
    refused(gang.beat(), 410, "gang_gone")
    refused(gang.hello(), 410, "gang_gone")
    refused(gang.finish(lease), 409, "stale_lease")


def test_outputs_outside_the_storage_are_refused_and_the_request_fails_when_the_gang_says_so(
    here: Replica, gang: HttpGang, lease: dict[str, Any]
) -> None:
    output = {"name": "a.gif", "bytes": 1, "sha256": "0" * 64, "uri": "file:///etc/a.gif"}
    refused(gang.finish(lease, outputs=[output]), 422, "bad_output")
    assert state_of(here, lease["request"]) == "assigned"
    error = {"code": "bad_output", "message": "refused", "rank": 0}
    assert gang.finish(lease, outcome="failed", result=None, error=error).status_code == 200
    row = here.database.transact(lambda tx: make.request_row(tx, lease["request"]))
    assert (row.state, row.reason_code) == ("failed", "bad_output")


def test_a_lease_of_another_gang_cannot_be_finished_or_beaten_for(
    here: Replica, pool: Record, lease: dict[str, Any]
) -> None:
    other = gang_in(here, here.database.transact(make.pool)).begin()
    refused(other.finish(lease), 409, "stale_lease")
    assert other.beat(lease).json()["attempts"] == {lease["attempt"]: "revoked"}
    assert state_of(here, lease["request"]) == "assigned"


def test_a_rank_that_the_gang_does_not_have_is_refused(gang: HttpGang) -> None:
    refused(gang.join(2), 409, "wrong_world")
    refused(gang.hello(world=3), 409, "wrong_world")


# ------------------------------------------------------------------------------------------------- errors and logs


def test_the_first_rank_that_complains_is_the_cause(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    gang.beat(lease)
    for rank, message, exiting in ((1, "CUDA error", False), (0, "the control group broke", True)):
        body = {"node": f"n{rank}", "type": "RuntimeError", "message": message, "exiting": exiting, "phase": "run"}
        assert gang.call("POST", f"/gangs/{gang.id}/ranks/{rank}/error", body).status_code == 200
    row = here.database.transact(lambda tx: make.request_row(tx, lease["request"]))
    assert (row.state, row.reason_code, row.crashes) == ("queued", "rank_failed", 1)
    assert "CUDA error" in row.reason
    refused(gang.work(), 410, "gang_superseded")


@pytest.mark.parametrize("phase", ["preflight", "setup", "warmup"])
def test_an_error_in_a_phase_of_the_start_ends_the_gang(here: Replica, pool: Record, phase: str) -> None:
    gang = gang_in(here, pool)
    gang.hello()
    body = {"node": "n0", "type": "ImportError", "message": "no module", "phase": phase, "exiting": True}
    assert gang.call("POST", f"/gangs/{gang.id}/ranks/0/error", body).status_code == 200
    row = here.database.transact(lambda tx: make.gang_row(tx, gang.id))
    assert (row.state, row.reason_code) == ("gone", f"{phase}_failed") and "no module" in row.reason


def test_a_request_may_call_its_phase_setup(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    gang.beat(lease)
    body = {"node": "n0", "type": "ValueError", "message": "no", "phase": "setup", "attempt": lease["attempt"]}
    assert gang.call("POST", f"/gangs/{gang.id}/ranks/0/error", body).status_code == 200
    assert here.database.transact(lambda tx: make.gang_row(tx, gang.id)).state == "ready"


def test_a_rank_that_was_told_to_go_ends_the_leases_now(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    assert gang.call("POST", f"/gangs/{gang.id}/leave", {"rank": 1, "signal": 15}).status_code == 200
    assert state_of(here, lease["request"]) == "queued"


def test_an_unhealthy_gang_gets_nothing_more_however_often_it_says_so(
    here: Replica, pool: Record, gang: HttpGang, lease: dict[str, Any]
) -> None:
    here.database.transact(lambda tx: make.queued(tx, pool))
    error = {"code": "oom", "message": "CUDA out of memory", "rank": 1, "node": "n1"}
    report = {"outcome": "failed", "result": None, "error": error, "healthy": False}
    assert gang.finish(lease, **report).json() == {"action": "continue", "work": []}
    row = here.database.transact(lambda tx: make.gang_row(tx, gang.id))
    assert (row.state, row.breaks) == ("launching", 1)
    old = gang.session
    assert gang.hello().status_code == 200
    gang.session = old
    assert gang.finish(lease, **report).status_code in (200, 409)
    row = here.database.transact(lambda tx: make.gang_row(tx, gang.id))
    assert (row.state, row.breaks) == ("loading", 1)
    assert here.database.transact(lambda tx: scheduling.assign_pool(tx, pool.id, make.LEASE)).gangs == ()


def test_logs_are_kept_once_by_their_number(here: Replica, gang: HttpGang, lease: dict[str, Any]) -> None:
    chunk = {"seq": 1, "request": lease["request"], "at": 1795000000.5, "text": "one\ntwo\n"}
    for _ in range(2):
        body = {"rank": 1, "chunks": [chunk]}
        assert gang.call("POST", f"/gangs/{gang.id}/logs", body).status_code == 200
    with here.caller(tenant="default") as person:
        shown = person.get(f"/v1/requests/{lease['request']}/logs?rank=all")
        assert shown.text == "[r1] one\n[r1] two\n"
        assert person.get(f"/v1/gangs/{gang.id}/logs?rank=1&tail=1").text == "two\n"
        assert person.get(f"/v1/requests/{lease['request']}/logs").text == ""


# --------------------------------------------------------------------------- a defect of a worker is never a 5xx

HUGE = 10**25
ODD_REPORTS: dict[str, dict[str, Any]] = {
    "a rank that is no number": {"outcome": "failed", "error": {"code": "handler_error", "rank": "two"}},
    "a rank beyond all": {"outcome": "failed", "error": {"code": "handler_error", "rank": HUGE}},
    "a node that is no name": {"outcome": "failed", "error": {"code": "handler_error", "node": {"a": 1}}},
    "a code that is no word": {"outcome": "failed", "error": {"code": ["oom"], "message": "x"}},
    "a message that is no text": {"outcome": "failed", "error": {"code": "oom", "message": {"a": [1]}}},
    "an error that is empty": {"outcome": "failed", "error": {}},
    "no error at all": {"outcome": "failed", "error": None},
    "a run longer than time": {"run_s": 1e300},
    "a run of some centuries": {"run_s": 1e11},
    "metrics beyond floats": {"metrics": {"x": 1e308}},
    "an output twice": {"outputs": "twice"},
    "an output beyond all sizes": {"outputs": "huge"},
    "an output elsewhere": {"outputs": "elsewhere"},
    "an output above its folder": {"outputs": "above"},
    "a result that is deep": {"result": [[[[[[[[[[[[[[[[[[[["x"]]]]]]]]]]]]]]]]]]]]},
}


def _odd_outputs(kind: str, lease: dict[str, Any]) -> list[dict[str, Any]]:
    good = {"name": "a", "bytes": 1, "sha256": "0" * 64, "uri": lease["output_prefix"] + "/a"}
    changes: dict[str, list[dict[str, Any]]] = {
        "twice": [{}, {}],
        "huge": [{"bytes": HUGE}],
        "elsewhere": [{"uri": "file:///etc/passwd"}],
        "above": [{"uri": lease["output_prefix"] + "/../../../../etc/passwd"}],
    }
    return [good | change for change in changes[kind]]


@pytest.mark.parametrize("odd", list(ODD_REPORTS))
def test_an_odd_report_is_taken_or_refused_but_never_repeated_for_ever(
    here: Replica, gang: HttpGang, lease: dict[str, Any], odd: str
) -> None:
    """A worker tries again after every 5xx, for ever while it holds a result."""
    report = dict(ODD_REPORTS[odd])
    if isinstance(report.get("outputs"), str):
        report["outputs"] = _odd_outputs(report["outputs"], lease)
    answer = gang.finish(lease, **report)
    assert answer.status_code in (200, 409, 422), answer.text
    taken = {"succeeded"} if report.get("outcome") is None else {"failed", "queued"}
    assert state_of(here, lease["request"]) in (taken if answer.status_code == 200 else {"assigned"})


ODD_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "a pid beyond all": ("ranks/1/hello", {"node": "n", "pid": HUGE}),
    "a local rank beyond all": ("ranks/1/hello", {"node": "n", "local_rank": HUGE}),
    "a step beyond all": ("ranks/1/error", {"node": "n", "type": "E", "message": "m", "step": HUGE}),
    "a rank that left beyond all": ("leave", {"rank": HUGE}),
    "a log number beyond all": ("logs", {"rank": 0, "chunks": [{"seq": HUGE, "at": 1.0, "text": "x"}]}),
    "a log rank beyond all": ("logs", {"rank": HUGE, "chunks": [{"seq": 1, "at": 1.0, "text": "x"}]}),
    "a log from the end of time": ("logs", {"rank": 0, "chunks": [{"seq": 1, "at": 1e300, "text": "x"}]}),
    "a log from before time": ("logs", {"rank": 0, "chunks": [{"seq": 1, "at": -1e18, "text": "x"}]}),
    "progress beyond all": ("beat", {"ranks": [{"rank": HUGE, "step": HUGE}], "attempts": []}),
    "no such phase": ("beat", {"phase": "x" * 4096}),
    "fields of a newer worker": ("beat", {"phase": "idle", "flavour": {"new": [1]}}),
}


@pytest.mark.parametrize("odd", list(ODD_CALLS))
def test_an_odd_call_is_taken_or_refused(gang: HttpGang, odd: str) -> None:
    path, body = ODD_CALLS[odd]
    answer = gang.call("POST", f"/gangs/{gang.id}/{path}", body)
    assert answer.status_code in (200, 422), answer.text


# ----------------------------------------------------------------------------------------------- a node is to go


def recall(gang: HttpGang, token: str | None = None) -> httpx.Response:
    return gang.call("POST", f"/gangs/{gang.id}/recall", {"node": "worker-1"}, token=token or gang.gang_token)


def test_a_recalled_gang_stays_for_its_request_and_gets_no_other(
    here: Replica, pool: Record, gang: HttpGang, lease: dict[str, Any]
) -> None:
    assert recall(gang).json() == {"stay": True}
    assert recall(gang).json() == {"stay": True}
    assert gang.beat(lease).json()["action"] == "drain"
    waiting = here.database.transact(lambda tx: make.queued(tx, pool))
    assert gang.finish(lease).json() == {"action": "drain", "work": []}
    assert state_of(here, lease["request"]) == "succeeded"
    assert recall(gang).json() == {"stay": False}
    assert state_of(here, waiting) == "queued"


def test_a_recalled_gang_that_does_nothing_need_not_stay(gang: HttpGang) -> None:
    assert recall(gang).json() == {"stay": False}
    assert gang.work().json()["action"] == "drain"


def test_a_gang_that_is_gone_needs_no_recall(here: Replica, gang: HttpGang) -> None:
    here.database.transact(lambda tx: gangs.end(tx, gang.id, Reason.STOPPED, "a test"))
    refused(recall(gang), 410, "gang_gone")


def test_only_the_gang_token_recalls(gang: HttpGang) -> None:
    refused(recall(gang, "nonsense"), 401, "unauthorized")
    refused(recall(gang, gang.session), 401, "unauthorized")
