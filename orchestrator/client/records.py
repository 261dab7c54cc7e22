"""What the service answers, as frozen records. Fields that we do not know are kept in `raw`, never refused."""

from __future__ import annotations

import types
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Generic, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from orchestrator.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Record:
    """`raw` is the document as it came: print that where people ask for JSON."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, document: object) -> Self:
        """The record in `document`. Raises Unavailable when it is not what docs/rest.md promises."""
        if not isinstance(document, dict):
            raise _unexpected(cls, "is not an object")
        try:
            given = {
                name: _value(hint, document[name])
                for name, hint in _hints(cast(Hashable, cls)).items()
                if name in document
            }
            return cls(raw=document, **given)
        except (TypeError, ValueError) as error:
            raise _unexpected(cls, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    data: tuple[T, ...]
    has_more: bool = False
    next_cursor: str | None = None


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    """Type of each field but `raw`, worked out once for each record class."""
    hints = get_type_hints(kind)
    return {name: hint for name, hint in hints.items() if name != "raw"}


def _value(hint: Any, given: Any) -> Any:
    """`given` as `hint` wants it; raises TypeError or ValueError."""
    origin = get_origin(hint)
    if hint is Any:
        return given
    if origin in (Union, types.UnionType):
        wanted = [one for one in get_args(hint) if one is not types.NoneType]
        return None if given is None else _value(wanted[0], given)
    if origin is tuple:
        return tuple(_value(get_args(hint)[0], one) for one in _checked(list, given))
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.read(given)
    if hint is datetime:
        return datetime.fromisoformat(_checked(str, given))
    if hint is float:
        return float(_checked((int, float), given))
    return _checked(dict if origin is not None else hint, given)


def _checked(kind: Any, given: Any) -> Any:
    if not isinstance(given, kind) or (isinstance(given, bool) and kind is not bool):
        raise TypeError(f"{str(given)[:40]!r} is not of type {getattr(kind, '__name__', 'number')}")
    return given


def _unexpected(kind: type[Record], why: str) -> Unavailable:
    return Unavailable(
        f"the service answered a {kind.__name__.lower()} that this client cannot read ({why}): "
        "are both of the same version? `muster doctor` tells",
        code="unexpected_answer",
    )
