"""When a schedule fires and what it runs, as options: `create` says all of it, `edit` what is to be different.

It must not know what the service makes of them: ranges and rules are the service's to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.orders import Given, gathered, labels_of
from orchestrator.cli.session import Command, Duration, Session

if TYPE_CHECKING:
    from orchestrator.client import Client


@dataclass(frozen=True, kw_only=True)
class When:
    """The rule's companions. None: nothing was said of it."""

    timezone: str | None
    injected: Sequence[str]
    overlap: str | None
    misfire: str | None
    max_queued: int | None
    max_catch_up: int | None
    grace: timedelta | None
    jitter: timedelta | None
    start_at: str | None
    end_at: str | None

    def told(self) -> dict[str, Any]:
        """As the service takes them; only what was said."""
        said = {
            "timezone": self.timezone,
            "inject": dict(_pair(one) for one in self.injected) or None,
            "overlap": self.overlap,
            "misfire": self.misfire,
            "max_queued": self.max_queued,
            "max_catch_up": self.max_catch_up,
            "grace_s": _seconds(self.grace),
            "jitter_s": _seconds(self.jitter),
            "start_at": self.start_at,
            "end_at": self.end_at,
        }
        return {field: value for field, value in said.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What each tick runs, beside its input."""

    batch: str | None
    mode: str | None
    priority: int | None
    labels: Sequence[str]

    def runs(self, session: Session, client: Client, template: str, given: Given) -> dict[str, Any]:
        """A request of the template, or a batch of it."""
        if self.batch is None:
            values = given.gather(session, client, template)
            return {"request": {"template": template, **self._terms(), "input": values}}
        self._refuse_input(given)
        return {"batch": {"template": template, **self._terms(), _place(self.batch): self.batch}}

    def over(self, session: Session, client: Client, runs: Mapping[str, Any], given: Given) -> dict[str, Any] | None:
        """What a schedule runs, with what is said here put over it; None if nothing is said."""
        terms = self._terms()
        if given == Given() and self.batch is None and not terms:
            return None
        ((kind, before),) = runs.items()
        if before.get("webhook"):
            raise click.UsageError("its runs have a webhook, whose URL is not shown: change them with PATCH")
        labels = {**before.get("labels", {}), **terms.pop("labels", {})}
        order = {**before, **terms, **({"labels": labels} if labels else {})}
        if kind == "request":
            if self.batch is not None:
                raise click.UsageError("it runs requests: make another schedule for a batch")
            values = given.gather(session, client, str(before["template"]))
            whole = given.input_file is not None or given.stdin
            order["input"] = values if whole else {**before.get("input", {}), **values}
        else:
            self._refuse_input(given)
            if self.batch is not None:
                order = {name: value for name, value in order.items() if name not in ("url", "file")}
                order[_place(self.batch)] = self.batch
        return {kind: order}

    def _terms(self) -> dict[str, Any]:
        said = {"mode": self.mode, "priority": self.priority, "labels": labels_of(self.labels) or None}
        return {field: value for field, value in said.items() if value is not None}

    def _refuse_input(self, given: Given) -> None:
        if given != Given() or self.mode is not None:
            raise click.UsageError("a batch's lines are the inputs: -i, --input-file, --stdin and --mode do not fit")


def _place(batch: str) -> str:
    if batch.startswith("fil_"):
        return "file"
    if "://" not in batch:
        raise click.UsageError(
            f"--batch {batch!r}: the service reads the lines at each tick, not this machine: give a URL below"
            " MUSTER_BATCH_URLS, as s3://bucket/nightly.jsonl (docs/storage.md), or an upload (fil_...)"
        )
    return "url"


def _pair(said: str) -> tuple[str, str]:
    pointer, equals, word = said.rpartition("=")
    if not equals or not pointer:
        raise click.UsageError(f"--inject {said!r}: write POINTER=WORD, as /input/day=scheduled_date")
    return pointer, word


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration.total_seconds())


RESETS = {
    "tz": "timezone",
    "inject": "inject",
    "overlap": "overlap",
    "misfire": "misfire",
    "max-queued": "max_queued",
    "max-catch-up": "max_catch_up",
    "grace": "grace_s",
    "jitter": "jitter_s",
    "start": "start_at",
    "end": "end_at",
}
"""What `--reset` takes, as the service calls it."""


def takes_when(command: Command) -> Command:
    """The options of `When`; the command gets them as `when`."""
    return gathered("when", When, _WHEN)(command)


def takes_order(command: Command) -> Command:
    """The options of `Order`; the command gets them as `order`."""
    return gathered("order", Order, _ORDER)(command)


_WHEN = (
    click.option("--tz", "timezone", metavar="ZONE", help="IANA name, as Europe/Berlin; default: UTC."),
    click.option(
        "--inject", "injected", multiple=True, metavar="POINTER=WORD", help="A value of the tick, as it runs."
    ),
    click.option(
        "--overlap",
        type=click.Choice(["skip", "queue", "allow", "replace"]),
        help="While a run is open; default: skip.",
    ),
    click.option(
        "--misfire", type=click.Choice(["run_once", "skip", "catch_up"]), help="After an outage; default: run_once."
    ),
    click.option("--max-queued", type=click.IntRange(1, 100), help="With --overlap queue; default: 10."),
    click.option("--max-catch-up", type=click.IntRange(1, 100), help="With --misfire catch_up; default: 10."),
    click.option("--grace", type=Duration(), help="How late a tick may run; default: 1h."),
    click.option("--jitter", type=Duration(), help="Each tick runs up to so much later."),
    click.option("--start", "start_at", metavar="MOMENT", help="No tick before (RFC 3339 with a zone)."),
    click.option("--end", "end_at", metavar="MOMENT", help="No tick after."),
)
_ORDER = (
    click.option("--batch", metavar="SOURCE", help="A batch: its lines, by URL or as an upload (fil_...)."),
    click.option("--mode", type=click.Choice(["auto", "warm", "batch"]), help="Of the request; default: auto."),
    click.option("--priority", type=int, help="Higher goes first."),
    click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A mark of each run."),
)
