"""The lines of a batch: from bytes as they come to items, or to why a line is none. In constant memory: what was looked
at goes to a file, and from there to the database in one transaction, so that nothing runs before all lines are known.

A line is `{"custom_id": …, "input": {…}}`; docs/batch.md. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import Field, ValidationError

from orchestrator.api.body import parse
from orchestrator.api.input_schema import Form
from orchestrator.api.submission import LabelKey, LabelValue
from orchestrator.domain.ids import new_id
from orchestrator.domain.strict import Sent
from orchestrator.domain.template import Template
from orchestrator.errors import Invalid
from orchestrator.store.batches import Refusal

MOST_ITEMS = 100_000
LINE_BYTES = 1 << 20
MANIFEST_BYTES = 256 << 20
LISTED = 20
"""Lines that a refusal names."""
ROWS = 1000
ROWS_BYTES = 4 << 20
"""What goes to the database in one statement."""
DEFAULTS = "$defaults"
REFUSED = "refused"
"""The `status` of a line of errors.jsonl whose input was not kept: with none it would pass for one that is empty."""
OURS = ("line", "request", "status", "error")
"""What errors.jsonl says beside the item: left alone, so that it can be sent again."""

Find = Callable[[Mapping[str, Any]], dict[str, dict[str, Any]]]
"""From an input to the files that it names. Raises Invalid."""


class Line(Sent):
    """One item as it is sent."""

    custom_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@+=-]{0,127}$")] | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    priority: int = Field(default=0, ge=-1000, le=1000)
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)
    timeout_s: float | None = Field(default=None, gt=0, le=31 * 86400)
    max_attempts: int | None = Field(default=None, ge=1, le=100)


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A line that is not blank. Lines count from 1, blank ones too."""

    number: int
    raw: bytes


class Splitter:
    """Lines end at LF alone; a CR before it goes with it."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._number = 0
        self._bytes = 0

    def feed(self, part: bytes) -> list[Numbered]:
        """The lines that end in it. Raises Invalid `too_large`."""
        self._bytes += len(part)
        if self._bytes > MANIFEST_BYTES:
            raise Invalid(f"the lines are larger than {MANIFEST_BYTES} bytes together", code="too_large")
        first, *more = part.split(b"\n")
        self._rest += first
        if not more:
            self._check(len(self._rest))
            return []
        whole = [bytes(self._rest), *more[:-1]]
        self._rest = bytearray(more[-1])
        return [line for raw in whole if (line := self._line(raw))]

    def last(self) -> list[Numbered]:
        """What comes after the last LF."""
        raw, self._rest = bytes(self._rest), bytearray()
        return [line] if (line := self._line(raw)) else []

    def _line(self, raw: bytes) -> Numbered | None:
        self._number += 1
        self._check(len(raw))
        raw = raw.removesuffix(b"\r")
        return Numbered(number=self._number, raw=raw) if raw.strip(b" \t\r") else None

    def _check(self, size: int) -> None:
        if size > LINE_BYTES + 1:
            raise Invalid(f"line {self._number + 1} is longer than {LINE_BYTES} bytes", code="too_large")


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
            raise Invalid(f"{pointer}: {why or first['msg']}", pointer=pointer) from None

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
            if len(self._files) >= ROWS:
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
        raise Invalid(f"line {number} is no JSON object", code="bad_json")
    return said


def _defaults(said: Any) -> dict[str, Any]:
    try:
        return Line.model_validate(said).model_dump(exclude_unset=True, exclude={"custom_id"})
    except ValidationError as error:
        first = error.errors()[0]
        pointer = f"/{DEFAULTS}" + "".join(f"/{part}" for part in first["loc"])
        raise Invalid(f"{pointer}: {first['msg']}", pointer=pointer) from None


def _name_of(said: Any) -> str | None:
    name = said.get("custom_id") if isinstance(said, dict) else None
    return name[:128] if isinstance(name, str) else None


class Manifest(AbstractContextManager["Manifest"]):
    """All lines that came, looked at. A file without a name holds them until they are stored."""

    def __init__(self, checker: Checker, folder: Path, *, strict: bool) -> None:
        self._checker = checker
        self._strict = strict
        self._items: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._refusals: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - likewise
        self._first: list[Refusal] = []
        self._digest = hashlib.sha256()
        self.items = 0
        self.refused = 0

    def __exit__(self, *_: object) -> None:
        self._items.close()
        self._refusals.close()

    def take(self, lines: Iterable[Numbered]) -> None:
        """Raises Invalid `too_many_items`; in a strict manifest also once that many lines are no items."""
        for line in lines:
            self._digest.update(line.raw + b"\n")
            match self._checker.check(line):
                case Refusal() as refusal:
                    self._refuse(refusal)
                case dict() as row:
                    self._keep(row)
                case None:
                    pass

    def _keep(self, row: dict[str, Any]) -> None:
        self.items += 1
        if self.items + self.refused > MOST_ITEMS:
            raise Invalid(f"a batch has at most {MOST_ITEMS} items: send several", code="too_many_items")
        self._items.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def _refuse(self, refusal: Refusal) -> None:
        self.refused += 1
        if len(self._first) < LISTED:
            self._first.append(refusal)
        if self._strict and self.refused >= LISTED:
            raise self._wrong()
        if self.items + self.refused > MOST_ITEMS:
            raise Invalid(f"a batch has at most {MOST_ITEMS} items: send several", code="too_many_items")
        self._refusals.write(json.dumps(vars(refusal)).encode() + b"\n")

    def close(self) -> bytes:
        """After the last line: the digest of all. Raises Invalid, `empty_batch` or with what is `listed`."""
        if self.refused and (self._strict or not self.items):
            raise self._wrong()
        if not self.items:
            raise Invalid("there is no line in it", code="empty_batch")
        return self._digest.digest()

    def _wrong(self) -> Invalid:
        first = self._first[0]
        listed = [
            {
                "pointer": f"/lines/{one.line}{one.pointer or ''}",
                "code": one.code,
                "message": one.message.removeprefix(f"{one.pointer}: "),
            }
            for one in self._first
        ]
        where = "" if first.message.startswith("line ") else f"line {first.line}: "
        more = f" (and {self.refused - 1} more)" if self.refused > 1 else ""
        error = Invalid(f"{where}{first.message}{more}; nothing was stored", code=first.code)
        error.listed = listed
        return error

    @property
    def refusals(self) -> Sequence[Refusal]:
        """The first of them."""
        return self._first

    def rows(self) -> Iterator[str]:
        """The items as JSON lists, each for one statement; from the beginning at every call."""
        for block in _blocks(self._items):
            yield f"[{b','.join(block).decode()}]"

    def all_refusals(self) -> Iterator[list[Refusal]]:
        """Likewise."""
        for block in _blocks(self._refusals):
            yield [Refusal(**json.loads(line)) for line in block]


def _blocks(file: IO[bytes]) -> Iterator[list[bytes]]:
    file.seek(0)
    block: list[bytes] = []
    size = 0
    for line in file:
        block.append(line.rstrip(b"\n"))
        size += len(line)
        if len(block) >= ROWS or size >= ROWS_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
