"""What is remembered of the API server's answers, for how long, and what happens when none comes. No API server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.api import access
from orchestrator.api.access import Access
from orchestrator.api.auth import require
from orchestrator.domain.access import Permission, Question, user
from orchestrator.errors import BackendError, Forbidden, Unavailable
from orchestrator.settings import Settings

ADA = user("ada@example.org", [])


@dataclass
class Answers:
    """Says what it is told to say; `now` is the time."""

    says: bool | Exception = True
    asked: list[Question] = field(default_factory=list)
    now: float = 1000.0

    def allowed(self, question: Question) -> bool:
        self.asked.append(question)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    there = Answers()
    monkeypatch.setattr(access, "time", there)
    return there


def opened(answers: Answers | None, *namespaces: str) -> Access:
    return Access(answers, Settings(folder=Path("/nowhere"), namespace="home", gateway_namespaces=namespaces))


async def settled() -> None:
    """Until the other questions of the same moment had their answers too."""
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)


def test_an_answer_holds_for_five_seconds_and_no_longer(answers: Answers) -> None:
    async def work() -> None:
        there = opened(answers)
        assert (await there.identity(ADA, "home")).permissions == set(Permission) - {Permission.ADMINISTER}
        answers.says = False
        answers.now += access.REMEMBERED_S - 0.01
        assert (await there.identity(ADA, "home")).may(Permission.CANCEL)
        answers.now += 0.02
        assert (await there.identity(ADA, "home")).permissions == frozenset()
        assert len(answers.asked) == 12

    asyncio.run(work())


def test_a_no_is_remembered_like_a_yes(answers: Answers) -> None:
    async def work() -> None:
        there = opened(answers)
        answers.says = False
        for _ in range(3):
            assert not (await there.identity(ADA, "home")).permissions
        assert len(answers.asked) == 6

    asyncio.run(work())


def test_after_no_answer_nobody_is_asked_for_a_moment(answers: Answers) -> None:
    """Else each call would hold a thread until the time for an answer is over."""

    async def work() -> None:
        there = opened(answers)
        answers.says = BackendError("away", code="backend_unavailable")
        with pytest.raises(Unavailable):
            await there.identity(ADA, "home")
        await settled()
        asked = len(answers.asked)
        answers.says = True
        answers.now += access.QUIET_S - 0.01
        with pytest.raises(Unavailable):
            await there.identity(ADA, "home")
        assert len(answers.asked) == asked
        answers.now += 0.02
        assert (await there.identity(ADA, "home")).may(Permission.SEE)

    asyncio.run(work())


def test_no_answer_is_never_remembered_as_one(answers: Answers) -> None:
    async def work() -> None:
        there = opened(answers)
        assert await there.allowed(Question(user=ADA, namespace="home", verb="list"))
        answers.now += access.REMEMBERED_S + 1
        answers.says = BackendError("away", code="backend_unavailable")
        with pytest.raises(Unavailable):
            await there.allowed(Question(user=ADA, namespace="home", verb="list"))

    asyncio.run(work())


def test_where_there_is_nobody_to_ask_nobody_may_do_anything(answers: Answers) -> None:
    async def work() -> None:
        with pytest.raises(Unavailable):
            await opened(None).identity(ADA, "home")

    asyncio.run(work())


def test_of_a_namespace_that_is_not_served_nothing_is_asked(answers: Answers) -> None:
    async def work() -> None:
        there = opened(answers)
        assert not (await there.identity(ADA, "elsewhere")).permissions
        assert answers.asked == []

    asyncio.run(work())


def test_what_is_remembered_has_a_bound_and_the_oldest_goes(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_REMEMBERED", 10)

    async def work() -> None:
        there = opened(answers, "*")
        for number in range(50):
            await there.allowed(Question(user=ADA, namespace=f"n{number}", verb="list"))
            await asyncio.sleep(0)
        assert len(there._known) <= 10
        asked = len(answers.asked)
        await there.allowed(Question(user=ADA, namespace="n49", verb="list"))
        assert len(answers.asked) == asked

    asyncio.run(work())


def test_one_who_goes_away_does_not_take_the_answer_from_the_others(answers: Answers) -> None:
    async def work() -> None:
        there, question = opened(answers), Question(user=ADA, namespace="home", verb="list")
        first, second = (asyncio.create_task(there.allowed(question)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second
        assert len(answers.asked) == 1

    asyncio.run(work())


@pytest.mark.parametrize(
    ("named", "namespace", "served"),
    [
        ((), "home", True),
        ((), "team-a", False),
        (("team-a", "team-b"), "team-b", True),
        (("team-a",), "home", False),
        (("*",), "team-z", True),
        (("*",), "default", False),
        (("*", "default"), "default", True),
        (("*",), "Team", False),
    ],
)
def test_which_namespaces_are_served(answers: Answers, named: tuple[str, ...], namespace: str, served: bool) -> None:
    assert opened(answers, *named).serves(namespace) is served


def test_of_very_many_tenants_only_so_many_are_looked_at(answers: Answers) -> None:
    async def work() -> None:
        tenants = [f"team-{number}" for number in range(1000)]
        answers.says = False
        assert await opened(answers, "*").visible(ADA, tenants) == ()
        assert len(answers.asked) == access.MOST_NAMESPACES + 1

    asyncio.run(work())


@pytest.mark.parametrize("may_there", [True, False])
def test_a_template_of_another_namespace_needs_the_right_to_run_its_code_where_gangs_run(
    answers: Answers, may_there: bool
) -> None:
    """Else whoever may change PyTorchJobs in one namespace would run code with the Secrets of the other."""

    class ByNamespace(Answers):
        def allowed(self, question: Question) -> bool:
            super().allowed(question)
            return question.namespace == "team-a" or may_there

    async def work() -> None:
        settings = Settings(folder=Path("/nowhere"), backend="kubeflow", namespace="home", gateway_namespaces=("*",))
        identity = await Access(ByNamespace(), settings).identity(ADA, "team-a")
        assert identity.may(Permission.MANAGE) is may_there
        assert identity.permissions >= {Permission.SEE, Permission.SUBMIT, Permission.CANCEL, Permission.STEER}
        if not may_there:
            with pytest.raises(Forbidden, match=r"'team-a' and in 'home', where its gangs run"):
                require(identity, Permission.MANAGE)

    asyncio.run(work())


def test_where_gangs_run_in_the_namespace_itself_its_own_people_change_its_templates(answers: Answers) -> None:
    class OfTeamA(Answers):
        def allowed(self, question: Question) -> bool:
            super().allowed(question)
            return question.namespace == "team-a"

    async def work() -> None:
        reviews = OfTeamA()
        settings = Settings(
            folder=Path("/nowhere"), backend="kubeflow", namespace="home", gang_namespaces=("team-a", "team-b")
        )
        there = Access(reviews, settings)
        assert (await there.identity(ADA, "team-a")).may(Permission.MANAGE)
        assert {question.namespace for question in reviews.asked} == {"team-a"}
        assert not (await there.identity(ADA, "team-b")).permissions
        assert [there.serves(one) for one in ("home", "team-a", "team-b", "team-c")] == [True, True, True, False]
        assert there.only() is None

    asyncio.run(work())
