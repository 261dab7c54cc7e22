"""The words that a log line of the service begins with (`action`), besides the names of moves: what people search for,
count and alert on. A word is only ever added; its meaning stays.

docs/logs.md is written from this table:  python -m orchestrator.domain.logs_page > docs/logs.md
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Action:
    """`fields`: what the line has besides `at`, `level`, `logger`, `message` and `action`."""

    level: str
    meaning: str
    fields: tuple[str, ...] = ()


def _action(level: str, fields: str, meaning: str) -> Action:
    return Action(level=level, fields=tuple(fields.split()), meaning=meaning)


ACTIONS: dict[str, Action] = {
    "up": _action("info", "url", "`muster up` answers here"),
    "serve": _action("info", "url", "`muster serve` answers here"),
    "metrics": _action("info", "port", "metrics have a port of their own"),
    "gateway": _action("info", "port", "users of Kubeflow's gateway have a port of their own"),
    "change_asked": _action(
        "info",
        "who tenant method path status",
        "somebody asked for a change that is no submit: a token's ID or a user of the gateway, and what was answered",
    ),
    "stop": _action("info", "", "the replica was told to end"),
    "round": _action("info", "duty", "a loop did something that is no move; a field for each verb says what, by ID"),
    "round_failed": _action("warning", "duty", "a pass of a loop failed; the next one tries again"),
    "defect": _action("error", "duty method path", "a defect of Muster, with its traceback: report it"),
    "launch_refused": _action("warning", "gang", "the backend did not take a gang; tried again unless it says never"),
    "stop_refused": _action("warning", "gang", "the backend did not end a gang; tried again"),
    "backend_failed": _action(
        "warning", "place", "when it started a place could not say whether gangs can be launched"
    ),
    "place_refused": _action("warning", "place", "a namespace of gangs does not answer; the others go on without it"),
    "place_back": _action("info", "place", "a namespace of gangs answers again"),
    "place_opened": _action("info", "", "rows name a namespace of earlier settings: what is there is looked after"),
    "place_failed": _action("warning", "place", "gangs of one namespace could not be compared with their rows"),
    "rehearse_failed": _action("warning", "template", "the backend could not say whether it would take a template"),
    "review_failed": _action("warning", "", "Kubernetes could not say what users of the gateway may do: they get 503"),
    "watch_failed": _action("warning", "path", "the watch of Kubernetes objects broke; it begins anew"),
    "watch_reset": _action("warning", "path", "Kubernetes went back in time (a restored backup): all is listed anew"),
    "logs_refused": _action("warning", "job", "Kubernetes gave no log of a pod that failed: the cause stays unknown"),
    "tell_refused": _action("info", "job", "an Event or an annotation about a gang was not taken; told again later"),
    "recounted": _action("warning", "batch", "the tally of a batch was off and is counted anew"),
    "unread": _action("warning", "batch", "the lines of a batch could not be read; tried again"),
    "schedule_broken": _action("warning", "schedule", "a schedule cannot be looked at; the others go on"),
    "delivery_unrecorded": _action("warning", "webhook", "what became of a message was not recorded: it is sent again"),
    "file_stays": _action("warning", "", "the storage did not delete a file; tried again"),
    "checkpoints_stay": _action("warning", "", "the storage did not delete checkpoints; tried again"),
    "purged_files_stay": _action("warning", "", "the storage did not delete files of a purged request; tried again"),
    "scrape_failed": _action("warning", "", "a scrape has no figures of the installation: the database did not answer"),
    "no_traces": _action("warning", "", "an OTLP endpoint is named, and opentelemetry is not installed"),
    "traces_dropped": _action("warning", "", "requests that ended have no trace"),
    "postgres_ended": _action("error", "", "the embedded Postgres ended by itself; it is started again"),
    "postgres_leftover": _action("warning", "", "an earlier embedded Postgres was still there, or its pid file was"),
    "postgres_slow": _action("info", "", "the embedded Postgres takes long to start"),
    "library": _action("warning", "", "a library that Muster uses says something; its name is the `logger`"),
}
