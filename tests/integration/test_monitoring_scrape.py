"""Dashboard and alerts against what a replica really exposes, once things happened there."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import builders as make
import pytest
from http_gang import HttpGang, gang_in
from monitoring import expressions, tool
from prometheus_client.parser import text_string_to_metric_families
from promql import unknown
from replica import Replica, replica
from scripted_backend import ScriptedBackend
from webhook_house import KEYS

from orchestrator.backends.places import Places
from orchestrator.domain.states import Outcome, Reason
from orchestrator.domain.targets import Policy
from orchestrator.loops.deliver import Sender
from orchestrator.loops.desk import Desk
from orchestrator.loops.egress import Egress
from orchestrator.loops.rounds import Rounds
from orchestrator.service.replica import duties
from orchestrator.store import gangs, webhooks
from orchestrator.store.database import Database, Record


@pytest.fixture(scope="module")
def scrape(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a replica where requests succeeded, failed and were lost, gangs came and went, and every loop passed."""
    with replica(shared_database, tmp_path_factory.mktemp("replica"), webhook_keys=("k" * 32,)) as here:
        own = here.office.database
        pool = own.transact(make.pool)
        with here.caller(tenant="default") as caller:
            _hear(own)
            _work(here, pool)
            _loops(here)
            answer = caller.get("/metrics")
        assert answer.status_code == 200
        yield answer.text


def _hear(own: Database) -> None:
    """An endpoint that nobody listens at."""
    target = Policy.read(["*", "http://127.0.0.1:1"]).target("http://127.0.0.1:1/hook")
    own.transact(lambda tx: webhooks.create(tx, "default", target, ("request.succeeded",), KEYS.newest or ""))


def _work(here: Replica, pool: Record) -> None:
    own = here.office.database
    own.transact(lambda tx: make.queued(tx, pool))
    gang: HttpGang = gang_in(here, pool).begin()
    own.transact(lambda tx: make.assign(tx, pool))
    lease = gang.lease()
    assert gang.beat(lease).status_code == 200
    assert gang.finish(lease).status_code == 200
    own.transact(lambda tx: gangs.end(tx, gang.id, Reason.IDLE, "nobody came"))
    for ended in (lambda tx, lease: make.finish(tx, lease, Outcome.FAILED), make.lose):
        other = own.transact(make.pool)
        own.transact(lambda tx, of=other, end=ended: end(tx, make.running(tx, of)))
    own.transact(lambda tx: make.batch(tx, pool))


def _loops(here: Replica) -> None:
    own, metrics = here.office.database, here.office.metrics
    desk = Desk(database=own, places=Places(ScriptedBackend()), settings=here.office.settings, wake=here.office.wake)
    sender = Sender(Egress(policy=Policy.read(["*", "http://127.0.0.1:1"])), metrics.sent, metrics.gave_up)
    for duty in duties(desk, sender, metrics):
        Rounds([duty], metrics.passed)._pass(duty)
    sender.settle(timedelta(seconds=20))
    sender.close()


def exposed(scrape: str) -> dict[str, set[str]]:
    """Every sample and its labels; of a family without samples nothing is known but its name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("what", expressions())
def test_every_query_of_dashboard_and_alerts_names_what_a_replica_exposes(scrape: str, what: str) -> None:
    assert unknown(expressions()[what], exposed(scrape)) == []


def test_promtool_finds_nothing_wrong_with_our_metrics(scrape: str) -> None:
    ours = "".join(line for line in scrape.splitlines(keepends=True) if "muster_" in line)
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=ours, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), done.stdout + done.stderr


def test_the_numbers_are_those_of_what_happened(scrape: str) -> None:
    values: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            values[sample.name, *(label for name, label in sorted(sample.labels.items()) if name != "template")] += (
                sample.value
            )
    assert values["muster_lease_expiries_total",] == 1
    assert values["muster_request_starts_total", "cold"] == values["muster_request_cold_start_seconds_count",] == 1
    assert values["muster_batches", "queued"] == values["muster_batches_idle",] == 1
    assert values["muster_webhook_deliveries_pending",] == values["muster_webhook_sends_total", "connect"] == 1
    assert values["muster_schedule_fires_total", "misfire"] == 0 == values["muster_database_pool_timeouts_total",]
    assert values["muster_storage_size_bytes",] > values["muster_storage_free_bytes",] > 0


def test_a_pool_without_a_free_connection_is_counted(database: Database, tmp_path: Path) -> None:
    with replica(database, tmp_path) as here:
        tight = Database(database.url, connections=1, patience=timedelta(milliseconds=50))
        tight.starved = here.office.metrics.starved
        with tight._engine.connect(), pytest.raises(Exception, match="all database connections are in use"):
            tight.look(lambda tx: make.count(tx, "SELECT 1"))
        tight.close()
        assert b"muster_database_pool_timeouts_total 1.0" in here.office.metrics.render()
