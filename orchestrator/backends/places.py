"""Every place where gangs of this installation run: one backend each, found by the name that a gang's row carries.

It knows names of places, and that one of them may refuse while the others answer. It must not know what a place is made
of, nor what is decided about gangs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from orchestrator.backends.base import Backend, Observed
from orchestrator.domain.addresses import Addresses
from orchestrator.errors import BackendError

log = logging.getLogger("muster.places")

Reopen = Callable[[str], Backend | None]
"""The place of this name, if it is one that this installation can have used before."""

SHUT_S = 30.0
"""So long a place must have let us do nothing, without a break, before that counts: a server that starts may err."""
QUIET_S = 30.0
"""So long a place that lets us do nothing is not asked to end what it may hold."""
_LOOKERS = 16


@dataclass(frozen=True, kw_only=True)
class Survey:
    """One look at all places: what those hold that answered, and why the others did not."""

    seen: Mapping[str, tuple[Observed, ...]]
    refused: Mapping[str, BackendError]


class Places:
    """For many threads."""

    def __init__(
        self, home: Backend, own: Mapping[str, Backend] | None = None, reopen: Reopen = lambda _: None
    ) -> None:
        """`own`: by tenant; two of them may be one place."""
        tenants = {tenant: backend.name for tenant, backend in (own or {}).items()}
        self._reopen = reopen
        self._current = {backend.name: backend for backend in (home, *(own or {}).values())}
        self._former: dict[str, Backend] = {}
        self._addresses = Addresses(home=home.name, own=tenants)
        self._last = Survey(seen={}, refused={})
        self._shut_since: dict[str, float] = {}
        self._quiet_until: dict[str, float] = {}
        self._guard = threading.Lock()
        self._lookers: ThreadPoolExecutor | None = None

    @property
    def addresses(self) -> Addresses:
        return self._addresses

    @property
    def refused(self) -> Mapping[str, BackendError]:
        """The places that did not answer the last survey, and why."""
        return self._last.refused

    def at(self, name: str) -> Backend:
        """Raises BackendError "unknown_place"."""
        found = self._current.get(name) or self._former.get(name)
        if found is None:
            raise BackendError(f"This installation runs no gangs at {name!r}.", code="unknown_place")
        return found

    def remember(self, named: Collection[str]) -> None:
        """Open places of earlier settings that rows still name; let those go that hold nothing any more."""
        with self._guard:
            kept = {
                name: backend for name, backend in self._former.items() if name in named or self._last.seen.get(name)
            }
            for name in set(named) - self._current.keys() - kept.keys():
                if (found := self._reopen(name)) is not None:
                    kept[name] = found
                    log.info("gangs of earlier settings are at %s", name, extra={"action": "place_opened"})
            left = [backend for name, backend in self._former.items() if name not in kept]
            self._former = kept
            known = self._addresses
            self._addresses = Addresses(home=known.home, own=known.own, former=tuple(sorted(kept)))
        for backend in left:
            backend.close()

    def survey(self) -> Survey:
        """Look at all places. None of them waits for another, as long as sixteen answer."""
        backends = {**self._current, **self._former}
        if len(backends) == 1:
            answers = [_look(backend) for backend in backends.values()]
        else:
            self._lookers = self._lookers or ThreadPoolExecutor(_LOOKERS, thread_name_prefix="muster-look")
            answers = list(self._lookers.map(_look, backends.values()))
        told = dict(zip(backends, answers, strict=True))
        survey = Survey(
            seen={name: answer for name, answer in told.items() if not isinstance(answer, BackendError)},
            refused={name: answer for name, answer in told.items() if isinstance(answer, BackendError)},
        )
        self._tell_of(survey)
        now, back = time.monotonic(), survey.seen.keys() & self._last.refused.keys()
        self._quiet_until = {name: until for name, until in self._quiet_until.items() if name not in back}
        self._last = survey
        shut = [name for name, error in survey.refused.items() if error.code == "namespace_gone"]
        self._shut_since = {name: self._shut_since.get(name, now) for name in shut}
        return survey

    @property
    def shut(self) -> Mapping[str, BackendError]:
        """The places that have let us do nothing for long."""
        long_ago = time.monotonic() - SHUT_S
        refused = self._last.refused
        return {name: refused[name] for name, since in self._shut_since.items() if since < long_ago and name in refused}

    def hush(self, name: str) -> None:
        """The place lets us do nothing."""
        self._quiet_until[name] = time.monotonic() + QUIET_S

    def is_quiet(self, name: str) -> bool:
        return time.monotonic() < self._quiet_until.get(name, 0.0)

    def close(self) -> None:
        """Let go of all. Gangs run on."""
        if self._lookers is not None:
            self._lookers.shutdown(wait=False, cancel_futures=True)
        for backend in (*self._current.values(), *self._former.values()):
            backend.close()

    def _tell_of(self, survey: Survey) -> None:
        """Of what changed, where there are several: of a single one its loop speaks."""
        if len(survey.seen) + len(survey.refused) == 1:
            return
        for name, error in survey.refused.items():
            if name not in self._last.refused:
                said = {"action": "place_refused", "place": name}
                log.warning("nothing is known of %s: %s", name, error.message, extra=said)
        for name in survey.seen.keys() & self._last.refused.keys():
            log.info("%s answers again", name, extra={"action": "place_back", "place": name})


def _look(backend: Backend) -> tuple[Observed, ...] | BackendError:
    try:
        return backend.observe()
    except BackendError as error:
        return error
