"""What users of Kubernetes may do, by the word of its API server, remembered for a few seconds.

Where the API server does not answer, nobody may do anything (503): no answer is ever taken for a yes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio.to_thread
from anyio import CapacityLimiter

from orchestrator.domain.access import (
    ALL_VERBS,
    VERBS,
    Identity,
    Permission,
    Question,
    Reviews,
    User,
    granted,
    is_namespace,
)
from orchestrator.errors import BackendError, Unavailable
from orchestrator.settings import OPERATOR, Settings

log = logging.getLogger("muster.access")

REMEMBERED_S = 5.0
MOST_REMEMBERED = 20_000
AT_ONCE = 16
MOST_ASKED = 2_000
QUIET_S = 1.0
"""So long nobody is asked after an answer did not come."""
ANY = "*"
MOST_NAMESPACES = 200
"""Looked at for one user who asks for all."""


@dataclass
class Access:
    """Asks each question once, for all who want to know."""

    reviews: Reviews | None
    settings: Settings
    entered: set[str] = field(default_factory=set)
    """Namespaces that are known to be tenants."""
    _known: dict[Question, tuple[float, bool]] = field(default_factory=dict)
    _asked: dict[Question, asyncio.Future[bool]] = field(default_factory=dict)
    _quiet_until: float = 0.0
    _limiter: CapacityLimiter | None = None

    async def identity(self, user: User, namespace: str) -> Identity:
        """The user in this namespace, with what may be done there. Raises Unavailable."""
        permissions = granted(await self._verbs(user, namespace, ALL_VERBS)) if self.serves(namespace) else frozenset()
        gangs_in = self._gangs_in(namespace)
        if gangs_in is not None and Permission.MANAGE in permissions:
            there = granted(await self._verbs(user, gangs_in, VERBS[Permission.MANAGE]))
            permissions -= {Permission.MANAGE} - there
        return Identity(name=user.name, tenant=namespace, permissions=permissions, user=user, gangs_in=gangs_in)

    async def _verbs(self, user: User, namespace: str, verbs: Iterable[str]) -> list[str]:
        """Those of `verbs` that the user has there."""
        questions = [Question(user=user, namespace=namespace, verb=verb) for verb in verbs]
        answers = await asyncio.gather(*map(self.allowed, questions))
        return [one.verb for one, yes in zip(questions, answers, strict=True) if yes]

    def _gangs_in(self, namespace: str) -> str | None:
        """Where a template of this namespace says what runs, Secrets and claims at hand, if that is another one."""
        there = self.settings.gangs_in(namespace)
        return there if self.settings.backend == "kubeflow" and there != namespace else None

    async def visible(self, user: User, tenants: Iterable[str]) -> tuple[str, ...]:
        """Of the namespaces of this installation those that the user may list; where it serves any, of `tenants`."""
        named = {one for one in self._named() if one != ANY}
        known = named | ({*tenants, user.home or ""} if ANY in self._named() else set())
        looked_at = [one for one in sorted(known) if is_namespace(one) and self.serves(one)][:MOST_NAMESPACES]
        if await self.allowed(Question(user=user, namespace="", verb="list")):
            return tuple(looked_at)
        questions = [Question(user=user, namespace=one, verb="list") for one in looked_at]
        answers = await asyncio.gather(*map(self.allowed, questions))
        return tuple(one.namespace for one, yes in zip(questions, answers, strict=True) if yes)

    def serves(self, namespace: str) -> bool:
        """Whether users may act for it at all."""
        named = self._named()
        return namespace in named or (ANY in named and namespace != OPERATOR and is_namespace(namespace))

    def only(self) -> str | None:
        """The namespace, where there is no choice."""
        named = self._named()
        return named[0] if len(named) == 1 and named[0] != ANY else None

    def _named(self) -> tuple[str, ...]:
        at_hand = dict.fromkeys((self.settings.namespace, *self.settings.gang_namespaces))
        return self.settings.gateway_namespaces or tuple(at_hand)

    async def allowed(self, question: Question) -> bool:
        """Raises Unavailable where nobody can say."""
        known = self._known.get(question)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        asked = self._asked.get(question)
        if asked is None:
            asked = self._asked[question] = asyncio.ensure_future(self._ask(question))
            asked.add_done_callback(lambda done: self._over(question, done))
        return await asyncio.shield(asked)

    def _over(self, question: Question, done: asyncio.Future[bool]) -> None:
        self._asked.pop(question, None)
        if not done.cancelled() and done.exception() is None:
            while len(self._known) >= MOST_REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known.pop(question, None)
            self._known[question] = (time.monotonic() + REMEMBERED_S, done.result())

    async def _ask(self, question: Question) -> bool:
        if self.reviews is None or len(self._asked) > MOST_ASKED or time.monotonic() < self._quiet_until:
            raise _nobody_says()
        self._limiter = self._limiter or CapacityLimiter(AT_ONCE)
        reviews = self.reviews
        try:
            return await anyio.to_thread.run_sync(lambda: reviews.allowed(question), limiter=self._limiter)
        except BackendError as error:
            self._quiet_until = time.monotonic() + QUIET_S
            log.warning("nobody says who may do what: %s", error.message, extra={"action": "review_failed"})
            raise _nobody_says() from error


def _nobody_says() -> Unavailable:
    return Unavailable("the Kubernetes API does not say what this user may do; nothing was changed: try again")
