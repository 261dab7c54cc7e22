"""Metrics: conventional names, bounded labels, a page that lists them all, numbers that follow from the moves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.domain.moved import Moved
from orchestrator.domain.standing import PoolStanding, Standing
from orchestrator.errors import Unavailable
from orchestrator.metrics import Metrics
from orchestrator.metrics.labels import MOST
from orchestrator.metrics.metrics import PHASES

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
STANDING = Standing(
    requests={("digits", "queued"): 3},
    oldest_s={"digits": 4.5},
    gangs={("digits", "idle"): 1},
    pools={"digits": PoolStanding(min_gangs=0, max_gangs=2, held=False)},
    batches={("digits", "running"): 2},
    batches_idle={"digits": 1},
    deliveries=4,
    oldest_delivery_s=7.5,
    tenants={("acme", "queued"): 3},
)
LABELS = {
    "duty",
    "fault",
    "kind",
    "le",
    "method",
    "move",
    "outcome",
    "phase",
    "placement",
    "reason",
    "route",
    "start",
    "state",
    "status",
    "template",
    "tenant",
    "version",
}
"""All that may be a label. None holds an ID; the values of each are bounded."""


def moved(move: str, **more: object) -> Moved:
    said = {"state": "queued", "tenant": "acme", "template": "digits", "request": "req_1", **more}
    return Moved(move=move, **said)  # type: ignore[arg-type]


def whole(*, by_tenant: bool = True) -> Metrics:
    """With every metric having at least one series."""
    metrics = Metrics(lambda: STANDING, by_tenant=by_tenant)
    metrics.watch(
        connections=lambda: 2, most=16, parked={"gang": lambda: 1, "request": lambda: 0}, disk=PAGE.parent / "later"
    )
    metrics.sent("delivered")
    metrics.count(
        [
            moved("record", placement="warm"),
            moved("assign", placement="warm", seconds=0.5),
            moved("retry", reason="lease_expired", lost="lease_expired", seconds=3.0, gpu_seconds=6.0),
            moved("succeed", seconds=2.0, gpu_seconds=4.0, cold_s=0.0),
            moved("succeed", cold_s=12.0),
            moved("fail", reason="oom"),
            moved("ready", request=None, seconds=9.0, phases={"setup": 5.0, "invented": 1.0}),
            moved("end", request=None, reason="idle"),
            moved("record_batch", request=None, batch="bat_1"),
        ]
    )
    metrics.called("GET", "/v1/requests", 200, 0.1)
    metrics.dispatched(0.01)
    metrics.uploaded(10)
    metrics.passed("plan", 0.1, good=True)
    return metrics


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def values(metrics: Metrics, sample: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(label for _, label in sorted(one.labels.items())): one.value
        for family in families(metrics).values()
        for one in family.samples
        if one.name == sample
    }


def test_names_units_and_types_follow_the_conventions() -> None:
    for name, family in families(whole()).items():
        if not name.startswith("muster_"):
            continue
        assert re.fullmatch(r"muster(_[a-z]+)+", name), name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|count|sum|bucket|total)$", name), name
        assert family.type in ("counter", "gauge", "histogram"), name
        assert family.type != "histogram" or name.endswith("_seconds"), name
        samples = {one.name for one in family.samples}
        assert samples == {f"{name}_total"} if family.type == "counter" else True, samples


def test_labels_are_few_known_and_hold_no_id() -> None:
    for name, family in families(whole()).items():
        if name.startswith("muster_"):
            for one in family.samples:
                assert one.labels.keys() <= LABELS, name
                assert not re.search(r"(req|gng|att|tok|fil)_", " ".join(one.labels.values())), name


def test_tenants_have_no_name_unless_the_operator_says_so() -> None:
    assert "acme" not in whole(by_tenant=False).render().decode()
    assert values(whole(), "muster_tenant_requests") == {("queued", "acme"): 3}


def test_what_anybody_can_invent_is_bounded() -> None:
    metrics = Metrics(lambda: Standing(requests={(f"s{n}", "queued"): 1 for n in range(2 * MOST)}))
    metrics.count([moved("record", template=f"t{n}", placement="warm") for n in range(3 * MOST)])
    metrics.called("BREW", "none", 404, 0.1)
    assert len({template for _, template in values(metrics, "muster_request_moves_total")}) == MOST + 1
    assert values(metrics, "muster_request_moves_total")["record", "other"] == 2 * MOST
    assert values(metrics, "muster_requests") == {("queued", "other"): 2 * MOST}
    assert values(metrics, "muster_http_request_duration_seconds_count") == {("other", "none", "404"): 1}


def test_the_numbers_follow_from_the_moves() -> None:
    metrics = whole()
    assert values(metrics, "muster_request_retries_total") == {("infra", "lease_expired", "digits"): 1}
    assert values(metrics, "muster_lease_expiries_total") == {("digits",): 1}
    gpu = {("lost", "digits"): 6, ("succeeded", "digits"): 4, ("failed", "digits"): 0, ("canceled", "digits"): 0}
    assert values(metrics, "muster_gpu_seconds_total") == gpu
    assert values(metrics, "muster_request_starts_total") == {("cold", "digits"): 1, ("warm", "digits"): 1}
    assert values(metrics, "muster_request_cold_start_seconds_sum") == {("digits",): 12}
    assert values(metrics, "muster_request_queue_seconds_sum") == {("warm", "digits"): 0.5}
    assert values(metrics, "muster_gang_start_seconds_sum") == {
        (phase, "digits"): {"total": 9, "setup": 5}.get(phase, 0) for phase in PHASES
    }
    assert values(metrics, "muster_gang_ends_total") == {("idle", "digits"): 1}
    assert values(metrics, "muster_queue_oldest_seconds") == {("digits",): 4.5}


def test_what_can_happen_to_a_template_is_zero_before_it_does_so_that_it_can_be_seen_to_grow() -> None:
    metrics = Metrics(lambda: STANDING)
    metrics.render()
    assert values(metrics, "muster_request_starts_total") == {("cold", "digits"): 0, ("warm", "digits"): 0}
    assert values(metrics, "muster_lease_expiries_total") == {("digits",): 0}
    assert values(metrics, "muster_gang_start_seconds_count") == {}
    metrics.count([moved("plan", request=None)])
    assert values(metrics, "muster_gang_start_seconds_count")["total", "digits"] == 0


def test_a_database_that_does_not_answer_leaves_the_rest_of_a_scrape_good() -> None:
    def away() -> Standing:
        raise Unavailable("away")

    metrics = Metrics(away)
    assert values(metrics, "muster_database_up") == {(): 0}
    assert values(metrics, "muster_uploaded_bytes_total") == {(): 0}
    assert "muster_requests" not in families(metrics)


def test_several_scrapes_within_seconds_share_one_look() -> None:
    looks: list[int] = []

    def look() -> Standing:
        looks.append(1)
        return STANDING

    metrics = Metrics(look)
    metrics.render(), metrics.render()
    assert len(looks) == 1


def test_the_page_lists_every_metric_with_its_type_and_labels_and_no_other() -> None:
    page = {
        row["name"]: (row["type"], sorted(re.findall(r"`(\w+)`", row["labels"])))
        for row in re.finditer(
            r"^\| `(?P<name>muster_\w+)` \| (?P<type>\w+) \|(?P<labels>[^|]*)\|", PAGE.read_text(), re.MULTILINE
        )
    }
    given = {}
    for name, family in families(whole()).items():
        if name.startswith("muster_"):
            labels = {label for one in family.samples for label in one.labels} - {"le"}
            given[f"{name}_total" if family.type == "counter" else name] = (family.type, sorted(labels))
    assert page == given


@pytest.mark.parametrize("word", ["process_resident_memory_bytes", "python_gc_objects_collected"])
def test_the_process_tells_of_itself(word: str) -> None:
    assert word in families(whole())
