"""The form of a schedule: its rule, what it runs and its policy, as typed, and what of them is wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api.body import as_model
from orchestrator.api.schedule_shapes import ScheduleChange, ScheduleDraft
from orchestrator.domain.durations import duration, parse_duration
from orchestrator.domain.schedules import Policy
from orchestrator.errors import Invalid
from orchestrator.web.filling import order_form
from orchestrator.web.filling.form_values import Typed

OVERLAP: Mapping[str, str] = {
    "skip": "The tick is skipped, and says so.",
    "queue": "The tick waits for its turn; how many may wait is bounded.",
    "allow": "Both run.",
    "replace": "The earlier run is canceled.",
}
"""What becomes of a tick while an earlier run is not over."""
MISFIRE: Mapping[str, str] = {
    "run_once": "The newest of them runs, unless a tick in time is due as well.",
    "skip": "None of them runs.",
    "catch_up": "The newest of them run, in their order; how many is bounded.",
}
"""What becomes of ticks that come later than their grace, after an outage."""
TEXTS = ("cron", "timezone", "overlap", "misfire", "start_at", "end_at")
NUMBERS = ("max_queued", "max_catch_up")
DURATIONS = ("grace_s", "jitter_s")
FIRST: Mapping[str, list[str]] = {
    "cron": ["0 2 * * *"],
    "timezone": ["UTC"],
    "kind": ["request"],
    "overlap": ["skip"],
    "misfire": ["run_once"],
}
"""What a new form shows."""
_OWN = {
    "request": ("template", "input", *order_form.TERMS),
    "batch": ("template", "file", "url", "priority", "labels"),
}
"""What of an order stands in the form; whatever else it says stays as it is."""
_FIELDS = ("name", "template", "source", "inject", *TEXTS, *NUMBERS, *DURATIONS, *order_form.TERMS)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What was typed, read."""

    typed: Typed
    order: order_form.Draft | None
    """Of a request whose template is there."""
    said: Mapping[str, Any]
    """As the API takes it, as far as it can be read."""
    wrong: dict[str, str]
    """By the name of the field; under no name: of none."""

    def mark(self, error: Invalid) -> None:
        """Put what somebody refused beside its field."""
        pointer = error.pointer or ""
        if pointer.startswith("/runs/request") and self.order is not None:
            inner = pointer.removeprefix("/runs/request")
            message = error.message.replace(pointer, inner, 1)
            self.order.mark(Invalid(message, code=error.code, pointer=inner))
            self.wrong.update(self.order.wrong)
            return
        last = pointer.rpartition("/")[2] if pointer.startswith("/runs") else pointer.split("/")[1] if pointer else ""
        name = {"url": "source", "file": "source", "batch": "source"}.get(last, last)
        known = name in _FIELDS
        self.wrong.setdefault(
            name if known else "", error.message.removeprefix(f"{pointer}: ") if known else error.message
        )

    @property
    def made(self) -> ScheduleDraft:
        """Raises Invalid."""
        return as_model(ScheduleDraft, self.said)

    def change(self, old: Mapping[str, Any]) -> ScheduleChange:
        """What is different: `old` are the runs as they are stored. Raises Invalid."""
        policy = {name: self.said.get(name) for name in (*TEXTS, *NUMBERS, *DURATIONS, "inject")}
        return as_model(ScheduleChange, {**policy, "runs": _kept(old, self.said["runs"])})


def _kept(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What is run from now on, with what of the old order stands in no field."""
    ((kind, order),) = new.items()
    beside = {name: value for name, value in old.get(kind, {}).items() if name not in _OWN[kind]}
    return {kind: {**beside, **order}}


def one(typed: Typed, name: str) -> str:
    """The text of a field, without the blanks around it."""
    return next(iter(typed.get(name, ())), "").strip()


def planned(typed: Typed, order: order_form.Draft | None) -> Planned:
    """Read what stands in the fields; `order` is the request, read by its own form."""
    wrong = dict(order.wrong) if order is not None else {}
    policy = {**_policy(typed, wrong), "inject": _inject(typed, wrong)}
    runs = {"batch": _batch(typed, wrong)} if one(typed, "kind") == "batch" else {"request": _request(typed, order)}
    said = {"name": one(typed, "name"), **policy, "runs": runs, "paused": bool(typed.get("paused"))}
    if not one(typed, "template"):
        wrong["template"] = "Choose what is to run."
    return Planned(typed=typed, order=order, said=said, wrong=wrong)


def _policy(typed: Typed, wrong: dict[str, str]) -> dict[str, Any]:
    """What was said of the rule and its policy."""
    found: dict[str, Any] = {name: text for name in TEXTS if (text := one(typed, name))}
    for name in (*NUMBERS, *DURATIONS):
        if text := one(typed, name):
            try:
                found[name] = int(text) if name in NUMBERS else _seconds(text)
            except ValueError as error:
                wrong[name] = "write a whole number" if name in NUMBERS else str(error)
    return found


def _seconds(text: str) -> int:
    return round(parse_duration(f"{text}s" if text.isdigit() else text).total_seconds())


def _inject(typed: Typed, wrong: dict[str, str]) -> dict[str, str]:
    found = {}
    for line in filter(None, map(str.strip, one(typed, "inject").split("\n"))):
        pointer, equals, word = line.rpartition("=")
        if not equals:
            wrong["inject"] = f"{line[:60]!r}: write /input/NAME=WORD, one in each line"
        found[pointer.strip()] = word.strip()
    return found


def _request(typed: Typed, order: order_form.Draft | None) -> dict[str, Any]:
    if order is None:
        return {"template": one(typed, "template"), "input": {}}
    return {name: value for name, value in order.said.items() if (name, value) != ("mode", "auto")}


def _batch(typed: Typed, wrong: dict[str, str]) -> dict[str, Any]:
    source = one(typed, "source")
    if not source:
        wrong["source"] = "Say where its lines are."
    said: dict[str, Any] = {"template": one(typed, "template"), "file" if source.startswith("fil_") else "url": source}
    try:
        if text := one(typed, "priority"):
            said["priority"] = int(text)
        if text := one(typed, "labels"):
            said["labels"] = order_form.labels(text)
    except ValueError as error:
        wrong["priority" if "int()" in str(error) else "labels"] = str(error)
    return said


# ------------------------------------------------------------------------------------------------- from a schedule


def typed_of(name: str, said: Mapping[str, Any], runs: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the fields show of a schedule, but for its request's input."""
    ((kind, order),) = runs.items()
    policy = Policy.model_validate(said)
    found = {
        "name": name,
        "kind": kind,
        "template": order["template"],
        "source": order.get("file") or order.get("url") or "",
        **{field: getattr(policy, field) or "" for field in TEXTS},
        **{field: str(getattr(policy, field)) for field in NUMBERS},
        **{field: _short(getattr(policy, field)) for field in DURATIONS},
        "inject": "\n".join(f"{pointer}={word}" for pointer, word in policy.inject.items()),
        **{field: _short(order[field]) for field in ("timeout_s", "expire_queued_after_s") if order.get(field)},
    }
    terms = order_form.typed_terms(
        mode=order.get("mode", "auto") if kind == "request" else "",
        priority=order.get("priority", 0),
        labels=order.get("labels", {}),
        max_attempts=order.get("max_attempts"),
    )
    return {**{field: [text] for field, text in found.items() if text}, **terms}


def _short(seconds: float) -> str:
    """As `parse_duration` reads it, and exact."""
    shown = duration(seconds).replace(" ", "")
    try:
        return shown if seconds and parse_duration(shown).total_seconds() == seconds else f"{seconds:g}"
    except ValueError:
        return f"{seconds:g}"
