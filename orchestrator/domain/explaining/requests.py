"""One request: why it waits, how it runs, why it ended as it did, and what the reader can do."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.domain import advice
from orchestrator.domain.durations import duration
from orchestrator.domain.explaining import gangs, pools
from orchestrator.domain.explaining.facts import GangFacts, PoolFacts, RequestFacts, Usual
from orchestrator.domain.explaining.forecast import Forecast, among, of_own_gang, until_start
from orchestrator.domain.explaining.words import Cause, Explanation, Finding, Step, finding, plural

NAMED = 5
"""Batches and requests that are named as having all gangs."""


def explain_request(request: RequestFacts, pool: PoolFacts, usual: Usual) -> Explanation:
    match request.state:
        case "queued":
            return _waiting(request, pool, usual)
        case "assigned" | "running" | "canceling":
            return _running(request)
        case "failed" | "expired":
            return _failed(request)
        case _:
            return _ended(request)


def _explanation(
    request: RequestFacts, found: list[Finding], steps: tuple[Step, ...], cause: Cause | None = None
) -> Explanation:
    return Explanation(
        of=request.id,
        kind="request",
        status=request.state,
        summary=found[0].sentence,
        findings=tuple(found),
        next=steps,
        cause=cause,
    )


# -------------------------------------------------------------------------------------------------------- it waits


def _waiting(request: RequestFacts, pool: PoolFacts, usual: Usual) -> Explanation:
    found = [_position(request), *_not_before(request)]
    if request.batch is not None:
        found += _item(request, request.batch, pool, usual)
    elif request.placement == "batch":
        own = next((gang for gang in pool.gangs if gang.for_request == request.id and gang.state != "gone"), None)
        found += [_eta(of_own_gang(own, usual), request), *_own_gang(own, pool, usual)]
    else:
        found += [_eta(until_start(pool, usual, request.ahead), request), *pools.limits(pool)]
        found += pools.of_gangs(pool, usual)
    found += [_placed(request), *_earlier(request)]
    return _explanation(request, found, _next_of_waiting(request, pool))


def _position(request: RequestFacts) -> Finding:
    ahead = "nothing is ahead of it" if not request.ahead else f"{request.ahead} ahead of it{_named(request)}"
    return finding(
        "position",
        f"it waits for {duration(request.waited_s)} at position {request.ahead + 1}: {ahead}",
        position=request.ahead + 1,
        ahead=request.ahead,
        waited_s=request.waited_s,
    )


def _named(request: RequestFacts) -> str:
    if not request.ahead_ids:
        return ""
    more = ", ..." if request.ahead > len(request.ahead_ids) else ""
    return f" ({', '.join(request.ahead_ids)}{more})"


def _not_before(request: RequestFacts) -> Iterator[Finding]:
    if request.backoff_s:
        yield finding(
            "backoff",
            f"attempt {request.attempts} was lost; the next one may start in {duration(request.backoff_s)}",
            left_s=request.backoff_s,
            attempts=request.attempts,
            max_attempts=request.max_attempts,
        )
    if request.start_within_s is not None:
        yield finding(
            "deadline",
            f"it expires if it has not started in {duration(max(0.0, request.start_within_s))}",
            left_s=request.start_within_s,
        )


def _eta(guess: Forecast, request: RequestFacts) -> Finding:
    if guess.seconds is None:
        return finding("eta_unknown", f"when it starts cannot be told: {guess.basis}")
    seconds = max(guess.seconds, request.backoff_s or 0.0)
    when = "at any moment" if seconds < 0.5 else f"in about {duration(seconds)}"
    return finding("eta", f"it should start {when}: {guess.basis}", seconds=seconds)


def _item(request: RequestFacts, batch: str, pool: PoolFacts, usual: Usual) -> Iterator[Finding]:
    """Of a batch, whose gangs pull one item after the other."""
    drains = [gang for gang in pool.gangs if gang.for_batch == batch and gang.state not in ("draining", "gone")]
    if request.batch_state == "paused":
        yield finding("batch_paused", f"its batch {batch} is paused: nothing of it starts", batch=batch)
    else:
        yield _eta(among(drains, usual, request.ahead), request)
    yield finding(
        "item", f"it is an item of {batch}, drained by {plural(len(drains), 'gang')}", batch=batch, gangs=len(drains)
    )
    for gang in drains:
        yield gangs.state(gang, usual)
        yield from gangs.notes(gang)
    if not drains and request.batch_state != "paused":
        yield from _no_gang_yet(pool, "it gets a gang")
    yield from (one for one in pools.limits(pool) if one.code == "pool_held")


def _own_gang(own: GangFacts | None, pool: PoolFacts, usual: Usual) -> Iterator[Finding]:
    if own is not None:
        yield gangs.state(own, usual)
        yield from gangs.notes(own)
        return
    yield from _no_gang_yet(pool, "it gets a gang of its own")
    yield from (one for one in pools.limits(pool) if one.code == "pool_held")


def _no_gang_yet(pool: PoolFacts, what: str) -> Iterator[Finding]:
    """The room for gangs of batches is taken, by whom; or there is some."""
    if pool.batch_gangs >= pool.max_batch_gangs:
        holders = {one.for_batch or one.for_request for one in pool.gangs if one.mode == "batch"} - {None}
        named = f": {', '.join(sorted(str(one) for one in holders))}" if 0 < len(holders) <= NAMED else ""
        yield finding(
            "batch_full",
            f"{what} once one of {plural(pool.batch_gangs, 'batch gang')} is gone"
            f" (at most {pool.max_batch_gangs} at once){named}",
            gangs=pool.batch_gangs,
            max=pool.max_batch_gangs,
        )
    elif pool.held_s is None:
        yield finding("gang_to_come", f"{what}, which is about to be launched")


def _placed(request: RequestFacts) -> Finding:
    path = "a warm gang of the pool" if request.placement == "warm" else "a gang of its own"
    return finding(
        "placement",
        f"placed with {path}: {request.placement_reason}",
        placement=request.placement,
        mode=request.mode,
    )


def _next_of_waiting(request: RequestFacts, pool: PoolFacts) -> tuple[Step, ...]:
    wait = Step(sentence="stay with it", command=f"muster wait {request.id}")
    cancel = Step(sentence="or give it up", command=f"muster cancel {request.id}")
    return (wait, *(pools.next_steps(pool) if request.placement == "warm" else ()), cancel)


# --------------------------------------------------------------------------------------------------------- it runs


def _running(request: RequestFacts) -> Explanation:
    gang = request.gang
    running = gang.running if gang else None
    found = [_what_runs(request)]
    if running is not None:
        found += gangs.progress(running)
        found += _bounds(request)
    found += [_placed(request), *_earlier(request)]
    steps = (
        Step(sentence="see its log as it grows", command=f"muster logs -f {request.id}"),
        Step(sentence="stay with it", command=f"muster wait {request.id}"),
        Step(sentence="stop it", command=f"muster cancel {request.id}"),
    )
    return _explanation(request, found, steps[:-1] if request.state == "canceling" else steps)


def _what_runs(request: RequestFacts) -> Finding:
    on = f"gang {request.gang.id}" if request.gang else "its gang"
    match request.state:
        case "assigned":
            said = f"{on} has it and is about to begin"
        case "canceling":
            said = f"it was canceled: {on} stops at its next step"
        case _:
            said = f"it runs on {on}"
    return finding(
        request.state,
        said + (f", attempt {request.attempts} of {request.max_attempts}" if request.attempts > 1 else ""),
        gang=request.gang.id if request.gang else None,
        attempt=request.attempts,
        max_attempts=request.max_attempts,
    )


def _bounds(request: RequestFacts) -> Iterator[Finding]:
    running = request.gang.running if request.gang else None
    if running is None:
        return
    left = request.timeout_s - running.running_s
    yield finding("time_limit", f"it fails if it runs {duration(max(0.0, left))} longer", left_s=left)
    if request.no_progress_s is not None and running.moved_s is not None:
        left = request.no_progress_s - running.moved_s
        said = f"its gang is ended if no step comes for {duration(max(0.0, left))}"
        yield finding("step_limit", said, left_s=left, limit_s=request.no_progress_s)


# -------------------------------------------------------------------------------------------------------- it ended


def _failed(request: RequestFacts) -> Explanation:
    cause = _cause(request)
    told = advice.of(cause.code)
    found = [_what_failed(request, cause), _whose(cause), _retried(request), *_earlier(request, newest=False)]
    steps = [Step(sentence=told.next)]
    if request.attempts:
        which = f" --rank {cause.rank}" if cause.rank else ""
        steps.append(Step(sentence="read its log", command=f"muster logs {request.id}{which}"))
    elif request.failed_start is not None:
        steps.append(gangs.logs_of(request.failed_start, cause.rank))
    if told.whose is not advice.Whose.USER:
        steps.append(Step(sentence="then send it again", command=f"muster retry {request.id}"))
    return _explanation(request, found, tuple(steps), cause)


def _cause(request: RequestFacts) -> Cause:
    error = request.error or {}
    newest = request.losses[0] if request.losses else {}
    told = {name: error.get(name, newest.get(name)) for name in ("rank", "node", "phase", "step", "traceback", "log")}
    code = str(error.get("code") or "internal")
    return Cause(code=code, whose=advice.of(code).whose, message=str(error.get("message") or ""), **told)


def _what_failed(request: RequestFacts, cause: Cause) -> Finding:
    places = (("rank", cause.rank), ("node", cause.node), ("phase", cause.phase), ("step", cause.step))
    where = ", ".join(f"{word} {value}" for word, value in places if value is not None)
    said = f"it {request.state} with {cause.code}" + (f" on {where}" if where else "")
    return finding(
        "cause",
        f"{said}: {cause.message}",
        reason=cause.code,
        rank=cause.rank,
        node=cause.node,
        phase=cause.phase,
        step=cause.step,
    )


def _whose(cause: Cause) -> Finding:
    return finding("fault", advice.of(cause.code).fault, whose=cause.whose)


def _retried(request: RequestFacts) -> Finding:
    figures = {"attempts": request.attempts, "max_attempts": request.max_attempts}
    if not request.attempts:
        return finding("not_tried", "no gang ever ran it", **figures)
    if request.attempts == 1:
        return finding("not_retried", "Muster did not try it again", **figures)
    tried = f"Muster tried it {request.attempts} times of at most {request.max_attempts}"
    return finding("retried", tried, **figures)


def _earlier(request: RequestFacts, *, newest: bool = True) -> Iterator[Finding]:
    """What became of the attempts before; the newest loss of a failed request is its cause, told already."""
    for loss in request.losses if newest else request.losses[1:]:
        where = f" on rank {loss['rank']} of {loss['node']}" if loss.get("rank") is not None else ""
        yield finding(
            "lost_attempt",
            f"attempt {loss['attempt']} was lost: {loss['reason']}{where}: {loss['message']}",
            attempt=loss["attempt"],
            reason=loss["reason"],
            rank=loss.get("rank"),
            node=loss.get("node"),
        )


def _ended(request: RequestFacts) -> Explanation:
    took = f", ran {duration(request.run_s)}" if request.run_s else ""
    cold = f" ({duration(request.cold_start_s)} of it a cold start)" if request.cold_start_s else ""
    said = f"it {'was canceled' if request.state == 'canceled' else request.state}"
    found = [
        finding(
            request.state,
            f"{said}: waited {duration(request.waited_s)}{cold}{took}",
            waited_s=request.waited_s,
            cold_start_s=request.cold_start_s,
            run_s=request.run_s,
        ),
        _placed(request),
        *_earlier(request),
    ]
    fetch = Step(sentence="fetch what it made", command=f"muster download {request.id}")
    again = Step(sentence="send it again", command=f"muster retry {request.id}")
    return _explanation(request, found, (fetch,) if request.state == "succeeded" else (again,))
