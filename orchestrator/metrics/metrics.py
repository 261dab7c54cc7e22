"""Counters and histograms of one replica, in a registry of its own; docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)

from orchestrator.domain.moved import Moved
from orchestrator.domain.schedules import FireState, SkipReason
from orchestrator.domain.standing import Standing
from orchestrator.domain.states import FAULTS, Reason
from orchestrator.metrics import labels
from orchestrator.metrics.disk import Disk
from orchestrator.metrics.labels import Bounded
from orchestrator.metrics.standing import StandingGauges

disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series for what a rate() finds by itself
CONTENT_TYPE = CONTENT_TYPE_LATEST
_QUICK = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0)
_KINDS = {"succeed": "succeeded", "fail": "failed", "retry": "lost", "end_cancel": "canceled"}


class Metrics:
    """What one replica is told. Every method may be called from any thread."""

    def __init__(self, look: Callable[[], Standing], *, by_tenant: bool = False) -> None:
        """`look` reads the standing of the installation; `by_tenant` shows tenants by name."""
        self.registry = CollectorRegistry()
        self._template = Bounded(met=self._meet)
        self._at_work: set[str] = set()
        self._make_moves()
        self._make_spans()
        self._make_calls()
        self._make_doors()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(StandingGauges(look, self._template, by_tenant=by_tenant))

    def _make_moves(self) -> None:
        given = self.registry
        self._request_moves = Counter(
            "muster_request_moves", "Moves of requests.", ("template", "move"), registry=given
        )
        self._gang_moves = Counter("muster_gang_moves", "Moves of gangs.", ("template", "move"), registry=given)
        self._batch_moves = Counter("muster_batch_moves", "Moves of batches.", ("template", "move"), registry=given)
        self._placements = Counter(
            "muster_request_placements", "Paths of accepted requests.", ("template", "placement"), registry=given
        )
        self._starts = Counter(
            "muster_request_starts",
            "Requests that succeeded, by whether they waited for the start of a gang (cold) or not (warm).",
            ("template", "start"),
            registry=given,
        )
        self._failures = Counter(
            "muster_request_failures", "Requests that failed or expired.", ("template", "reason"), registry=given
        )
        self._retries = Counter(
            "muster_request_retries", "Attempts that were tried again.", ("template", "reason", "fault"), registry=given
        )
        self._expiries = Counter(
            "muster_lease_expiries", "Leases that ended because their gang was silent.", ("template",), registry=given
        )
        self._ends = Counter("muster_gang_ends", "Gangs that ended.", ("template", "reason"), registry=given)
        self._gpu = Counter(
            "muster_gpu_seconds", "GPU-seconds of attempts, by how they ended.", ("template", "kind"), registry=given
        )

    def _make_spans(self) -> None:
        given = self.registry
        self._queue = Histogram(
            "muster_request_queue_seconds",
            "From accepted (or due again) to assigned.",
            ("template", "placement"),
            registry=given,
            buckets=_LONG,
        )
        self._run = Histogram(
            "muster_attempt_run_seconds",
            "Run time of attempts, by how they ended.",
            ("template", "kind"),
            registry=given,
            buckets=_LONG,
        )
        self._start = Histogram(
            "muster_gang_start_seconds",
            "Start of gangs by phase, and `total`.",
            ("template", "phase"),
            registry=given,
            buckets=_LONG,
        )
        self._cold = Histogram(
            "muster_request_cold_start_seconds",
            "How much of the wait of a request that succeeded was the start of its gang; warm ones are not in it.",
            ("template",),
            registry=given,
            buckets=_LONG,
        )

    def _make_calls(self) -> None:
        given = self.registry
        self._calls = Histogram(
            "muster_http_request_duration_seconds",
            "Calls, parked time included, by route.",
            ("method", "route", "status"),
            registry=given,
            buckets=_QUICK,
        )
        self._dispatch = Histogram(
            "muster_dispatch_seconds",
            "From the grant of a lease to the answer that carries it to its gang.",
            registry=given,
            buckets=_QUICK,
        )
        self._rounds = Histogram(
            "muster_loop_round_seconds", "Passes of the loops.", ("duty", "outcome"), registry=given, buckets=_QUICK
        )
        self._good = Gauge(
            "muster_loop_last_good_round_timestamp_seconds",
            "When a pass of the loop last ended well.",
            ("duty",),
            registry=given,
        )
        self._parked = Gauge("muster_parked_polls", "Polls that wait here.", ("kind",), registry=given)
        self._connections = Gauge(
            "muster_database_connections_in_use", "Connections of the pool that are in use.", registry=given
        )
        self._most_connections = Gauge(
            "muster_database_connections_max", "Connections that the pool may have.", registry=given
        )

    def _make_doors(self) -> None:
        given = self.registry
        self._uploaded = Counter("muster_uploaded_bytes", "Bytes of complete uploads.", registry=given)
        self._sends = Counter(
            "muster_webhook_sends", "Tries to send a webhook's message.", ("outcome",), registry=given
        )
        self._given_up = Counter(
            "muster_webhook_deliveries_given_up", "Messages of webhooks that are not sent any more.", registry=given
        )
        self._fires = Counter(
            "muster_schedule_fires", "Ticks of schedules that ran, or were skipped.", ("outcome",), registry=given
        )
        for outcome in (FireState.RAN, *SkipReason):  # as in `_meet`
            self._fires.labels(outcome)
        self._starved = Counter(
            "muster_database_pool_timeouts",
            "Times that no connection of the pool became free in time.",
            registry=given,
        )
        self._refused = Gauge(
            "muster_places_refused",
            "Places of gangs, such as namespaces, that this replica cannot look at now.",
            registry=given,
        )
        about = Gauge("muster_build_info", "1; the version that runs.", ("version",), registry=given)
        about.labels(version("muster-orchestrator")).set(1)

    def _meet(self, template: str) -> None:
        """What is there from the start can be seen to grow: of a series that begins with 1, rate() sees nothing."""
        for start in ("cold", "warm"):
            self._starts.labels(template, start)
        for move in ("record", "succeed", "fail"):
            self._request_moves.labels(template, move)
        for kind in _KINDS.values():
            self._gpu.labels(template, kind)
        self._gang_moves.labels(template, "break")
        self._expiries.labels(template)

    def _begin(self, template: str) -> None:
        """As `_meet`, for histograms: only where something happens, for each is many series."""
        self._at_work.add(template)
        self._queue.labels(template, "warm")
        self._run.labels(template, "succeeded")
        self._cold.labels(template)
        for phase in PHASES:
            self._start.labels(template, phase)

    def count(self, moved: Sequence[Moved]) -> None:
        """Moves that were committed here."""
        for one in moved:
            template = self._template(one.template)
            if template not in self._at_work:
                self._begin(template)
            if one.request is not None or one.items:
                self._count_request(one, template, one.items or 1)
            elif one.batch is not None:
                self._batch_moves.labels(template, one.move).inc()
            else:
                self._count_gang(one, template)

    def _count_request(self, one: Moved, template: str, times: int) -> None:
        self._request_moves.labels(template, one.move).inc(times)
        match one.move:
            case "record":
                self._placements.labels(template, one.placement or "").inc(times)
            case "assign" if one.seconds is not None:
                self._queue.labels(template, one.placement or "").observe(one.seconds)
            case "fail" | "expire":
                self._failures.labels(template, one.reason or "").inc(times)
            case "retry":
                self._retries.labels(template, one.reason or "", _fault(one.reason)).inc()
        if one.cold_s is not None:
            self._starts.labels(template, "cold" if one.cold_s else "warm").inc()
        if one.cold_s:
            self._cold.labels(template).observe(one.cold_s)
        if one.lost == Reason.LEASE_EXPIRED:
            self._expiries.labels(template).inc()
        if one.gpu_seconds is not None and one.seconds is not None:
            kind = _KINDS.get(one.move, labels.OTHER)
            self._gpu.labels(template, kind).inc(max(0.0, one.gpu_seconds))
            self._run.labels(template, kind).observe(one.seconds)

    def _count_gang(self, one: Moved, template: str) -> None:
        self._gang_moves.labels(template, one.move).inc()
        if one.move == "end":
            self._ends.labels(template, one.reason or "").inc()
        if one.move == "ready":
            for phase, seconds in ({"total": one.seconds} | dict(one.phases)).items():
                if isinstance(seconds, int | float) and (phase in PHASES):
                    self._start.labels(template, phase).observe(seconds)

    def called(self, method: str, route: str, status: int, seconds: float) -> None:
        """A call was answered. `route` is a template of paths, never a path."""
        self._calls.labels(labels.method(method), route, str(status)).observe(seconds)

    def dispatched(self, seconds: float) -> None:
        self._dispatch.observe(max(0.0, seconds))

    def uploaded(self, size: int) -> None:
        self._uploaded.inc(size)

    def sent(self, outcome: str) -> None:
        """A webhook's message was tried: `delivered`, or a code of docs/webhooks.md."""
        self._sends.labels(outcome).inc()

    def gave_up(self) -> None:
        """A message of a webhook is not sent any more."""
        self._given_up.inc()

    def fired(self, outcome: str, count: int) -> None:
        """Ticks of schedules were decided: `ran`, or why not."""
        self._fires.labels(outcome).inc(count)

    def starved(self) -> None:
        """No connection became free in time."""
        self._starved.inc()

    def passed(self, duty: str, seconds: float, *, good: bool) -> None:
        """A loop made a pass."""
        self._rounds.labels(duty, "good" if good else "failed").observe(seconds)
        if good:
            self._good.labels(duty).set_to_current_time()

    def watch(
        self,
        *,
        connections: Callable[[], int],
        most: int,
        parked: dict[str, Callable[[], int]],
        disk: Path | None = None,
    ) -> None:
        """What is asked for at each scrape. `disk`: a folder for outputs; None where they lie in a bucket."""
        self._connections.set_function(connections)
        self._most_connections.set(most)
        for kind, count in parked.items():
            self._parked.labels(kind).set_function(count)
        if disk is not None:
            self.registry.register(Disk(disk))

    def watch_places(self, refused: Callable[[], int]) -> None:
        """Asked at each scrape: how many places did not answer the last look."""
        self._refused.set_function(refused)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def serve(self, host: str, port: int) -> WSGIServer:
        """A port of their own, without authentication. The caller ends it with `shutdown` and `server_close`."""
        server, _ = start_http_server(port, host, self.registry)
        return server


PHASES = ("total", "launch", "scheduling", "image", "start", "import", "rendezvous", "preflight", "setup", "warmup")


def _fault(reason: str | None) -> str:
    return FAULTS[Reason(reason)] if reason in set(Reason) else labels.OTHER
