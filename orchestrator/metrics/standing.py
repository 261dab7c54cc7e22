"""Gauges of the installation: every replica shows the same, from a look at the database that is kept for seconds."""

from __future__ import annotations

import logging
import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator.domain.standing import Standing
from orchestrator.errors import MusterError
from orchestrator.metrics.labels import Bounded

log = logging.getLogger("muster.metrics")

KEPT_S = 5.0
"""Several scrapers of one replica share one look."""


class StandingGauges(Collector):
    """Without an answer of the database the rest of a scrape stays good, and `muster_database_up` says so."""

    def __init__(self, look: Callable[[], Standing], template: Bounded, *, by_tenant: bool) -> None:
        self._look = look
        self._template = template
        self._tenant = Bounded() if by_tenant else None
        self._lock = threading.Lock()
        self._kept: tuple[float, Standing | None] = (0.0, None)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """What it collects; the registry asks for it, and nothing is looked at for that."""
        return [
            *_families(Standing(), self._template),
            *([_tenants(Standing(), self._tenant)] if self._tenant else []),
            _up(False),
        ]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        standing = self._now()
        if standing is not None:
            yield from _families(standing, self._template)
            if self._tenant:
                yield _tenants(standing, self._tenant)
        yield _up(standing is not None)

    def _now(self) -> Standing | None:
        with self._lock:
            until, kept = self._kept
            if until <= time.monotonic():
                kept = self._looked()
                self._kept = (time.monotonic() + KEPT_S, kept)
            return kept

    def _looked(self) -> Standing | None:
        try:
            return self._look()
        except MusterError as error:
            log.warning("no numbers of the installation: %s", error.message, extra={"action": "scrape_failed"})
            return None


def _families(standing: Standing, template: Bounded) -> list[GaugeMetricFamily]:
    return [
        *_requests(standing, template),
        *_fleet(standing, template),
        *_batches(standing, template),
        *_deliveries(standing),
    ]


def _requests(standing: Standing, template: Bounded) -> list[GaugeMetricFamily]:
    return [
        _gauge(
            "muster_requests",
            "Open requests of the installation.",
            ("template", "state"),
            [((template(name), state), n) for (name, state), n in standing.requests.items()],
        ),
        _gauge(
            "muster_queue_oldest_seconds",
            "How long the oldest queued request of the installation has waited.",
            ("template",),
            [((template(name),), seconds) for name, seconds in standing.oldest_s.items()],
            merged=max,
        ),
    ]


def _fleet(standing: Standing, template: Bounded) -> list[GaugeMetricFamily]:
    pools = [(template(name), pool) for name, pool in standing.pools.items()]
    return [
        _gauge(
            "muster_gangs",
            "Gangs of the installation that are not gone.",
            ("template", "state"),
            [((template(name), state), n) for (name, state), n in standing.gangs.items()],
        ),
        _gauge(
            "muster_pool_min_gangs",
            "Gangs that a pool keeps at least.",
            ("template",),
            [((name,), pool.min_gangs) for name, pool in pools],
        ),
        _gauge(
            "muster_pool_max_gangs",
            "Gangs that a pool may have.",
            ("template",),
            [((name,), pool.max_gangs) for name, pool in pools],
        ),
        _gauge(
            "muster_pool_held",
            "1 while a pool starts no gang because starts failed.",
            ("template",),
            [((name,), float(pool.held)) for name, pool in pools],
            merged=max,
        ),
    ]


def _batches(standing: Standing, template: Bounded) -> list[GaugeMetricFamily]:
    return [
        _gauge(
            "muster_batches",
            "Batches of the installation that are not over.",
            ("template", "state"),
            [((template(name), state), n) for (name, state), n in standing.batches.items()],
        ),
        _gauge(
            "muster_batches_idle",
            "Batches whose items may start, of which none is on a gang.",
            ("template",),
            [((template(name),), n) for name, n in standing.batches_idle.items()],
        ),
    ]


def _deliveries(standing: Standing) -> list[GaugeMetricFamily]:
    return [
        _gauge(
            "muster_webhook_deliveries_pending",
            "Messages of webhooks that are not sent yet.",
            (),
            [((), standing.deliveries)],
        ),
        _gauge(
            "muster_webhook_oldest_delivery_seconds",
            "How long the oldest message of a webhook has waited.",
            (),
            [((), standing.oldest_delivery_s)],
        ),
    ]


def _tenants(standing: Standing, tenant: Bounded) -> GaugeMetricFamily:
    pairs = [((tenant(name), state), n) for (name, state), n in standing.tenants.items()]
    return _gauge("muster_tenant_requests", "Open requests of each tenant.", ("tenant", "state"), pairs)


def _up(answered: bool) -> GaugeMetricFamily:
    return GaugeMetricFamily("muster_database_up", "1 if the database answered this replica.", value=float(answered))


def _gauge(
    name: str,
    text: str,
    labels: tuple[str, ...],
    pairs: Iterable[tuple[tuple[str, ...], float]],
    merged: Callable[[float, float], float] = operator.add,
) -> GaugeMetricFamily:
    """`merged`: what becomes of those that share the label `other`."""
    values: dict[tuple[str, ...], float] = {}
    for key, value in pairs:
        values[key] = merged(values[key], value) if key in values else value
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
