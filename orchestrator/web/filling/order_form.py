"""The form of one request: its input and its terms, as they were typed, and what of them is wrong. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api.body import MAX_BODY, as_model
from orchestrator.api.input_schema import Form
from orchestrator.api.submission import Submission
from orchestrator.domain.durations import parse_duration
from orchestrator.domain.placement import Mode
from orchestrator.errors import Invalid
from orchestrator.web.filling import form_values, misfits
from orchestrator.web.filling.form_values import Typed
from orchestrator.web.filling.schema_fields import PREFIX, Layout, layout

TERMS = ("mode", "priority", "labels", "expire_queued_after_s", "timeout_s", "max_attempts")
"""Names of the fields beside the input; each is that of the API."""
MODES: Mapping[Mode, str] = {
    Mode.AUTO: "Whatever is sooner: a warm gang, or a fresh one.",
    Mode.WARM: "Only a gang that is kept alive; it waits until one is free.",
    Mode.BATCH: "A fresh gang of its own, which ends with it. Nobody is kept waiting by it.",
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What was typed, read."""

    layout: Layout
    typed: Typed
    said: Mapping[str, Any]
    """The request as the API takes it, as far as it can be read."""
    wrong: dict[str, str]
    """By the name of the field; under no name: of none."""

    @property
    def body(self) -> Submission:
        """Raises Invalid."""
        return as_model(Submission, self.said)

    def mark(self, error: Invalid) -> None:
        """Put what somebody else refused beside its field."""
        pointer, said = error.pointer or "", error.message.removeprefix(f"{error.pointer}: ")
        if pointer.startswith("/input"):
            name, said = misfits.beside(self.layout, pointer.removeprefix("/input"), said)
        else:
            name = pointer.split("/")[1] if pointer else ""
        said = _sentence(said)
        known = name in TERMS or name.startswith(PREFIX)
        self.wrong.setdefault(name if known else "", said if known else error.message)


def _sentence(said: str) -> str:
    """Of a field: what a checker says of "input" in general."""
    rest = said.removeprefix("Input should be ")
    return rest if rest == said else f"This must be {rest}."


def draft(template: str, schema: Mapping[str, Any], form: Form, typed: Typed) -> Draft:
    """Read what stands in the fields, and hold it to the schema. Takes up to a second for a hostile schema."""
    shape = layout(schema, as_json=typed)
    reading = form_values.read(shape, typed)
    wrong = dict(reading.wrong)
    for misfit in form.misfits(reading.values):
        name, said = misfits.beside(shape, misfit.pointer, misfits.sentence(misfit))
        wrong.setdefault(name, said)
    terms = _terms(typed, wrong)
    made = Draft(layout=shape, typed=typed, said={"template": template, "input": reading.values, **terms}, wrong=wrong)
    _check(made)
    return made


def _check(made: Draft) -> None:
    if len(json.dumps(made.said)) > MAX_BODY:
        made.wrong[""] = f"A request is at most {MAX_BODY >> 20} MiB; send what is larger as a file."
    try:
        _ = made.body
    except Invalid as error:
        made.mark(error)


def _terms(typed: Typed, wrong: dict[str, str]) -> dict[str, Any]:
    """Those that were said."""
    found: dict[str, Any] = {}
    for name in TERMS:
        text = next(iter(typed.get(name, ())), "").strip()
        if not text:
            continue
        try:
            found[name] = _term(name, text)
        except ValueError as error:
            wrong[name] = str(error)
    return found


def _term(name: str, text: str) -> Any:
    """Raises ValueError."""
    match name:
        case "mode":
            return text
        case "labels":
            return labels(text)
        case "expire_queued_after_s" | "timeout_s":
            return parse_duration(f"{text}s" if text.replace(".", "", 1).isdigit() else text).total_seconds()
    try:
        return int(text)
    except ValueError:
        raise ValueError("write a whole number") from None


def labels(text: str) -> dict[str, str]:
    """`key=value`, one in each line. Raises ValueError."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{line[:60]!r}: write key=value, one in each line")
        found[key.strip()] = value.strip()
    return found


def typed_terms(
    *, mode: str, priority: int, labels: Mapping[str, str], max_attempts: int | None = None
) -> dict[str, list[str]]:
    """What to show in the fields for these; what is as always is left empty."""
    found = {"mode": mode, "priority": str(priority or ""), "max_attempts": str(max_attempts or "")}
    found["labels"] = "\n".join(f"{key}={value}" for key, value in labels.items())
    return {name: [text] for name, text in found.items() if text}
