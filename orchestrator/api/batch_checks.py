"""A line of a batch, `{"custom_id": …, "input": {…}}`, held to its template: it is an item, or why it is none.

docs/batch.md. Knows no HTTP, and nothing of where the items go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from orchestrator.api.batch_lines import Numbered
from orchestrator.api.body import parse
from orchestrator.api.input_schema import Form
from orchestrator.api.submission import LabelKey, LabelValue
from orchestrator.domain.ids import new_id
from orchestrator.domain.strict import Sent
from orchestrator.domain.template import Template
from orchestrator.domain.wording import spelt, told
from orchestrator.errors import Invalid
from orchestrator.store.batches import Refusal

DEFAULTS = "$defaults"
NAME = spelt(
    r"^[A-Za-z0-9_][A-Za-z0-9_.:@+=-]{0,127}$", "1 to 128 letters, digits and _ . : @ + = -, a letter, digit or _ first"
)
REFUSED = "refused"
"""The `status` of a line of errors.jsonl whose input was not kept: with none it would pass for one that is empty."""
OURS = ("line", "request", "status", "error")
"""What errors.jsonl says beside the item: left alone, so that it can be sent again."""

Find = Callable[[Mapping[str, Any]], dict[str, dict[str, Any]]]
"""From an input to the files that it names. Raises Invalid."""
FOUND = 1000
"""Sets of files that were looked up and are remembered."""


class Line(Sent):
    """One item as it is sent."""

    custom_id: Annotated[str, Field(pattern=NAME)] | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    priority: int = Field(default=0, ge=-1000, le=1000)
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)
    timeout_s: float | None = Field(default=None, gt=0, le=31 * 86400)
    max_attempts: int | None = Field(default=None, ge=1, le=100)


class Checker:
    """Holds lines to the template, one after the other."""

    def __init__(self, template: Template, form: Form, find: Find | None = None) -> None:
        self._template = template
        self._form = form
        self._find = find
        self._defaults: dict[str, Any] = {}
        self._begun = False
        self._seen: dict[bytes, int] = {}
        self._files: dict[str, dict[str, dict[str, Any]]] = {}

    def check(self, line: Numbered) -> dict[str, Any] | Refusal | None:
        """The row of an item, why it is none, or nothing for the line of defaults."""
        said: Any = None
        try:
            said = _object(parse(line.raw, f"line {line.number}"), line.number)
            first, self._begun = not self._begun, True
            if first and set(said) == {DEFAULTS}:
                self._defaults = _defaults(said[DEFAULTS])
                return None
            return self._row(line.number, self._read(said))
        except Invalid as error:
            self._begun = True
            return Refusal(
                line=line.number,
                code=error.code,
                message=error.message[:2000],
                custom_id=_name_of(said),
                pointer=error.pointer,
            )

    def _read(self, said: dict[str, Any]) -> Line:
        if said.get("status") == REFUSED:
            raise Invalid(f"/status: {_REFUSED_BEFORE}", pointer="/status")
        merged = {**self._defaults, **{key: value for key, value in said.items() if key not in OURS}}
        for key in ("input", "labels"):
            if isinstance(said.get(key), dict) and key in self._defaults:
                merged[key] = {**self._defaults[key], **said[key]}
        try:
            return Line.model_validate(merged)
        except ValidationError as error:
            first = error.errors()[0]
            pointer = "".join(f"/{part}" for part in first["loc"])
            why = _ELSEWHERE.get(str(first["loc"][0]), first["msg"]) if first["type"] == "extra_forbidden" else None
            raise Invalid(f"{pointer}: {why or told(first, Line)}", pointer=pointer) from None

    def _row(self, number: int, line: Line) -> dict[str, Any]:
        name = line.custom_id or f"line-{number}"
        values = self._form.fit(line.input)
        files = self._named(values)
        key = hashlib.blake2b(name.encode(), digest_size=16).digest()
        if (before := self._seen.setdefault(key, number)) != number:
            raise Invalid(
                f"/custom_id: {name!r} stands in line {before} already",
                code="duplicate_custom_id",
                pointer="/custom_id",
            )
        template = self._template
        return {
            "id": new_id("req"),
            "line": number,
            "custom_id": name,
            "priority": line.priority,
            "input": values,
            "labels": line.labels,
            "files": files or None,
            "timeout_s": min(line.timeout_s or template.limits.timeout_s, template.limits.timeout_s),
            "max_attempts": min(line.max_attempts or template.retry.max_attempts, template.retry.max_attempts),
        }

    def _named(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        named = {name: values[name] for name in self._form.files if values.get(name) is not None}
        if not named or self._find is None:
            return {}
        key = json.dumps(named, sort_keys=True)
        if key not in self._files:
            if len(self._files) >= FOUND:
                self._files.clear()
            self._files[key] = self._find(values)
        return self._files[key]


_REFUSED_BEFORE = "it was refused before, and what it said is not here: send the line itself, put right"
_ELSEWHERE = {
    name: f"{name} is said of the batch, not of an item"
    for name in ("template", "mode", "expire_after_s", "expire_queued_after_s", "max_parallel", "max_failed")
} | {
    "tenant": "an item belongs to the tenant of the token",
    "items": "an item is no batch",
    "batch": "an item is no batch",
    DEFAULTS: "stands in the first line, alone",
}


def _object(said: Any, number: int) -> dict[str, Any]:
    if not isinstance(said, dict):
        why = ": write one object per line, no list around them" if isinstance(said, list) else ""
        raise Invalid(f"line {number} is no JSON object{why}", code="bad_json")
    return said


def _defaults(said: Any) -> dict[str, Any]:
    try:
        return Line.model_validate(said).model_dump(exclude_unset=True, exclude={"custom_id"})
    except ValidationError as error:
        first = error.errors()[0]
        pointer = f"/{DEFAULTS}" + "".join(f"/{part}" for part in first["loc"])
        raise Invalid(f"{pointer}: {told(first, Line)}", pointer=pointer) from None


def _name_of(said: Any) -> str | None:
    name = said.get("custom_id") if isinstance(said, dict) else None
    return name[:128] if isinstance(name, str) else None
