"""Incarnations: one hello opens one, a new one ends the one before, and only a whole one gets work."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import builders as make
import pytest
from builders import LEASE, START, Gang
from races import behind, together

from orchestrator.domain.ids import new_token
from orchestrator.domain.states import Outcome, Reason
from orchestrator.errors import Conflict, MusterError, StaleLease, Unauthorized
from orchestrator.store import gangs, incarnations, members, rank_errors, requests
from orchestrator.store.database import Database, Tx
from orchestrator.store.incarnations import Born
from orchestrator.store.rank_errors import RankError
from orchestrator.store.tokens import digest


def say_hello(tx: Tx, gang: Gang, nonce: str, *, token: str | None = None, world: int = 1) -> Born:
    return incarnations.hello(
        tx, gang.id, token or gang.token, nonce=nonce, world=world, rank=make.rank(0), lease=LEASE
    )


def test_the_same_nonce_gets_the_same_answer(tx: Tx) -> None:
    gang, nonce = make.launching(tx, make.pool(tx)), secrets.token_hex(16)
    first, again = say_hello(tx, gang, nonce), say_hello(tx, gang, nonce)
    assert (first.incarnation, first.session) == (again.incarnation, again.session) == (1, first.session)
    assert [event.move for event in make.events_of(tx, gang.id)] == ["plan", "launch", "hello"]


def test_a_new_nonce_ends_the_leases_of_the_incarnation_before(tx: Tx) -> None:
    pool = make.pool(tx)
    lease = make.running(tx, pool)
    born = say_hello(tx, lease.gang, secrets.token_hex(16))
    assert [(done.request, done.state) for done in born.requests] == [(lease.request, "queued")]
    assert born.incarnation == 2 and born.session != lease.gang.session
    row = make.request_row(tx, lease.request)
    assert (row.state, row.crashes, row.reason_code) == ("queued", 1, "superseded")


def test_what_a_rank_complained_of_is_why_its_incarnation_ended(tx: Tx) -> None:
    lease = make.running(tx, make.pool(tx))
    complaint = RankError(
        rank=3, node="n3", attempt=lease.attempt, phase="run", step=7, type="E", message="broke", traceback=None
    )
    rank_errors.record(tx, lease.gang.id, lease.gang.incarnation, complaint)
    say_hello(tx, lease.gang, secrets.token_hex(16))
    row = make.request_row(tx, lease.request)
    assert (row.reason_code, row.reason) == ("rank_failed", "broke")


def test_hellos_at_once_with_one_nonce_open_one_incarnation(database: Database) -> None:
    gang = database.transact(lambda tx: make.launching(tx, make.pool(tx)))
    nonce = secrets.token_hex(16)
    born = together([lambda: database.transact(lambda tx: say_hello(tx, gang, nonce))] * 8)
    assert {one.incarnation for one in born if isinstance(one, Born)} == {1} and len(born) == 8


def test_hellos_at_once_with_different_nonces_open_one_each_and_the_last_holds(database: Database) -> None:
    gang = database.transact(lambda tx: make.launching(tx, make.pool(tx)))
    born = together([lambda: database.transact(lambda tx: say_hello(tx, gang, secrets.token_hex(16)))] * 8)
    by_number = {one.incarnation: one.session for one in born if isinstance(one, Born)}
    assert sorted(by_number) == list(range(1, 9))
    for number, session in by_number.items():
        speaker = Gang(id=gang.id, token=gang.token, session=session, incarnation=number)

        def speak(tx: Tx, speaker: Gang = speaker) -> object:
            return members.member(tx, gang.id, speaker.session_hash)

        if number == 8:
            assert database.transact(speak)
        else:
            with pytest.raises(StaleLease):
                database.transact(speak)


@pytest.mark.parametrize("token", ["wrong", ""])
def test_a_wrong_gang_token_opens_nothing(tx: Tx, token: str) -> None:
    gang = make.launching(tx, make.pool(tx))
    with pytest.raises(Unauthorized):
        incarnations.hello(tx, gang.id, token, nonce="0" * 32, world=1, rank=make.rank(0), lease=LEASE)


def test_neither_an_unknown_gang_nor_another_gangs_token_is_let_in(tx: Tx) -> None:
    pool = make.pool(tx)
    mine, other = make.launching(tx, pool), make.launching(tx, pool)
    with pytest.raises(Unauthorized):
        say_hello(tx, mine, "0" * 32, token=other.token)
    with pytest.raises(Unauthorized):
        say_hello(tx, Gang(id="gng_" + "0" * 26, token=mine.token), "0" * 32)


def test_the_token_of_an_earlier_launch_stays_good(tx: Tx) -> None:
    """The answer to that launch may have been lost, and its processes run."""
    gang = make.launching(tx, make.pool(tx))
    gangs.add_token(tx, gang.id, new_token())
    assert say_hello(tx, gang, "0" * 32).incarnation == 1


def test_a_gang_of_another_size_is_refused(tx: Tx) -> None:
    gang = make.launching(tx, make.pool(tx, ranks_per_node=2))
    with pytest.raises(Conflict) as refused:
        say_hello(tx, gang, "0" * 32, world=3)
    assert refused.value.code == "wrong_world"


@pytest.mark.parametrize("leave", ["gone", "draining"])
def test_a_gang_that_is_not_wanted_is_told_so(tx: Tx, leave: str) -> None:
    gang = make.ready(tx, make.pool(tx))
    if leave == "gone":
        gangs.end(tx, gang.id, Reason.IDLE, "idle for 600 s")
    else:
        gangs.drain(tx, gang.id, Reason.IDLE, "idle for 600 s")
    with pytest.raises(StaleLease) as refused:
        say_hello(tx, gang, secrets.token_hex(16))
    assert refused.value.code == "gang_gone" and "idle for 600 s" in refused.value.message


# ----------------------------------------------------------------------------------------------------------- ready


def test_a_gang_is_ready_only_when_all_its_ranks_are(tx: Tx) -> None:
    pool = make.pool(tx, nodes=2, ranks_per_node=2)
    make.queued(tx, pool)
    gang = make.loading(tx, pool)
    for number in (3, 0, 2):
        assert incarnations.rank_ready(tx, gang.id, gang.incarnation, number, {"setup": 1.0}) is None
        assert make.gang_row(tx, gang).state == "loading" and make.assign(tx, pool) == ()
    assert incarnations.rank_ready(tx, gang.id, gang.incarnation, 0, {"setup": 1.0}) is None
    assert incarnations.rank_ready(tx, gang.id, gang.incarnation, 1, {}) is not None
    row = make.gang_row(tx, gang)
    assert row.state == "ready" and row.phases == {"setup": 1.0}
    assert list(make.assign(tx, pool)) == [gang.id]


def test_ranks_that_are_ready_at_once_make_the_gang_ready_once(database: Database) -> None:
    gang = database.transact(lambda tx: make.loading(tx, make.pool(tx, ranks_per_node=8)))

    def report(number: int) -> Callable[[], object]:
        return lambda: database.transact(
            lambda tx: incarnations.rank_ready(tx, gang.id, gang.incarnation, number, {}) is not None
        )

    assert sorted(map(bool, together([report(number) for number in range(8)]))) == [False] * 7 + [True]


def test_a_rank_that_does_not_exist_does_not_make_a_gang_whole(tx: Tx) -> None:
    gang = make.launching(tx, make.pool(tx, ranks_per_node=2))
    born = say_hello(tx, gang, "0" * 32, world=2)
    with pytest.raises(Conflict) as refused:
        incarnations.join(tx, gang.id, digest(born.session), make.rank(7))
    assert refused.value.code == "wrong_world"
    for number in (0, 7):
        assert incarnations.rank_ready(tx, gang.id, born.incarnation, number, {}) is None
    assert incarnations.join(tx, gang.id, digest(born.session), make.rank(1)) == 1
    assert incarnations.rank_ready(tx, gang.id, born.incarnation, 1, {}) is not None


def test_ranks_of_an_older_incarnation_do_not_count(tx: Tx) -> None:
    pool = make.pool(tx, ranks_per_node=2)
    old = make.loading(tx, pool)
    incarnations.rank_ready(tx, old.id, old.incarnation, 0, {})
    new = make.hello(tx, old)
    incarnations.rank_ready(tx, old.id, old.incarnation, 1, {})
    assert incarnations.rank_ready(tx, new.id, new.incarnation, 0, {}) is None
    assert make.gang_row(tx, new).state == "loading"


# ------------------------------------------------------------------------------------------------------------ work


def test_work_is_every_live_lease_again_and_again(tx: Tx) -> None:
    lease = make.leased(tx, make.pool(tx))
    answers = [members.work(tx, lease.gang.id, lease.gang.session_hash)[1].leases for _ in range(2)]
    assert [[one.attempt for one in answer] for answer in answers] == [[lease.attempt]] * 2
    assert answers[0][0].input == {"text": "hello"} and 59 < answers[0][0].timeout_s <= 60


def _work(tx: Tx, gang: Gang) -> object:
    return members.work(tx, gang.id, gang.session_hash)


def _member(tx: Tx, gang: Gang) -> object:
    return members.member(tx, gang.id, gang.session_hash)


@pytest.mark.parametrize("call", [_work, _member])
def test_an_incarnation_that_is_over_is_told_so(tx: Tx, call: Callable[[Tx, Gang], object]) -> None:
    pool = make.pool(tx)
    superseded, gone, broken = (make.ready(tx, pool) for _ in range(3))
    make.hello(tx, superseded)
    gangs.end(tx, gone.id, Reason.IDLE, "idle")
    incarnations.break_incarnation(tx, broken.id, Reason.RANK_FAILED, "died", START, rank=0, node="n0")
    for gang, code in ((superseded, "gang_superseded"), (gone, "gang_gone"), (broken, "gang_superseded")):
        with pytest.raises(StaleLease) as refused:
            call(tx, gang)
        assert refused.value.code == code
    with pytest.raises(MusterError):
        call(tx, Gang(id="gng_" + "0" * 26, token="", session=superseded.session))


def test_the_gang_token_buys_nothing_but_a_hello(tx: Tx) -> None:
    gang = make.ready(tx, make.pool(tx))
    with pytest.raises(StaleLease):
        _work(tx, Gang(id=gang.id, token=gang.token, session=gang.token, incarnation=1))


def test_one_cancel_while_another_lease_lives_is_seen_in_the_same_answer(tx: Tx) -> None:
    lease = make.leased(tx, make.pool(tx))
    requests.cancel(tx, "default", lease.request)
    assert members.work(tx, lease.gang.id, lease.gang.session_hash)[1].leases == []
    assert make.request_row(tx, lease.request).state == "canceled"


def test_a_draining_gang_finishes_what_it_has_and_gets_no_more(tx: Tx) -> None:
    pool = make.pool(tx)
    lease = make.running(tx, pool)
    make.queued(tx, pool)
    gangs.drain(tx, lease.gang.id, Reason.IDLE, "drained by a person")
    member, duty = members.work(tx, lease.gang.id, lease.gang.session_hash)
    assert member.state == "draining" and duty.drain and len(duty.leases) == 1
    assert make.finish(tx, lease, Outcome.SUCCEEDED).state == "succeeded"
    assert make.assign(tx, pool) == ()


def test_the_last_word_of_an_incarnation_does_not_end_the_next(database: Database) -> None:
    """It may have been on its way while the ranks came back."""
    old = database.transact(lambda tx: make.ready(tx, make.pool(tx)))

    def farewell(tx: Tx) -> None:
        members.last_word(tx, old.id, old.session_hash)
        incarnations.break_incarnation(tx, old.id, Reason.GANG_LOST, "bye", START, rank=0, node=None)

    with behind(database, first=lambda tx: make.hello(tx, old), second=lambda: database.transact(farewell)) as late:
        pass
    with pytest.raises(StaleLease) as refused:
        late.result()
    assert refused.value.code == "gang_superseded"
    assert database.transact(lambda tx: make.gang_row(tx, old)).state == "loading"
