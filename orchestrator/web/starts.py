"""Where the time of a gang's start went, phase by phase. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orchestrator.store.database import Record
from orchestrator.web.gauges import Stage, waterfall

MEANS = {
    "scheduling": "planned, not yet taken by the backend",
    "image": "a place, the image, the first line of our own: what the backend takes",
    "import": "torch and the template's code",
    "rendezvous": "all ranks meet",
    "preflight": "devices, memory and the links between ranks are tried",
    "load": "the handler is set up: weights and all that is made once",
    "warm-up": "one request of the template, whose result nobody gets",
    "last ranks": "rank 0 was ready, others not yet",
}
_LOADING = {"preflight": "preflight", "setup": "load", "warmup": "warm-up"}
_SHORTEST_S = 0.05

Phase = tuple[str, float | None]


def stages(gang: Record) -> list[Stage]:
    """Of the start that it is in, or of the last one: a row of `fleet.gang`."""
    told = [*_told(gang)]
    begun = next((name for name, seconds in told if seconds is None), None)
    running_s = _running_s(gang, [seconds for _, seconds in told if seconds is not None]) if begun else 0.0
    return waterfall([(name, MEANS.get(name, ""), seconds) for name, seconds in told], running_s)


def _running_s(gang: Record, known: list[float]) -> float:
    zero = gang.hello_at if gang.incarnation > 1 and gang.hello_at else gang.planned_at
    return max(0.0, _between(zero, gang.now) - sum(known))


def _told(gang: Record) -> Iterator[Phase]:
    """Each phase with its seconds; the one that goes on has none yet."""
    over = gang.gone_at
    if gang.incarnation <= 1:
        if gang.launched_at is None:
            yield "scheduling", _until(gang.planned_at, over)
            return
        yield "scheduling", _between(gang.planned_at, gang.launched_at)
        yield from _launch(gang, over)
    if gang.hello_at is not None:
        yield from _load(gang, over)


def _launch(gang: Record, over: datetime | None) -> Iterator[Phase]:
    if gang.hello_at is None:
        yield "image", _until(gang.launched_at, over)
        return
    own = [(name, float(gang.phases.get(name, 0.0))) for name in ("import", "rendezvous")]
    whole = _between(gang.launched_at, gang.hello_at)
    if sum(seconds for _, seconds in own) > whole:
        own = []
    yield "image", whole - sum(seconds for _, seconds in own)
    yield from ((name, seconds) for name, seconds in own if seconds)


def _load(gang: Record, over: datetime | None) -> Iterator[Phase]:
    known = [(name, float(gang.phases[key])) for key, name in _LOADING.items() if gang.phases.get(key)]
    if gang.ready_at is None or gang.ready_at < gang.hello_at:
        if gang.starting_at is not None and over is None and _between(gang.hello_at, gang.starting_at) > _SHORTEST_S:
            before = {"setup": "preflight", "warmup": "load"}.get(gang.starting, "preflight")
            yield before, _between(gang.hello_at, gang.starting_at)
        yield _LOADING.get(gang.starting or "", "load"), _until(gang.hello_at, over)
        return
    yield from known
    rest = _between(gang.hello_at, gang.ready_at) - sum(seconds for _, seconds in known)
    if rest > _SHORTEST_S or not known:
        yield "last ranks" if known else "load", max(rest, 0.0)


def _until(begin: datetime, end: datetime | None) -> float | None:
    return _between(begin, end) if end is not None else None


def _between(begin: datetime, end: datetime) -> float:
    return max(0.0, (end - begin).total_seconds())
