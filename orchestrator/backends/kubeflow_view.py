"""What the API server holds of ours, kept up to date by list and watch: one Watched per kind.

It knows lists, watches and versions of objects. It must not know what the objects mean.

A watch may be cut, may end, may have been away for too long (410), and after that a list may come from a server that is
behind. So: versions never go back, an object that was seen deleted does not come back, everything is listed anew once
per resync whatever the watch said, and a view that is cut off says so instead of answering.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable
from datetime import timedelta

from orchestrator.backends.kubeflow_names import Json, name_of, uid_of
from orchestrator.backends.kubeflow_wall import Kube, Lost, Refused, Watch
from orchestrator.errors import BackendError

log = logging.getLogger("muster.kubeflow")

FIRST_LOOK = timedelta(seconds=15)
"""How long the first question waits for the first list."""
_PAUSE_S = (0.2, 5.0)
_REMEMBER_DEAD_S = 300.0
_PAGE = 500


class Watched:
    """All objects of one kind that a selector chooses, by name."""

    def __init__(self, kube: Kube, path: str, selector: str, resync: timedelta) -> None:
        self._kube = kube
        self._path = path
        self._selector = selector
        self._resync_s = resync.total_seconds() * random.uniform(0.75, 1.0)  # noqa: S311 - not all at a time
        self._guard = threading.Condition()
        self._things: dict[str, Json] = {}
        self._dead: dict[str, float] = {}  # UID -> when
        self._version = ""  # to watch from
        self._newest = 0  # that the server told us of, even if no watch can begin there any more
        self._listed_at = float("-inf")
        self._trouble: BackendError | None = None
        self._fresh = False
        self._watch: Watch | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"muster-watch-{path.rsplit('/')[-1]}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        with self._guard:
            watch = self._watch
        if watch is not None:
            watch.close()
        self._thread.join(timeout=2)

    def all(self) -> list[Json]:
        """As of now. Raises BackendError while nobody tells us of changes."""
        with self._guard:
            self._guard.wait_for(lambda: self._fresh or self._trouble, FIRST_LOOK.total_seconds())
            if not self._fresh:
                raise self._trouble or Lost("The Kubernetes API has not answered yet.", code="backend_unavailable")
            return list(self._things.values())

    def peek(self) -> list[Json] | None:
        """The same without a wait; None while nobody tells us of changes."""
        with self._guard:
            return list(self._things.values()) if self._fresh else None

    def absorb(self, thing: Json) -> None:
        """What a call of our own just answered: whoever wrote it sees it at once."""
        with self._guard:
            self._put(thing)

    def forget(self, thing: Json) -> None:
        """We just saw it gone."""
        with self._guard:
            self._drop(thing)

    # on the thread

    def _run(self) -> None:
        pause_s = _PAUSE_S[0]
        while not self._over.is_set():
            try:
                if not self._version or time.monotonic() - self._listed_at > self._resync_s:
                    self._list()
                self._follow()
                pause_s = _PAUSE_S[0]
            except Refused as refused:
                self._note(refused)
            except BackendError as error:
                self._note(error)
            except Exception as error:  # an answer that is no Kubernetes: say so and try again
                log.exception("a defect in the watch of %s", self._path, extra={"action": "defect", "path": self._path})
                self._note(BackendError(f"The watch of {self._path} broke: {error!r}.", code="backend_unavailable"))
            else:
                continue
            self._over.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrets
            pause_s = min(_PAUSE_S[1], pause_s * 2)

    def _note(self, error: BackendError) -> None:
        gone = isinstance(error, Refused) and error.status == 410
        with self._guard:
            if gone:
                self._version = ""  # the next pass lists; until then what we hold may be old
            if not self._over.is_set() and (self._trouble is None or self._fresh):
                said = {"action": "watch_failed", "path": self._path}
                log.warning("watch of %s: %s", self._path, error.message, extra=said)
            self._fresh, self._trouble = False, error
            self._guard.notify_all()

    def _list(self) -> None:
        """The first list is read from the quorum; later ones may come from any server that is not behind us."""
        with self._guard:
            newest = self._newest
        everything: dict[str, object] = {"labelSelector": self._selector, "limit": _PAGE}
        not_older: dict[str, object] = {"resourceVersion": newest, "resourceVersionMatch": "NotOlderThan"}
        try:
            items, version = self._pages(everything | (not_older if newest else {}))
        except Refused as refused:
            if not newest or refused.status not in (400, 410, 500, 504):
                raise
            items, version = self._pages(everything)
        if _number(version) < newest:
            items, version = self._pages(everything)
        with self._guard:
            if _number(version) < newest:
                self._forget_everything(version)
            self._replace(items, version)
            self._listed_at = time.monotonic()

    def _pages(self, query: dict[str, object]) -> tuple[list[Json], str]:
        items: list[Json] = []
        asked = query
        while True:
            answer = self._kube.call("GET", self._path, query=asked)
            items += answer["items"]
            token = answer["metadata"].get("continue")
            if not token:
                return items, str(answer["metadata"]["resourceVersion"])
            asked = {"labelSelector": self._selector, "limit": _PAGE, "continue": token}

    def _follow(self) -> None:
        query = {"labelSelector": self._selector, "resourceVersion": self._version}
        until_resync_s = self._listed_at + self._resync_s - time.monotonic()
        with self._kube.watch(self._path, query, until_resync_s) as watch:
            with self._guard:
                self._watch, self._fresh, self._trouble = watch, True, None
                self._guard.notify_all()
            for event in watch:
                self._take(event)
                if self._over.is_set() or time.monotonic() - self._listed_at > self._resync_s:
                    return

    def _take(self, event: Json) -> None:
        thing = event["object"]
        with self._guard:
            match event["type"]:
                case "BOOKMARK":
                    pass
                case "DELETED":
                    self._drop(thing)
                case _:
                    self._put(thing)
            if _version(thing) > _number(self._version):
                self._version = str(thing["metadata"]["resourceVersion"])
                self._newest = max(self._newest, _version(thing))

    # under the guard

    def _forget_everything(self, version: str) -> None:
        """The quorum itself is behind us: its storage was restored from a backup. It is right, whatever we saw."""
        said = {"action": "watch_reset", "path": self._path}
        log.warning("%s went back to version %s", self._path, version, extra=said)
        self._things, self._dead, self._newest = {}, {}, 0

    def _replace(self, items: Iterable[Json], version: str) -> None:
        listed = {name_of(item): item for item in items if uid_of(item) not in self._dead}
        for name, known in self._things.items():
            if _version(known) > max(_number(version), _version(listed[name]) if name in listed else 0):
                listed[name] = known  # younger than the list
        self._things, self._version = listed, version
        self._newest = max(self._newest, _number(version))
        long_ago = time.monotonic() - _REMEMBER_DEAD_S
        self._dead = {uid: at for uid, at in self._dead.items() if at > long_ago}

    def _put(self, thing: Json) -> None:
        known = self._things.get(name_of(thing))
        if uid_of(thing) in self._dead or (known is not None and _version(known) > _version(thing)):
            return
        self._things[name_of(thing)] = thing
        self._newest = max(self._newest, _version(thing))

    def _drop(self, thing: Json) -> None:
        self._dead[uid_of(thing)] = time.monotonic()
        known = self._things.get(name_of(thing))
        if known is not None and uid_of(known) == uid_of(thing):
            del self._things[name_of(thing)]


def _version(thing: Json) -> int:
    return _number(thing["metadata"].get("resourceVersion", ""))


def _number(version: str) -> int:
    """Versions of one kind may be compared as numbers: so says Kubernetes since 1.35, so was it always."""
    return int(version) if version.isdigit() else 0
