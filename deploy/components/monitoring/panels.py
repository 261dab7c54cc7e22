"""The panels of the dashboard, row by row. `$template` is what the reader chose; metrics: docs/metrics.md."""

from __future__ import annotations

from dataclasses import dataclass

OF = 'template=~"$template"'


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One graph. `queries`: legend -> PromQL; `thresholds`: where it becomes yellow and red."""

    title: str
    says: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    thresholds: tuple[float, float] | None = None
    stacked: bool = False


def rate(metric: str, by: str, matching: str = OF) -> str:
    return f"sum by ({by}) (rate({metric}{{{matching}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", matching: str = OF) -> str:
    labels = f"le, {by}" if by else "le"
    chosen = f"{{{matching}}}" if matching else ""
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{chosen}[$__rate_interval])))"


def standing(metric: str, by: str, keep: str, matching: str = OF) -> str:
    """Of the installation: every replica says the same."""
    return f"sum by ({by}) (max by ({keep}) ({metric}{{{matching}}}))"


WARM = (
    f'sum(rate(muster_request_starts_total{{start="warm", {OF}}}[$__range]))'
    f" / sum(rate(muster_request_starts_total{{{OF}}}[$__range]))"
)
CALLS = "muster_http_request_duration_seconds_count"
ROWS: dict[str, list[Panel]] = {
    "Now": [
        Panel(
            title="Replicas",
            says="Replicas that Prometheus reaches.",
            unit="none",
            queries={"replicas": "count(muster_build_info)"},
            kind="stat",
            width=3,
        ),
        Panel(
            title="Database",
            says="1 if every replica reaches its database.",
            unit="none",
            queries={"up": "min(muster_database_up)"},
            kind="stat",
            width=3,
        ),
        Panel(
            title="Waiting",
            says="Requests that are queued.",
            unit="short",
            queries={"queued": f'sum(max by (template) (muster_requests{{state="queued", {OF}}})) or vector(0)'},
            kind="stat",
            width=3,
        ),
        Panel(
            title="Oldest",
            says="How long the oldest queued request has waited.",
            unit="s",
            queries={"oldest": f"max(muster_queue_oldest_seconds{{{OF}}}) or vector(0)"},
            kind="stat",
            width=3,
            thresholds=(600, 1800),
        ),
        Panel(
            title="Warm hits",
            says="Share of successes that waited for no gang's start, over the time shown.",
            unit="percentunit",
            queries={"warm": WARM},
            kind="stat",
            width=4,
        ),
        Panel(
            title="GPU time",
            says="GPU-seconds of attempts over the time shown, however they ended.",
            unit="s",
            queries={"GPU": f"sum(increase(muster_gpu_seconds_total{{{OF}}}[$__range]))"},
            kind="stat",
            width=4,
        ),
        Panel(
            title="Pools held",
            says="Pools that start no gangs because starts failed.",
            unit="none",
            queries={"held": f"sum(max by (template) (muster_pool_held{{{OF}}})) or vector(0)"},
            kind="stat",
            width=4,
            thresholds=(1, 1),
        ),
    ],
    "Requests": [
        Panel(
            title="Open requests",
            says="Requests that are not at their end, by state.",
            unit="short",
            queries={"{{state}}": standing("muster_requests", "state", "template, state")},
            stacked=True,
        ),
        Panel(
            title="Moves",
            says="Moves of requests per second: accepted, assigned, ended (docs/states.md).",
            unit="ops",
            queries={"{{move}}": rate("muster_request_moves_total", "move")},
        ),
        Panel(
            title="Queue age",
            says="How long the oldest queued request has waited, by template.",
            unit="s",
            queries={"{{template}}": f"max by (template) (muster_queue_oldest_seconds{{{OF}}})"},
            thresholds=(600, 1800),
        ),
        Panel(
            title="Wait",
            says="From accepted, or due again, to assigned.",
            unit="s",
            queries={
                "p50 {{placement}}": quantile(0.5, "muster_request_queue_seconds", "placement"),
                "p95 {{placement}}": quantile(0.95, "muster_request_queue_seconds", "placement"),
            },
        ),
        Panel(
            title="Run time",
            says="Run time of attempts that succeeded.",
            unit="s",
            queries={
                f"p{100 * share:.0f}": quantile(share, "muster_attempt_run_seconds", matching=f'kind="succeeded", {OF}')
                for share in (0.5, 0.95)
            },
        ),
        Panel(
            title="Warm hit ratio",
            says="Share of successes that waited for no gang's start, by template.",
            unit="percentunit",
            queries={
                "{{template}}": rate("muster_request_starts_total", "template", f'start="warm", {OF}')
                + " / "
                + rate("muster_request_starts_total", "template")
            },
        ),
        Panel(
            title="Failures",
            says="Requests that failed or expired in the interval, by reason (docs/errors.md).",
            unit="short",
            queries={
                "{{reason}}": f"sum by (reason) (increase(muster_request_failures_total{{{OF}}}[$__rate_interval]))"
            },
            stacked=True,
        ),
        Panel(
            title="Retries",
            says="Attempts that are tried again in the interval, by whose fault and reason.",
            unit="short",
            queries={
                "{{fault}}: {{reason}}": "sum by (fault, reason) "
                f"(increase(muster_request_retries_total{{{OF}}}[$__rate_interval]))"
            },
            stacked=True,
        ),
        Panel(
            title="Paths",
            says="Accepted requests per second, by the path that placement chose.",
            unit="ops",
            queries={"{{placement}}": rate("muster_request_placements_total", "placement")},
        ),
    ],
    "Gangs": [
        Panel(
            title="Gangs",
            says="Gangs that are not gone, by state, and how many the pools may have.",
            unit="short",
            queries={
                "{{state}}": standing("muster_gangs", "state", "template, state"),
                "maximum": f"sum(max by (template) (muster_pool_max_gangs{{{OF}}}))",
                "minimum": f"sum(max by (template) (muster_pool_min_gangs{{{OF}}}))",
            },
        ),
        Panel(
            title="Start by phase",
            says="Mean seconds of each phase of the starts of gangs.",
            unit="s",
            queries={
                "{{phase}}": rate("muster_gang_start_seconds_sum", "phase", f'phase!~"total|launch", {OF}')
                + " / "
                + rate("muster_gang_start_seconds_count", "phase", f'phase!~"total|launch", {OF}')
            },
            stacked=True,
        ),
        Panel(
            title="Cold start",
            says="Whole starts of gangs, and how much of a cold request's wait was one.",
            unit="s",
            queries={
                "gang p95": quantile(0.95, "muster_gang_start_seconds", matching=f'phase="total", {OF}'),
                "request p95": quantile(0.95, "muster_request_cold_start_seconds"),
            },
        ),
        Panel(
            title="Ends",
            says="Gangs that ended, by reason. In order: drained, idle, replaced, recycled, stopped.",
            unit="short",
            queries={"{{reason}}": f"sum by (reason) (increase(muster_gang_ends_total{{{OF}}}[$__rate_interval]))"},
            stacked=True,
        ),
        Panel(
            title="Lost",
            says="Leases that ended because their gang was silent, and lives of gangs that broke, in the interval.",
            unit="short",
            queries={
                "leases": f"sum(increase(muster_lease_expiries_total{{{OF}}}[$__rate_interval]))",
                "breaks": f'sum(increase(muster_gang_moves_total{{move="break", {OF}}}[$__rate_interval]))',
            },
        ),
        Panel(
            title="GPU-seconds",
            says="GPU-seconds per second of attempts, by how they ended: as many GPUs worked on average.",
            unit="short",
            queries={"{{kind}}": rate("muster_gpu_seconds_total", "kind")},
            stacked=True,
        ),
        Panel(
            title="Dispatch",
            says="From the grant of a lease to the answer that carries it to its gang.",
            unit="s",
            queries={
                "p50": quantile(0.5, "muster_dispatch_seconds", matching=""),
                "p99": quantile(0.99, "muster_dispatch_seconds", matching=""),
            },
            thresholds=(0.25, 1),
        ),
        Panel(
            title="Pools held",
            says="1 while a pool starts no gang because starts failed.",
            unit="none",
            queries={"{{template}}": f"max by (template) (muster_pool_held{{{OF}}})"},
        ),
    ],
    "Batches, schedules, webhooks": [
        Panel(
            title="Open batches",
            says="Batches that are not over, by state; idle: items may start and none is on a gang.",
            unit="short",
            queries={
                "{{state}}": standing("muster_batches", "state", "template, state"),
                "idle": f"sum(max by (template) (muster_batches_idle{{{OF}}}))",
            },
        ),
        Panel(
            title="Batch moves",
            says="Moves of batches in the interval.",
            unit="short",
            queries={"{{move}}": f"sum by (move) (increase(muster_batch_moves_total{{{OF}}}[$__rate_interval]))"},
        ),
        Panel(
            title="Ticks of schedules",
            says="Ticks that ran or were skipped in the interval, with the reason.",
            unit="short",
            queries={"{{outcome}}": "sum by (outcome) (increase(muster_schedule_fires_total[$__rate_interval]))"},
        ),
        Panel(
            title="Webhook sends",
            says="Tries to send a message per second, by outcome.",
            unit="ops",
            queries={"{{outcome}}": "sum by (outcome) (rate(muster_webhook_sends_total[$__rate_interval]))"},
        ),
        Panel(
            title="Webhook messages that wait",
            says="Messages that are not sent yet.",
            unit="short",
            queries={"pending": "max(muster_webhook_deliveries_pending)"},
        ),
        Panel(
            title="Oldest webhook message",
            says="How long the oldest message has waited; a receiver that is away holds its own up for three days.",
            unit="s",
            queries={"oldest": "max(muster_webhook_oldest_delivery_seconds)"},
        ),
        Panel(
            title="Webhook messages given up",
            says="Messages in the interval that are not sent any more.",
            unit="short",
            queries={"given up": "sum(increase(muster_webhook_deliveries_given_up_total[$__rate_interval]))"},
        ),
    ],
    "Service": [
        Panel(
            title="Calls",
            says="Calls per second, by status.",
            unit="reqps",
            queries={"{{status}}": f"sum by (status) (rate({CALLS}[$__rate_interval]))"},
            stacked=True,
        ),
        Panel(
            title="Slowest routes",
            says="p95 of calls by route; polls and waits are parked on purpose and left out.",
            unit="s",
            queries={
                "{{method}} {{route}}": "topk(8, "
                + quantile(
                    0.95, "muster_http_request_duration_seconds", "method, route", 'route!~".*(work|events|logs)"'
                )
                + ")"
            },
        ),
        Panel(
            title="Errors",
            says="Calls per second that were answered 5xx or 429, by route.",
            unit="reqps",
            queries={
                "{{status}} {{route}}": f'sum by (status, route) (rate({CALLS}{{status=~"5..|429"}}[$__rate_interval]))'
            },
        ),
        Panel(
            title="Loops: since the last good pass",
            says="Seconds since any replica last did the duty well.",
            unit="s",
            queries={
                "{{duty}}": 'time() - max by (duty) (muster_loop_last_good_round_timestamp_seconds{duty!="upkeep"})'
            },
            thresholds=(60, 120),
        ),
        Panel(
            title="Loops: passes that failed",
            says="Passes per second that failed, by duty.",
            unit="ops",
            queries={
                "{{duty}}": 'sum by (duty) (rate(muster_loop_round_seconds_count{outcome="failed"}[$__rate_interval]))'
            },
        ),
        Panel(
            title="Loops: time of a pass",
            says="p95 of the passes, by duty.",
            unit="s",
            queries={"{{duty}}": quantile(0.95, "muster_loop_round_seconds", "duty", "")},
        ),
        Panel(
            title="Database connections",
            says="Share of each replica's connections that are in use.",
            unit="percentunit",
            queries={"{{instance}}": "muster_database_connections_in_use / muster_database_connections_max"},
            thresholds=(0.8, 1),
        ),
        Panel(
            title="Database pool timeouts",
            says="Times in the interval that no connection became free in time: 503, or a pass that failed.",
            unit="short",
            queries={"{{instance}}": "increase(muster_database_pool_timeouts_total[$__rate_interval])"},
        ),
        Panel(
            title="Parked polls",
            says="Polls that wait at a replica: of gangs for work, of clients for requests.",
            unit="short",
            queries={"{{kind}}": "sum by (kind) (muster_parked_polls)"},
        ),
        Panel(
            title="Room for outputs",
            says="Free share of the file system of outputs; empty where outputs lie in a bucket.",
            unit="percentunit",
            queries={"{{instance}}": "muster_storage_free_bytes / muster_storage_size_bytes"},
        ),
        Panel(
            title="Uploads",
            says="Bytes of complete uploads per second.",
            unit="Bps",
            queries={"uploads": "sum(rate(muster_uploaded_bytes_total[$__rate_interval]))"},
        ),
        Panel(
            title="Memory",
            says="Resident memory of each replica.",
            unit="bytes",
            queries={"{{instance}}": "process_resident_memory_bytes and on (instance, job) muster_build_info"},
        ),
        Panel(
            title="CPU",
            says="Cores that each replica uses.",
            unit="short",
            queries={
                "{{instance}}": "rate(process_cpu_seconds_total[$__rate_interval])"
                " and on (instance, job) muster_build_info"
            },
        ),
    ],
}
