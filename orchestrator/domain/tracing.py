"""Traces as words: the context that a caller sends (W3C Trace Context), and the IDs of spans. Pure.

IDs of spans follow from the IDs of what they are about, so every replica knows them without asking. A trace is drawn
when its request is over, from what was recorded.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST_MEMBERS = 32
_LONGEST_STATE = 512
_SAMPLED = 1


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A place in a trace: what comes next is a child of `span`."""

    trace: str
    """32 hexadecimal digits."""
    span: str
    """16 hexadecimal digits."""
    flags: int = _SAMPLED
    state: str | None = None
    """What vendors hand on among themselves (`tracestate`)."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    @property
    def parent(self) -> str:
        """As `traceparent` says it."""
        return f"00-{self.trace}-{self.span}-{self.flags:02x}"

    def at(self, subject: str) -> Trace:
        """The same trace at the span of a request, an attempt or a batch."""
        return Trace(trace=self.trace, span=span_of(subject), flags=self.flags, state=self.state)


def read(parent: str | None, state: str | None = None) -> Trace | None:
    """What a caller said; None if it said nothing, or what the specification calls invalid."""
    found = _PARENT.fullmatch(parent.strip()) if parent else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if not int(found[2], 16) or not int(found[3], 16):
        return None
    return Trace(trace=found[2], span=found[3], flags=int(found[4], 16), state=_state(state))


def _state(said: str | None) -> str | None:
    members = [one.strip() for one in (said or "").split(",") if one.strip()]
    names = {one.partition("=")[0] for one in members}
    good = len(names) == len(members) <= _MOST_MEMBERS and all(_MEMBER.fullmatch(one) for one in members)
    kept = ",".join(members)
    return kept if good and 0 < len(kept) <= _LONGEST_STATE else None


def span_of(subject: str) -> str:
    """Of the span about a request, an attempt or a batch, by its ID; or about a part of one (`req_… queue 1`)."""
    return _digest(f"span {subject}", 8)


def own(subject: str, ratio: float) -> Trace | None:
    """The trace of what came without one, at no span yet; None if it is not among the `ratio` that is to have one."""
    trace = _digest(f"trace {subject}", 16)
    return Trace(trace=trace, span="0" * 16) if int(trace[16:], 16) < ratio * 2**64 else None


def _digest(text: str, size: int) -> str:
    return hashlib.blake2s(text.encode(), digest_size=size).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """Whether this installation makes spans, and of which share of what comes without a trace."""

    on: bool = False
    ratio: float = 1.0

    def handed(self, request: str, attempt: str, said: Trace | None) -> Trace | None:
        """What the ranks of an attempt are told: the span of the attempt if there will be one, else what was said."""
        trace = self.of(request, said)
        return trace.at(attempt) if trace is not None else said

    def of(self, subject: str, said: Trace | None) -> Trace | None:
        """The trace that spans about it belong to; None if there are none."""
        if not self.on or (said is not None and not said.sampled):
            return None
        return said or own(subject, self.ratio)
