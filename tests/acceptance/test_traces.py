"""One request as one trace, from its caller to the phases of its handler: a real receiver, a real gang, exact IDs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp import Collector, Span, collector
from stage import Up, until

from orchestrator.client import Client
from orchestrator.domain import tracing

pytestmark = pytest.mark.long
FOLDER = Path(__file__).parent / "stage" / "traced"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(scope="module")
def received() -> Iterator[Collector]:
    with collector() as there:
        yield there


@pytest.fixture(scope="module")
def traced(received: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`muster up` that sends spans, and a template whose gang is not up yet."""
    up = Up(tmp_path_factory.mktemp("traced"))
    up.replica._environment |= received.variables
    try:
        up.start()
        up.client.apply_template(
            {
                "name": "traced",
                "handler": "traced:Traced",
                "workdir": str(FOLDER),
                "ranks_per_node": 2,
                "pool": {"max": 1},
            }
        )
        yield up
        assert up.violations() == []
    finally:
        up.close()


def child(spans: dict[str, Span], name: str, of: str) -> Span:
    """The span, after a look at where it hangs and that it lies within what it is a part of."""
    assert spans[name].parent == spans[of].id, (name, of)
    assert spans[name].begin <= spans[name].end
    return spans[name]


def of_request(received: Collector, trace: str) -> dict[str, Span]:
    """Its spans, once all came: the service's, and the gang's."""

    def look() -> dict[str, Span] | None:
        found = received.of(trace)
        return found if {"submit", "handler", "attempt 1"} <= found.keys() else None

    return until(look, f"the spans of {trace}")


def submit(up: Up, **more: Any) -> Any:
    with Client(up.replica.url, up.token, trace={"traceparent": PARENT, "tracestate": "congo=t61"}) as client:
        return up.done(client.submit("traced", {}, **more).id)


def test_a_cold_request_reads_as_one_trace_from_its_caller_to_the_phases_of_its_handler(
    traced: Up, received: Collector
) -> None:
    request = submit(traced)
    assert request.succeeded, request.error
    spans = of_request(received, TRACE)
    whole = spans["request traced"]
    assert (whole.parent, whole.id, whole.kind) == (SPAN, tracing.span_of(request.id), 2)
    assert {span.trace for span in spans.values()} == {TRACE} and {span.state for span in spans.values()} == {
        "congo=t61"
    }
    submitted, queue, attempt = (child(spans, name, "request traced") for name in ("submit", "queue", "attempt 1"))
    assert submitted.begin <= queue.begin + 10**9 and queue.end == attempt.begin and attempt.end <= whole.end
    cold = child(spans, "cold start", "queue")
    phases = [child(spans, name, "cold start") for name in ("launch", "import", "rendezvous", "preflight", "setup")]
    assert [one.begin for one in phases[1:]] == [pytest.approx(one.end, abs=2000) for one in phases[:-1]]
    assert cold.begin <= phases[0].begin and phases[-1].end == pytest.approx(cold.end, abs=2000)
    child(spans, "handler", "attempt 1")
    parts = [child(spans, name, "handler") for name in ("run", "load", "steps", "save", "publish")]
    assert [one.begin for one in parts] == sorted(one.begin for one in parts)
    assert [name for name, _ in attempt.events] == [one.name for one in parts]
    assert (spans["handler"].service, whole.service) == ("muster-gang", "muster")
    assert request.result == {
        "traceparent": f"00-{TRACE}-{attempt.id}-01",
        "tracestate": "congo=t61",
        "rank": 0,
    }
    assert whole.said["muster.request.id"] == request.id == spans["handler"].said["muster.request.id"]
    assert not any(span.failed for span in spans.values())


def test_without_a_caller_it_is_a_trace_of_its_own_and_a_warm_one_has_no_start(traced: Up, received: Collector) -> None:
    request = traced.run("traced")
    own = tracing.own(request.id, 1.0)
    assert own is not None
    spans = of_request(received, own.trace)
    assert spans["request traced"].parent == "" and "cold start" not in spans
    assert request.result["traceparent"] == f"00-{own.trace}-{spans['attempt 1'].id}-01"


def test_a_failure_says_so_and_its_retry_links_to_it(traced: Up, received: Collector) -> None:
    failed = traced.run("traced", {"fail": True})
    own = tracing.own(failed.id, 1.0)
    assert failed.status == "failed" and own is not None
    spans = of_request(received, own.trace)
    assert {name for name, span in spans.items() if span.failed} == {"request traced", "attempt 1", "handler"}
    again = traced.done(traced.client.retry(failed.id).id)
    next_own = tracing.own(again.id, 1.0)
    assert next_own is not None
    retried = of_request(received, next_own.trace)
    assert retried["request traced"].links == ((own.trace, spans["request traced"].id),)


def test_a_caller_that_keeps_no_trace_is_handed_through_and_nothing_is_sent(traced: Up, received: Collector) -> None:
    other = "1" * 32
    said = f"00-{other}-{SPAN}-00"
    with Client(traced.replica.url, traced.token, trace={"traceparent": said}) as client:
        request = traced.done(client.submit("traced", {}).id)
    assert request.result["traceparent"] == said
    after = traced.run("traced")
    own = tracing.own(after.id, 1.0)
    assert own is not None and of_request(received, own.trace)
    assert received.of(other) == {}


def test_nonsense_is_as_if_nothing_was_said(traced: Up) -> None:
    with Client(traced.replica.url, traced.token, trace={"traceparent": "00-nonsense"}) as client:
        request = traced.done(client.submit("traced", {}).id)
    own = tracing.own(request.id, 1.0)
    assert own is not None and own.trace in request.result["traceparent"]


def test_a_batch_is_a_span_and_its_items_link_to_it(traced: Up, received: Collector) -> None:
    trace = "2" * 32
    with Client(traced.replica.url, traced.token, trace={"traceparent": f"00-{trace}-{SPAN}-01"}) as client:
        batch = client.batches.submit("traced", [{"custom_id": "a", "input": {}}])
    until(lambda: traced.client.batches.get(batch.id).is_terminal, "the batch is over")
    until(lambda: "batch traced" in received.of(trace), "its span came")
    whole = received.of(trace)["batch traced"]
    assert (whole.parent, whole.id) == (SPAN, tracing.span_of(batch.id))
    until(
        lambda: [one for one in received.spans if one.links == ((trace, whole.id),) and one.name == "request traced"],
        "the item links to it",
    )


def test_a_script_finds_its_trace_in_the_environment(traced: Up, tmp_path: Path) -> None:
    script = {"path": str(FOLDER / "script.py"), "outputs": {"out": "trace.txt"}}
    traced.client.apply_template({"name": "scripted", "script": script, "ranks_per_node": 1, "pool": {"max": 1}})
    environment = {**os.environ, "TRACEPARENT": PARENT, "TRACESTATE": "congo=t61", "MUSTER_HOME": str(traced.home)}
    muster = Path(sys.executable).with_name("muster")
    done = subprocess.run(
        [muster, "submit", "scripted", "--wait", "-q"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    request = traced.client.get(done.stdout.split()[0])
    told = traced.client.download(request.id, "trace.txt", tmp_path).read_text()
    (attempt,) = (event.data["attempt"] for event in traced.client.events(request.id) if event.move == "assign")
    assert told == f"00-{TRACE}-{tracing.span_of(attempt)}-01 congo=t61"
