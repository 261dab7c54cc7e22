"""Why a pool serves what waits, or does not."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.domain.durations import duration
from orchestrator.domain.explaining import gangs
from orchestrator.domain.explaining.facts import PoolFacts, Usual
from orchestrator.domain.explaining.forecast import basis, until_start
from orchestrator.domain.explaining.words import Explanation, Finding, Step, finding, plural


def explain_pool(pool: PoolFacts, usual: Usual) -> Explanation:
    """Why does nothing start, or: when would a request start that is sent now?"""
    found = [_queue(pool), *limits(pool), *of_gangs(pool, usual), usual_finding(usual)]
    if (eta := _eta(pool, usual)) is not None:
        found.insert(1, eta)
    return Explanation(
        of=pool.template,
        kind="pool",
        status="held" if pool.held_s is not None else "open" if pool.max_gangs else "closed",
        summary=found[0].sentence,
        findings=tuple(found),
        next=next_steps(pool),
    )


def limits(pool: PoolFacts) -> Iterator[Finding]:
    """What keeps new gangs from coming."""
    if pool.held_s is not None:
        yield finding(
            "pool_held",
            f"no gang is launched for {duration(pool.held_s)}: {plural(pool.failed_starts, 'start')} failed in a row,"
            f" the last one because {pool.held_reason}",
            left_s=pool.held_s,
            failed_starts=pool.failed_starts,
        )
    if not pool.current:
        yield finding(
            "pool_superseded",
            f"version {pool.version} of {pool.template} was replaced: its gangs serve what still waits, then go",
            version=pool.version,
        )
    if pool.max_gangs == 0:
        yield finding("pool_closed", "the pool keeps no warm gangs (max 0)", max=0)
    elif _too_few(pool):
        yield finding(
            "pool_full",
            f"the pool may not grow: {plural(len(pool.serving()), 'gang')} of at most {pool.max_gangs}",
            gangs=len(pool.serving()),
            max=pool.max_gangs,
        )
    if pool.ending:
        said = f"places held by gangs that are on their way out: {pool.ending}"
        yield finding("gangs_ending", said, ending=pool.ending)


def of_gangs(pool: PoolFacts, usual: Usual) -> Iterator[Finding]:
    """What each serve gang does."""
    serving = [gang for gang in pool.gangs if gang.mode == "serve" and gang.state != "gone"]
    if not serving:
        yield finding("no_gang", "the pool has no warm gang")
    for gang in serving:
        yield gangs.state(gang, usual)
        yield from gangs.notes(gang)


def usual_finding(usual: Usual) -> Finding:
    return finding(
        "usual",
        basis(usual),
        run_s=usual.run_s,
        runs=usual.runs,
        start_s=usual.cold_s,
        starts=usual.starts,
        version=usual.version,
        **{f"{name}_s": seconds for name, seconds in usual.phases.items()},
    )


def next_steps(pool: PoolFacts) -> tuple[Step, ...]:
    """What could be changed about the pool, and what to look at."""
    steps = []
    if pool.held_s is not None:
        steps.append(Step(sentence="see which gangs failed, and why", command="muster gang ls -s gone"))
    starting = next((gang for gang in pool.gangs if gang.is_starting), None)
    if starting is not None and starting.writes:
        steps.append(gangs.logs_of(starting.id, None))
    if pool.max_gangs == 0 or _too_few(pool):
        more = f"muster pool set {pool.template} --max {max(1, pool.max_gangs + 1)}"
        steps.append(Step(sentence="let the pool have more gangs, if the machines are there", command=more))
    return tuple(steps)


def _too_few(pool: PoolFacts) -> bool:
    """Whether more waits than gangs are free or about to be, and no more of them may come."""
    free = sum(gang.free for gang in pool.serving())
    return not pool.room and pool.queued > free


def _queue(pool: PoolFacts) -> Finding:
    idle = sum(1 for gang in pool.serving() if gang.state == "ready" and not gang.busy)
    busy = sum(1 for gang in pool.serving() if gang.busy)
    starting = sum(1 for gang in pool.serving() if gang.is_starting)
    queued = f"{plural(pool.queued, 'request')} {'waits' if pool.queued == 1 else 'wait'}"
    return finding(
        "queue",
        f"{queued}; gangs: {idle} idle, {busy} busy, {starting} starting, at most {pool.max_gangs}",
        queued=pool.queued,
        idle=idle,
        busy=busy,
        starting=starting,
        max=pool.max_gangs,
    )


def _eta(pool: PoolFacts, usual: Usual) -> Finding | None:
    if pool.max_gangs == 0:
        return None
    guess = until_start(pool, usual, pool.queued)
    if guess.seconds is None:
        return finding("eta_unknown", f"when a new request would start cannot be told: {guess.basis}")
    when = "at once" if guess.seconds < 0.5 else f"in about {duration(guess.seconds)}"
    return finding("eta", f"a request sent now would start {when}: {guess.basis}", seconds=guess.seconds)
