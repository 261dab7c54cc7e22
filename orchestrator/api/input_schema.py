"""Input schemas: JSON Schema 2020-12, complete in themselves. A reference that leads elsewhere is never followed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio.to_thread
import jsonschema
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from orchestrator.api.bounded_schema import MOST_STEPS, BoundedValidator, OutOfSteps, budget, matches
from orchestrator.api.plain_schema import plain
from orchestrator.domain.wording import nearest
from orchestrator.errors import Invalid

_IN_PROPERTIES = re.compile(r"/input/properties/[^/]+")
_REFERENCES = ("$ref", "$dynamicRef")
A_MOMENT = 2_000
"""Steps of a check that nobody notices: about ten milliseconds."""
MOST_MISFITS = 50
MOST_GUESSED = 3
"""Unknown names of an input for which a known one is looked for."""
MOST_NODES = 5_000
"""Places of a schema; checking the schema itself takes some 100 microseconds for each."""
FILE = "muster-file"
"""The `format` of a string that names a file; docs/rest.md."""
_PLAIN = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data: what looks like a reference in them is none."""


def check(schema: dict[str, Any]) -> None:
    """Raises Invalid with a pointer when no input could be held to it."""
    nodes = 0
    for nodes, (pointer, pattern) in enumerate(_patterns(schema, "/input"), start=1):
        if nodes > MOST_NODES:
            raise _invalid("/input", f"is larger than {MOST_NODES} places")
        _check_pattern(pointer, pattern)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        pointer = "/input" + "".join(f"/{part}" for part in error.absolute_path)
        raise _invalid(pointer, f"is no JSON Schema: {error.message[:300]}") from None
    for pointer in _files(schema, "/input"):
        if not _IN_PROPERTIES.fullmatch(pointer):
            raise _invalid(pointer, f"a file must be a property of the input itself: `format: {FILE}` stands too deep")
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for pointer, reference in _references(schema, "/input"):
        if not reference.startswith("#"):
            raise _invalid(pointer, f"leads out of the schema ({reference[:100]!r}); copy what it names into `$defs`")
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise _invalid(pointer, f"names nothing in the schema ({reference[:100]!r})") from None


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """One thing of an input that does not fit the schema."""

    pointer: str
    """From the input on, RFC 6901; of what is lacking: where it should be."""
    keyword: str
    wanted: Any
    """What the schema says to the keyword."""
    message: str


class Form:
    """A checked schema, ready for many inputs."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = BoundedValidator(schema, registry=Registry())
        self._plain = plain(schema)
        self.files = frozenset(pointer.rpartition("/")[2] for pointer in _files(schema, "/input"))
        """Inputs that name files."""
        self._defaults = {
            name: field["default"]
            for name, field in schema.get("properties", {}).items()
            if isinstance(field, dict) and "default" in field
        }

    async def fit_soon(self, values: dict[str, Any]) -> dict[str, Any]:
        """As `fit`; what takes more than a moment is done on a thread, so that others are answered meanwhile."""
        try:
            return self._fit(values, A_MOMENT)
        except OutOfSteps:
            return await anyio.to_thread.run_sync(self.fit, values, limiter=limiter())

    def fit(self, values: dict[str, Any]) -> dict[str, Any]:
        """The input with the schema's defaults. Raises Invalid with a pointer to what does not fit."""
        try:
            return self._fit(values, MOST_STEPS)
        except OutOfSteps:
            message = "/input: takes too long to hold against the template's schema; send less"
            raise Invalid(message, pointer="/input") from None

    def misfits(self, values: dict[str, Any]) -> Sequence[Misfit]:
        """All that does not fit, the first `MOST_MISFITS` of it; nothing where `fit` has to say more than that."""
        filled = {**self._defaults, **values}
        try:
            with budget(MOST_STEPS):
                found = list(islice(self._validator.iter_errors(filled), MOST_MISFITS))
        except (OutOfSteps, Unresolvable, RecursionError):
            return ()
        return [_misfit(jsonschema.exceptions.best_match([one]) or one) for one in found]

    def _fit(self, values: dict[str, Any], steps: int) -> dict[str, Any]:
        filled = {**self._defaults, **values}
        if self._plain is not None and self._plain.fits(filled):
            return filled
        try:
            with budget(steps):
                error = jsonschema.exceptions.best_match(self._validator.iter_errors(filled))
        except (Unresolvable, RecursionError):
            raise Invalid("/input: the template's schema refers to what is not there, or to itself for ever") from None
        if error is not None:
            pointer = "/input" + "".join(f"/{part}" for part in error.absolute_path)
            raise Invalid(f"{pointer}: {error.message[:500]}{_meant(error)}", pointer=pointer)
        return filled


def _meant(error: jsonschema.ValidationError) -> str:
    """Which field was meant, where one lacks or one is too many."""
    known = error.schema.get("properties") if isinstance(error.schema, dict) else None
    if error.validator not in ("required", "additionalProperties") or not known or not isinstance(error.instance, dict):
        return ""
    strangers = [name for name in error.instance if name not in known]
    free = [name for name in known if name not in error.instance]
    near = next(((one, found) for one in strangers[:MOST_GUESSED] if (found := nearest(one, free))), None)
    return f": did you mean {near[1]!r} by {near[0][:60]!r}?" if near else ""


def _misfit(error: jsonschema.ValidationError) -> Misfit:
    parts = [str(part) for part in error.absolute_path]
    if error.validator == "required":  # one error for each property, which only its message names
        parts += [name for name in _needed(error) if error.message == f"{name!r} is a required property"][:1]
    return Misfit(
        pointer="".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts),
        keyword=str(error.validator or ""),
        wanted=error.validator_value,
        message=error.message[:500],
    )


def _needed(error: jsonschema.ValidationError) -> Iterable[str]:
    said = error.validator_value
    return said if isinstance(said, list) else ()


_LIMITER: RunVar[CapacityLimiter] = RunVar("muster_schema_threads")


def limiter() -> CapacityLimiter:
    """Two threads for what takes long: the interpreter runs one at a time anyway, and calls need theirs."""
    try:
        return _LIMITER.get()
    except LookupError:
        _LIMITER.set(found := CapacityLimiter(2))
        return found


def _check_pattern(pointer: str, pattern: str | None) -> None:
    try:
        if pattern is not None:
            matches(pattern, "")
    except ValueError as error:
        raise _invalid(pointer, f"{error}") from None


def _patterns(schema: Any, pointer: str) -> Iterator[tuple[str, str | None]]:
    """Every place of a schema, with the pattern that stands there, if one does."""
    yield pointer, None
    match schema:
        case dict():
            if isinstance(pattern := schema.get("pattern"), str):
                yield f"{pointer}/pattern", pattern
            by_pattern = schema.get("patternProperties")
            if isinstance(by_pattern, dict):
                yield from ((f"{pointer}/patternProperties", name) for name in by_pattern)
                if "unevaluatedProperties" in schema:
                    raise _invalid(pointer, "has patternProperties beside unevaluatedProperties, which takes too long")
            for key, inner in schema.items():
                if key not in _PLAIN:
                    yield from _patterns(inner, f"{pointer}/{key}")
        case list():
            for number, inner in enumerate(schema):
                yield from _patterns(inner, f"{pointer}/{number}")


def _references(schema: Any, pointer: str) -> Iterator[tuple[str, str]]:
    match schema:
        case dict():
            for key, inner in schema.items():
                if key in _REFERENCES and isinstance(inner, str):
                    yield f"{pointer}/{key}", inner
                elif key not in _PLAIN:
                    yield from _references(inner, f"{pointer}/{key}")
        case list():
            for number, inner in enumerate(schema):
                yield from _references(inner, f"{pointer}/{number}")


def _files(schema: Any, pointer: str) -> Iterator[str]:
    """Where the schema says that a value names a file."""
    match schema:
        case dict():
            if schema.get("format") == FILE:
                yield pointer
            for key, inner in schema.items():
                if key not in _PLAIN:
                    yield from _files(inner, f"{pointer}/{key}")
        case list():
            for number, inner in enumerate(schema):
                yield from _files(inner, f"{pointer}/{number}")


def _invalid(pointer: str, why: str) -> Invalid:
    return Invalid(f"{pointer} {why}", code="invalid_template", pointer=pointer)
