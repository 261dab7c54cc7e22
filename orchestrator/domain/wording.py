"""What is wrong with what somebody sent, in words that help: which field was meant, what a pattern stands for. Pure.

It must not know who sends what: models and patterns say so themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel

CLOSE = 0.6
MOST_NAMED = 12
MOST_COMPARED = 1000
"""All zones there are; a schema may have more names, which nobody compares while others wait."""
_KINDS = {
    "dict_type": "must be an object, {…}",
    "list_type": "must be a list, […]",
    "tuple_type": "must be a list, […]",
    "string_type": "must be text, in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "missing": "is required",
}
_SPELT: dict[str, str] = {}


def spelt(pattern: str, words: str) -> str:
    """The pattern; whoever misses it is told `words` instead."""
    _SPELT[pattern] = words
    return pattern


def told(error: Mapping[str, Any], kind: type[BaseModel] | None = None) -> str:
    """One of pydantic's errors; `kind` is the model that was asked for, where it is known."""
    match error["type"]:
        case "extra_forbidden":
            return no_such(str(error["loc"][-1]), _fields(kind, error["loc"][:-1]))
        case "string_pattern_mismatch" if words := _SPELT.get(error["ctx"]["pattern"]):
            return f"must be {words}"
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        case known if known in _KINDS:
            return _KINDS[known]
    return str(error["msg"])


def no_such(name: str, known: Collection[str], what: str = "field") -> str:
    """`there is no field 'lable': did you mean 'labels'?`"""
    said = f"there is no {what} {name[:60]!r}"
    if near := nearest(name, known):
        return f"{said}: did you mean {near!r}?"
    return f"{said}; there are {', '.join(sorted(known))}" if 0 < len(known) <= MOST_NAMED else said


def nearest(name: str, known: Collection[str]) -> str | None:
    """The one that was probably meant: the same but for case and signs, or nearly the same."""
    plain = {_plain(one): one for one in islice(known, MOST_COMPARED)}
    close = get_close_matches(_plain(name[:60]), plain, n=1, cutoff=CLOSE)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _fields(kind: type[BaseModel] | None, place: Sequence[int | str]) -> Collection[str]:
    """Those of the model at a place of `kind`; none where that is not to be told."""
    for part in place:
        field = kind.model_fields.get(str(part)) if kind is not None else None
        inner = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        kind = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), None)
    return kind.model_fields.keys() if kind is not None else ()
