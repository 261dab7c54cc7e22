"""What a caller says of its trace is kept, handed to the gang and drawn: over HTTP, with a real receiver of spans."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as make
import httpx
import pytest
from http_gang import HttpGang, gang_in
from otlp import Collector, collector
from races import eventually
from replica import Replica, replica
from sqlalchemy import text

from orchestrator.domain import tracing
from orchestrator.domain.tracing import Tracing
from orchestrator.errors import Invalid
from orchestrator.service.replica import traces
from orchestrator.settings import Settings
from orchestrator.store.database import Database, Record
from orchestrator.traces import Traces, exporter, exporting

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=t61"}


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[Replica]:
    with replica(database, tmp_path) as running:
        yield running


@pytest.fixture
def received(here: Replica, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The replica makes spans and sends them here."""
    with collector() as there:
        for name, value in there.variables.items():
            monkeypatch.setenv(name, value)
        made = traces(Settings.from_env({"MUSTER_HOME": "/nowhere", **there.variables}), here.office.database)
        assert made is not None
        here.office.traces, here.office.tracing = made, made.how
        yield there
        made.close()


def submit(here: Replica, pool: Record, **headers: str) -> str:
    client: httpx.Client = here.caller(tenant="default")
    answer = client.post("/v1/requests", json={"template": pool.template, "input": {}}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def kept(here: Replica, request: str) -> tuple[str | None, str | None]:
    query = text("SELECT traceparent, tracestate FROM payload WHERE request_id = :id")
    row = here.database.transact(lambda tx: tx.execute(query, {"id": request}).one())
    return row.traceparent, row.tracestate


@pytest.fixture
def pool(here: Replica) -> Record:
    return here.database.transact(make.pool)


@pytest.fixture
def gang(here: Replica, pool: Record) -> HttpGang:
    return gang_in(here, pool).begin()


def test_off_it_is_kept_and_handed_on_as_it_came(here: Replica, pool: Record, gang: HttpGang) -> None:
    request = submit(here, pool, **HEADERS)
    lease = gang.lease()
    assert {name: lease[name] for name in HEADERS} == HEADERS
    assert kept(here, request) == (HEADERS["traceparent"], "congo=t61")
    assert gang.finish(lease).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-nonsense"}, {"tracestate": "a=1"}])
def test_off_nothing_is_kept_of_nothing(here: Replica, pool: Record, gang: HttpGang, headers: dict[str, str]) -> None:
    request = submit(here, pool, **headers)
    assert kept(here, request) == (None, None)
    assert not {"traceparent", "tracestate"} & gang.lease().keys()


def test_a_lease_says_the_same_on_all_the_ways_it_comes(here: Replica, pool: Record, gang: HttpGang) -> None:
    """At once with the submit, to a gang that asks again, and with the answer to a report."""
    submit(here, pool, **HEADERS)
    submit(here, pool, **HEADERS)
    first, again = gang.lease(), gang.lease()
    (second,) = gang.finish(first).json()["work"]
    for lease in (first, again, second):
        assert {name: lease[name] for name in HEADERS} == HEADERS


def test_on_the_gang_is_told_of_its_attempt_and_the_whole_is_sent_once_it_is_over(
    here: Replica, received: Collector, pool: Record
) -> None:
    request = submit(here, pool, **HEADERS)
    gang = gang_in(here, pool).begin()
    here.database.transact(lambda tx: make.assign(tx, pool))
    lease = gang.lease()
    assert gang.beat(lease).status_code == 200 and gang.finish(lease).status_code == 200
    eventually(lambda: {"request " + pool.template, "submit"} <= received.of(TRACE).keys())
    spans = received.of(TRACE)
    whole, attempt = spans["request " + pool.template], spans["attempt 1"]
    assert (whole.id, whole.parent, whole.state) == (tracing.span_of(request), SPAN, "congo=t61")
    assert lease["traceparent"] == f"00-{TRACE}-{attempt.id}-01" and lease["tracestate"] == "congo=t61"
    assert {spans[name].parent for name in ("submit", "queue", "attempt 1")} == {whole.id}
    assert spans["cold start"].parent == spans["queue"].id
    assert attempt.said["muster.gang.id"] == gang.id and attempt.said["muster.outcome"] == "succeeded"


def test_a_lost_attempt_and_the_next_one_are_linked(here: Replica, received: Collector, pool: Record) -> None:
    own = here.office.database

    def twice(tx: make.Tx) -> str:
        lease = make.running(tx, pool)
        make.lose(tx, lease)
        tx.execute(text("UPDATE request SET run_at = clock_timestamp() WHERE id = :id"), {"id": lease.request})
        assert list(make.assign(tx, pool)) == [lease.gang.id]
        make.finish(tx, make.lease_of(tx, lease.gang))
        return lease.request

    trace = tracing.own(own.transact(twice), 1.0)
    assert trace is not None
    eventually(lambda: any(span.name == "attempt 2" for span in received.spans))
    spans = sorted((span for span in received.spans if span.trace == trace.trace), key=lambda span: span.begin)
    first, second = (span for span in spans if span.name.startswith("attempt"))
    assert first.failed and second.links == ((trace.trace, first.id),)
    assert [span.name for span in spans].count("queue") == 2


def test_without_opentelemetry_it_says_what_to_install_or_goes_on_without(
    here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(Invalid, match="otel"):
        exporter()
    named: dict[str, Any] = {"MUSTER_HOME": "/nowhere", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    assert traces(Settings.from_env(named), here.database) is None
    with pytest.raises(Invalid, match="otel"):
        traces(Settings.from_env({**named, "MUSTER_TRACES": "true"}), here.database)


def test_a_receiver_that_is_away_holds_up_nobody(
    here: Replica, pool: Record, gang: HttpGang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(exporting, "PATIENCE_S", 0.2)
    made = Traces(Tracing(on=True), exporter(), lambda ids: (), lambda ids: ())
    here.office.traces, here.office.tracing = made, made.how
    for _ in range(3):
        submit(here, pool)
        assert gang.finish(gang.lease()).status_code == 200
    made.close()
