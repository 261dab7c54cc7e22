"""Parameters that several routes of /v1/requests share, each with its bounds; and what a query may ask at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Header, Path, Query, Request
from fastapi.dependencies.models import Dependant

from orchestrator.domain import tracing
from orchestrator.domain.tracing import Trace
from orchestrator.domain.wording import nearest, spelt
from orchestrator.errors import Invalid

LONGEST_WAIT_S = 30.0

RequestId = Annotated[str, Path(pattern=r"^req_[0-9a-z]{26}$", description="request ID")]
OwnRequestId = Annotated[
    str,
    Path(
        pattern=r"^req_[0-7][0-9a-hjkmnp-tv-z]{25}$",
        description="`req_` and a ULID of your own making, in lower case",
    ),
]
OutputName = Annotated[str, Path(max_length=255, pattern=r"^[^/\x00]+$")]
Wait = Annotated[
    float, Query(ge=0, description=f"seconds to wait for the end or a change, at most {LONGEST_WAIT_S:.0f}")
]
KEY = spelt(r"^[\x21-\x7e]+$", "a key of ASCII letters, digits and signs, without blanks")
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=KEY)]
Ranks = Annotated[
    str,
    Query(pattern=r"^(all|\d{1,5}(,\d{1,5}){0,63})$", description="`all`, or up to 64 numbers with commas between"),
]
Tail = Annotated[int, Query(ge=1, le=100_000, description="how many of the last lines")]


def is_key(said: str) -> bool:
    """Whether a form's key would do as an Idempotency-Key."""
    return re.fullmatch(r"[\x21-\x7e]{1,255}", said) is not None


@dataclass(frozen=True, kw_only=True)
class Preference:
    """What of `Prefer` (RFC 7240) we follow: `wait=n` and `respond-async`, which is what we do anyway."""

    wait_s: float = 0.0
    respond_async: bool = False

    def applied(self, *, ended: bool) -> str | None:
        """The Preference-Applied header of an answer; None if nothing was asked. An end is no asynchronous answer."""
        said = [f"wait={self.wait_s:g}"] if self.wait_s else []
        return ", ".join(said + ["respond-async"] * (self.respond_async and not ended)) or None


def preference(http: Request) -> Preference:
    """Of all Prefer headers of a call. What stands first counts; what we do not know is left alone, as the RFC says."""
    told: dict[str, str] = {}
    for part in ",".join(http.headers.getlist("prefer")).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        told.setdefault(name.strip().lower(), value.strip().strip('"'))
    seconds = told.get("wait", "")
    wait_s = min(float(seconds), LONGEST_WAIT_S) if re.fullmatch(r"\d{1,6}", seconds, re.ASCII) else 0.0
    return Preference(wait_s=wait_s, respond_async="respond-async" in told)


def trace_of(http: Request) -> Trace | None:
    """Where in a trace the caller is (W3C Trace Context); None if it does not say, or says nonsense."""
    parents = http.headers.getlist("traceparent")
    return tracing.read(parents[0], ",".join(http.headers.getlist("tracestate"))) if len(parents) == 1 else None


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110: a weak comparison, in a list of tags, or `*`)."""
    if if_none_match is None:
        return False
    named = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in named or tag.removeprefix("W/") in named


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def moment(said: str) -> datetime | None:
    """RFC 3339 with a zone, in UTC; None for all else, words and years that Postgres alone knows among it."""
    try:
        return datetime.fromisoformat(said).astimezone(UTC) if _MOMENT.fullmatch(said) else None
    except (ValueError, OverflowError):
        return None


# ------------------------------------------------------------------------------------------------------ the query


def known_to(dependant: Dependant) -> frozenset[str]:
    """The names of a route's query parameters, those of its dependencies too."""
    own = frozenset(field.alias for field in dependant.query_params)
    return own.union(*(known_to(inner) for inner in dependant.dependencies))


def check_query(http: Request, known: frozenset[str], families: Iterable[str] = ()) -> None:
    """Each parameter is one that the route knows, and stands once: what would be ignored is refused.

    `families` are prefixes of names that the caller chooses. Raises Invalid.
    """
    seen: set[str] = set()
    for name, _ in http.query_params.multi_items():
        if name not in known and not name.startswith(tuple(families)):
            there = ", ".join(sorted(known) + [f"{family}…" for family in families]) or "none"
            near = nearest(name, known)
            meant = f"; did you mean {near!r}?" if near else ""
            raise Invalid(
                f"no parameter {name[:60]!r} here; there are: {there}{meant}",
                code="unknown_parameter",
                pointer=f"/{name[:60]}",
            )
        if name in seen:
            raise Invalid(f"the parameter {name!r} stands twice", pointer=f"/{name}")
        seen.add(name)
