"""Traces as words: what the W3C calls valid, IDs that everybody finds alike, spans of what was recorded."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.client import tracing as caller
from orchestrator.domain import tracing
from orchestrator.domain.tracing import Trace, Tracing
from orchestrator.settings import Settings
from orchestrator.traces import drawing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
ON = Tracing(on=True)


def test_a_valid_traceparent_is_read_and_said_again() -> None:
    said = tracing.read(PARENT, "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7")
    assert said == Trace(trace=TRACE, span=SPAN, flags=1, state="congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    assert said.parent == PARENT and said.sampled


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    said = tracing.read(f"cc-{TRACE}-{SPAN}-00-what-the-future-will-be-like")
    assert said is not None and said.parent == f"00-{TRACE}-{SPAN}-00" and not said.sampled


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"{PARENT}-more",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"{PARENT}\nx",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_what_is_invalid_is_as_if_nothing_was_said(header: str | None) -> None:
    assert tracing.read(header, "a=1") is None


@pytest.mark.parametrize(
    "state", ["", "a", "A=1", "a=1,a=2", "a=é", ",".join(f"k{n}=1" for n in range(33)), "a=" + "x" * 600]
)
def test_a_bad_tracestate_is_left_away_and_the_parent_kept(state: str) -> None:
    said = tracing.read(PARENT, state)
    assert said is not None and said.state is None and said.parent == PARENT


def test_ids_follow_from_what_a_span_is_about() -> None:
    assert tracing.span_of("req_1") == tracing.span_of("req_1") != tracing.span_of("req_2")
    own = tracing.own("req_1", 1.0)
    assert own == tracing.own("req_1", 1.0) and own is not None and len(own.trace) == 32
    assert tracing.own("req_1", 0.0) is None


def test_about_the_share_that_is_asked_for_gets_a_trace_of_its_own() -> None:
    assert 150 < sum(tracing.own(f"req_{n}", 0.2) is not None for n in range(1000)) < 250


def test_ranks_are_told_of_the_span_that_will_be_there() -> None:
    said = tracing.read(PARENT, "a=1")
    assert said is not None
    handed = ON.handed("req_1", "att_1", said)
    assert handed == Trace(trace=TRACE, span=tracing.span_of("att_1"), flags=1, state="a=1")
    assert Tracing(on=False).handed("req_1", "att_1", said) == said
    assert Tracing(on=False).handed("req_1", "att_1", None) is None
    unsampled = tracing.read(f"00-{TRACE}-{SPAN}-00")
    assert ON.handed("req_1", "att_1", unsampled) == unsampled
    assert ON.handed("req_1", "att_1", None) == tracing.own("req_1", 1.0).at("att_1")  # type: ignore[union-attr]


def row(**changes: Any) -> Any:
    given: dict[str, Any] = {
        "id": "req_1",
        "tenant": "t",
        "template": "digits",
        "template_version": 2,
        "placement": "warm",
        "state": "succeeded",
        "reason_code": None,
        "reason": None,
        "batch_id": None,
        "retry_of": None,
        "created_s": 100.0,
        "finished_s": 130.0,
        "traceparent": PARENT,
        "tracestate": None,
        "retried_parent": None,
        "batch_parent": None,
        "attempts": [attempt(1, 110.0, 115.0, outcome="lost", reason="silent"), attempt(2, 120.0, 130.0)],
    }
    return SimpleNamespace(**(given | changes))


def attempt(number: int, granted: float, ended: float, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": f"att_{number}",
        "number": number,
        "granted_s": granted,
        "ended_s": ended,
        "outcome": "succeeded",
        "reason_code": None,
        "reason": None,
        "rank": None,
        "node": None,
        "gang": "gng_1",
        "incarnation": 1,
        "mode": "serve",
        "phases": {"import": 2.0, "rendezvous": 1.0, "preflight": 0.5, "setup": 1.5, "link": {}},
        "planned_s": 100.5,
        "launched_s": 101.0,
        "hello_s": 107.0,
        "ready_s": 109.0,
        "first_ready_s": 109.0,
        "trail": None,
    }
    return given | changes


def spans(**changes: Any) -> dict[str, drawing.Span]:
    drawn = list(drawing.request(row(**changes), ON))
    assert len({one.at.span for one in drawn}) == len(drawn)
    return {f"{one.name} {one.attributes.get('muster.attempt', '')}".strip(): one for one in drawn}


def test_a_request_reads_as_one_trace() -> None:
    drawn = spans()
    whole = drawn["request digits"]
    assert (whole.parent, whole.at.trace, whole.begin_s, whole.end_s, whole.error) == (SPAN, TRACE, 100, 130, None)
    assert {one.at.trace for one in drawn.values()} == {TRACE}
    for name, begin, end in (("queue 1", 100, 110), ("queue 2", 115, 120), ("attempt 1 1", 110, 115)):
        assert (drawn[name].parent, drawn[name].begin_s, drawn[name].end_s) == (whole.at.span, begin, end)
    assert drawn["attempt 2 2"].links == (drawn["attempt 1 1"].at,) and drawn["attempt 1 1"].error == "silent"
    assert drawn["attempt 2 2"].at.span == tracing.span_of("att_2")


def test_the_start_of_the_gang_that_was_waited_for_is_in_it_phase_by_phase() -> None:
    drawn = spans()
    cold = drawn["cold start"]
    assert (cold.parent, cold.begin_s, cold.end_s) == (drawn["queue 1"].at.span, 100.5, 109)
    phases = ("launch", "import", "rendezvous", "preflight", "setup")
    assert [(drawn[name].begin_s, drawn[name].end_s) for name in phases] == [
        (101, 104),
        (104, 106),
        (106, 107),
        (107, 107.5),
        (107.5, 109),
    ]
    assert {drawn[name].parent for name in phases} == {cold.at.span}


@pytest.mark.parametrize(
    ("scheduled", "started", "parts"),
    [
        (101.5, 103.0, [(101, 101.5), (101.5, 103), (103, 104)]),
        (99.0, 250.0, [(101, 101), (101, 104), (104, 104)]),
    ],
    ids=["in_order", "by_clocks_that_disagree"],
)
def test_the_launch_of_pods_is_told_in_three_parts(
    scheduled: float, started: float, parts: list[tuple[float, float]]
) -> None:
    drawn = spans(attempts=[attempt(1, 110, 115) | {"scheduled_s": scheduled, "started_s": started}])
    assert [(drawn[name].begin_s, drawn[name].end_s) for name in ("scheduling", "image", "start")] == parts
    assert "launch" not in drawn


def test_the_phases_of_a_run_are_moments_of_its_attempt() -> None:
    trail = {"began": 110.5, "phases": [["run", 0.0], ["load", 0.25]]}
    (drawn,) = [one for one in spans(attempts=[attempt(1, 110, 130, trail=trail)]).values() if one.moments]
    assert (drawn.name, drawn.moments) == ("attempt 1", (("run", 110.5), ("load", 110.75)))


def test_who_waits_again_and_gives_up_shows_that_wait_too() -> None:
    lost = attempt(1, 110.0, 115.0, outcome="lost")
    drawn = spans(attempts=[lost], state="canceled")
    assert (drawn["queue 2"].begin_s, drawn["queue 2"].end_s) == (115, 130)
    assert "queue 2" not in spans(attempts=[lost | {"ended_s": 129.99}])


def test_a_warm_gang_has_no_start_in_it() -> None:
    assert "cold start" not in spans(created_s=109.5)


def test_a_request_that_never_ran_is_its_wait() -> None:
    drawn = spans(attempts=[], state="expired", reason="too late")
    assert drawn.keys() == {"request digits", "queue 1"} and drawn["request digits"].error == "too late"


def test_nothing_is_drawn_of_a_trace_that_nobody_keeps() -> None:
    assert list(drawing.request(row(traceparent=f"00-{TRACE}-{SPAN}-00"), ON)) == []
    assert list(drawing.request(row(traceparent=None), Tracing(on=True, ratio=0.0))) == []
    assert list(drawing.request(row(), Tracing())) == []


def test_a_retry_links_to_what_it_tries_again_and_an_item_to_its_batch() -> None:
    drawn = spans(retry_of="req_0", retried_parent=PARENT, batch_id="bat_1")
    first, second = drawn["request digits"].links
    assert (first.trace, first.span) == (TRACE, tracing.span_of("req_0"))
    assert second == tracing.own("bat_1", 1.0).at("bat_1")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on(variables: dict[str, str], asked: bool) -> None:
    assert Settings.from_env({"MUSTER_HOME": "/nowhere", **variables}).otlp is asked


def test_a_caller_hands_on_what_its_environment_says() -> None:
    assert caller.from_env({"TRACEPARENT": PARENT, "TRACESTATE": "a=1"}) == {"traceparent": PARENT, "tracestate": "a=1"}
    assert caller.from_env({"TRACESTATE": "a=1"}) == {} == caller.from_env({"TRACEPARENT": "a\r\nb"})


def test_nothing_of_opentelemetry_is_imported_unless_traces_are_on() -> None:
    code = (
        "SENDING = ('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.proto')\n"  # fastapi takes the API
        "import sys, orchestrator.service.replica, orchestrator.client, orchestrator.cli.main, inference.serve\n"
        "print([name for name in sys.modules if name.startswith(SENDING)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
