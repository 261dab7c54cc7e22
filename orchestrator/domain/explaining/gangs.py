"""What one gang does now, against what is usual; and why it ended."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.domain import advice
from orchestrator.domain.durations import duration
from orchestrator.domain.explaining.facts import GangFacts, Running, Usual
from orchestrator.domain.explaining.words import Cause, Explanation, Figure, Finding, Step, finding

SLOW = 2.0
"""A phase that takes so many times the usual is said to be slow."""
_NAMED = 8
"""Missing ranks named in a sentence."""


def explain_gang(gang: GangFacts, usual: Usual, cause: Cause | None) -> Explanation:
    """`cause` of one that is gone because something went wrong."""
    found = [state(gang, usual), *notes(gang)]
    if gang.running is not None:
        found += progress(gang.running)
    return Explanation(
        of=gang.id,
        kind="gang",
        status="busy" if gang.busy and gang.state == "ready" else "idle" if gang.state == "ready" else gang.state,
        summary=found[0].sentence,
        findings=tuple(found),
        next=_next(gang, cause),
        cause=cause,
    )


def state(gang: GangFacts, usual: Usual) -> Finding:
    """The one finding that says what the gang does."""
    match gang.state:
        case "planned":
            return _planned(gang)
        case "launching" | "loading":
            return _starting(gang, usual)
        case "ready" if gang.busy:
            return _busy(gang)
        case "ready":
            return finding(
                "gang_idle", f"gang {gang.id} is idle for {duration(gang.since_s)}", gang=gang.id, for_s=gang.since_s
            )
        case "draining":
            return _draining(gang)
        case _:
            return _gone(gang)


def notes(gang: GangFacts) -> Iterator[Finding]:
    """What more is known of one that starts: the backend's word, ranks that are missing, earlier tries."""
    if gang.is_starting and (gang.seen_reason or gang.seen_detail):
        said = ": ".join(part for part in (gang.seen_reason, gang.seen_detail) if part)
        yield finding("backend_says", f"the backend says of {gang.id}: {said}", gang=gang.id, reason=gang.seen_reason)
    if gang.state == "loading" and gang.missing:
        named = ", ".join(map(str, gang.missing[:_NAMED])) + (", ..." if len(gang.missing) > _NAMED else "")
        yield finding(
            "ranks_missing",
            f"{gang.joined} of {gang.world} ranks of {gang.id} said hello; missing: {named}",
            gang=gang.id,
            joined=gang.joined,
            world=gang.world,
        )
    if gang.breaks and gang.is_starting:
        yield finding(
            "gang_restarts",
            f"the ranks of {gang.id} died and start again, {gang.breaks} times in a row; the third time ends the gang",
            gang=gang.id,
            breaks=gang.breaks,
        )


def progress(running: Running) -> Iterator[Finding]:
    """What is known of a run: how far, how fast, who is last, who is silent."""
    if running.phase is not None:
        yield _phase(running)
    if running.current and running.running_s > 0 and running.fraction is not None:
        rate = running.current / running.running_s
        yield finding("rate", f"{_rate(rate)} so far", steps_per_s=rate, running_s=running.running_s)
    yield from _slowest(running)
    yield from _silence(running)


def _phase(running: Running) -> Finding:
    said, figures = f"in phase {running.phase}", {"phase": running.phase}
    if running.current is not None and running.total:
        said += f", step {running.current:g} of {running.total:g}"
        figures |= {"current": running.current, "total": running.total}  # type: ignore[dict-item]
    left = running.left_s
    if left is not None:
        said += f", about {duration(left)} left"
    return finding("phase", f"{said}, running for {duration(running.running_s)}", left_s=left, **figures)


def _rate(rate: float) -> str:
    return f"{rate:.2g} steps per second" if rate >= 1 else f"{duration(1 / rate)} per step"


def _slowest(running: Running) -> Iterator[Finding]:
    stepped = [rank for rank in running.ranks if rank.step is not None]
    if len(stepped) < 2:
        return
    last = min(stepped, key=lambda rank: (rank.step or 0, -(rank.age_s or 0.0)))
    ahead = max(rank.step or 0 for rank in stepped) - (last.step or 0)
    if not ahead:
        yield finding("ranks_level", f"all {len(stepped)} ranks are at step {last.step}", step=last.step)
        return
    since = f", there for {duration(last.age_s)}" if last.age_s is not None else ""
    yield finding(
        "slowest_rank",
        f"rank {last.rank} is last: step {last.step}, {ahead} behind the first{since}",
        rank=last.rank,
        step=last.step,
        behind=ahead,
        age_s=last.age_s,
    )


def _silence(running: Running) -> Iterator[Finding]:
    if running.beat_s is None:
        return
    said = f"its gang was last heard of {duration(running.beat_s)} ago"
    if running.moved_s is not None:
        said += f", its progress moved {duration(running.moved_s)} ago"
    yield finding("heard", said, beat_s=running.beat_s, moved_s=running.moved_s)


def _planned(gang: GangFacts) -> Finding:
    said = f"gang {gang.id} is planned for {duration(gang.since_s)} and not launched yet"
    return finding("gang_planned", said, gang=gang.id, for_s=gang.since_s)


def _starting(gang: GangFacts, usual: Usual) -> Finding:
    stage = gang.stage
    spent = gang.staying_s
    figures: dict[str, Figure] = {"gang": gang.id, "phase": stage, "for_s": spent, "launched_s": gang.launched_s}
    said = f"gang {gang.id} starts: in phase {stage} for {duration(spent)}"
    known = usual.phases.get(stage)
    if known is not None:
        said += f" (usually {duration(known)}{', slow' if spent > max(SLOW * known, known + 5) else ''})"
    if gang.launched_s is not None:
        whole = f" of usually {duration(usual.cold_s)}" if usual.cold_s is not None else ""
        said += f"; launched {duration(gang.launched_s)} ago{whole}"
    if gang.start_timeout_s is not None:
        said += f", ended if not ready after {duration(gang.start_timeout_s)}"
    figures |= {"usual_s": known, "usual_start_s": usual.cold_s, "start_timeout_s": gang.start_timeout_s}
    return finding("gang_starting", said, **figures)


def _busy(gang: GangFacts) -> Finding:
    what = f"with {gang.request}" if gang.request else "with a request"
    if gang.leases > 1:
        what += f" and {gang.leases - 1} more"
    running = gang.running or Running(running_s=gang.since_s)
    said = f"gang {gang.id} is busy {what} for {duration(running.running_s)}"
    if running.phase is not None:
        said += f", in {running.phase}"
    if running.current is not None and running.total:
        said += f" {running.current:g} of {running.total:g}"
    return finding(
        "gang_busy",
        said,
        gang=gang.id,
        request=gang.request,
        running_s=running.running_s,
        phase=running.phase,
        current=running.current,
        total=running.total,
        left_s=running.left_s,
    )


def _draining(gang: GangFacts) -> Finding:
    what = f" after {gang.request}" if gang.request else " after its request" if gang.busy else ""
    why = f": {gang.reason}" if gang.reason else ""
    return finding("gang_draining", f"gang {gang.id} ends{what} and takes nothing new{why}", gang=gang.id)


def _gone(gang: GangFacts) -> Finding:
    why = f" ({gang.reason_code}): {gang.reason}" if gang.reason_code else ""
    return finding("gang_gone", f"gang {gang.id} is gone{why}", gang=gang.id, reason=gang.reason_code)


def _next(gang: GangFacts, cause: Cause | None) -> tuple[Step, ...]:
    if cause is not None:
        return (Step(sentence=advice.of(cause.code).next), logs_of(gang.id, cause.rank))
    if gang.is_starting and gang.writes:
        return (Step(sentence="see what its ranks write while it starts", command=f"muster gang logs {gang.id}"),)
    if gang.busy and gang.request:
        return (Step(sentence="see how its request is doing", command=f"muster explain {gang.request}"),)
    return ()


def logs_of(gang_id: str, rank: int | None) -> Step:
    which = f" --rank {rank}" if rank else ""
    return Step(sentence="see what the rank wrote", command=f"muster gang logs {gang_id}{which}")
