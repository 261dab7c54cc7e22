"""Which requests somebody asks for: the filters of the list as its address says them, and as the store takes them.

Total: what makes no sense is shown as such beside the field and matches nothing; a shared link never breaks the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from orchestrator.api.parameters import moment
from orchestrator.api.submission import LABEL_KEY
from orchestrator.domain.placement import Mode
from orchestrator.domain.states import RequestState
from orchestrator.store.listing import Filter
from orchestrator.web.frame.ids import CUT

SPANS: Mapping[str, tuple[str, timedelta]] = {
    "15m": ("last 15 minutes", timedelta(minutes=15)),
    "1h": ("last hour", timedelta(hours=1)),
    "24h": ("last 24 hours", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
}
MOST_WORDS = 8
_LONGEST = 400
_ID = re.compile(rf"((?:req_)?[0-9a-z]{{1,26}})(?:(?:{CUT}|\.\.\.)([0-9a-z]{{1,26}}))?", re.ASCII)
"""A beginning, or with what it ends as lists show it."""
_SHORTEST_BARE_ID = 8
"""Without `req_`, what is shorter is no beginning of an ID but a label's value: all IDs of a year begin alike."""
_LABEL = re.compile(LABEL_KEY, re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The question, as typed."""

    status: tuple[str, ...] = ()
    template: str = ""
    mode: str = ""
    span: str = ""
    after: str = ""
    before: str = ""
    q: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> Self:
        """Of the address; values that no control of the page gives are left out."""
        one = {name: query.get(name, "").strip()[:_LONGEST].replace("\0", "") for name in _NAMES}
        return cls(
            status=tuple(state for state in RequestState if state in query.getlist("status")),
            template=one["template"],
            mode=one["mode"] if one["mode"] in set(Mode) else "",
            span=one["span"] if one["span"] in SPANS else "",
            after=one["after"] if moment(one["after"]) else "",
            before=one["before"] if moment(one["before"]) else "",
            q=one["q"],
        )

    @property
    def query(self) -> str:
        """What stands behind the `?` of the address; nothing for what was not asked."""
        return urlencode([(name, value) for name, value in asdict(self).items() if value], doseq=True)

    @property
    def key(self) -> str:
        """Equal for equal questions: cursors are good for one."""
        return json.dumps(asdict(self))

    @property
    def is_all(self) -> bool:
        return self == Asked()

    @property
    def stoppable(self) -> tuple[str, ...]:
        """Of the states asked for, those in which a request can still be canceled."""
        return tuple(state for state in STOPPABLE if not self.status or state in self.status)

    @property
    def problem(self) -> str | None:
        """What is wrong with the search, in a sentence."""
        words = self.q.split()
        if len(words) > MOST_WORDS:
            return f"look for at most {MOST_WORDS} words at once"
        wrong = next((word for word in words if "=" in word and not _LABEL.fullmatch(word.partition("=")[0])), None)
        return f"{wrong!r}: no label has such a key" if wrong else None

    def wanted(self, now: datetime) -> Filter:
        """For the store; ask `problem` first."""
        words = self.q.split()
        named = {word: as_id for word in words if (as_id := _as_id(word))}
        begins, ends = next(iter(named.values()), (None, None))
        bare = [word for word in words if "=" not in word and word not in named]
        after = now - SPANS[self.span][1] if self.span else moment(self.after)
        return Filter(
            states=self.status,
            template=self.template or None,
            mode=self.mode or None,
            labels=dict(_labels(words)),
            created_after=after,
            created_before=moment(self.before),
            id_begins=begins,
            id_ends=ends,
            labeled=" ".join(bare) or None,
        )


STOPPABLE = (RequestState.QUEUED, RequestState.ASSIGNED, RequestState.RUNNING)
_NAMES = ("template", "mode", "span", "after", "before", "q")


def _as_id(word: str) -> tuple[str, str | None] | None:
    """`req_01k…`, or what the list shows of an ID: with what it begins, and with what it ends."""
    found = _ID.fullmatch(word.lower())
    if found is None:
        return None
    begins, ends = found.groups()
    if begins.startswith("req_"):
        return begins, ends
    looks_like_one = begins[0] in "01234567" and any(one.isdigit() for one in begins[1:])
    return (f"req_{begins}", ends) if len(begins) >= _SHORTEST_BARE_ID and looks_like_one else None


def _labels(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            yield key, value[:255]


def now() -> datetime:
    return datetime.now(UTC)
