"""The watched view of one kind, against an API server that cuts, forgets, lags and reorders as a test says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Self, cast

import pytest
from races import eventually

from orchestrator.backends.kubeflow_names import Json
from orchestrator.backends.kubeflow_view import Watched
from orchestrator.backends.kubeflow_wall import Kube, Lost, Refused
from orchestrator.errors import BackendError

SLOWLY, AT_ONCE = timedelta(minutes=10), timedelta(seconds=0.3)


def thing(name: str, version: int, uid: str = "", **more: Any) -> Json:
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}, **more}


def changed(kind: str, one: Json) -> Json:
    return {"type": kind, "object": one}


CUT = Lost("cut", code="backend_unavailable")
GONE = Refused(410, "too old", "gone")


class Feed:
    """One watch: what a test tells, until it ends, is cut or closed."""

    def __init__(self) -> None:
        self.told: queue.Queue[Json | Exception | None] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Json]:
        while (one := self.told.get(timeout=20)) is not None:
            if isinstance(one, Exception):
                raise one
            yield one

    def close(self) -> None:
        self.told.put(None)


class Server:
    """What it lists, and the watches that are open on it."""

    def __init__(self) -> None:
        self.items: list[Json] = []
        self.version = 10
        self.meanwhile: Callable[[], None] = lambda: None
        self.behind: tuple[list[Json], int] | None = None  # what a server answers that is asked for no fresh list
        self.asked: list[Mapping[str, object]] = []
        self.from_versions: list[str] = []
        self.lasts_s: list[float] = []
        self.feeds: list[Feed] = []
        self.refusal: Exception | None = None
        self._guard = threading.Lock()

    def call(self, method: str, path: str, body: Json | None = None, query: Mapping[str, object] | None = None) -> Json:
        with self._guard:
            if self.refusal is not None:
                raise self.refusal
            self.asked.append(query or {})
            self.meanwhile()
            if self.behind is not None and "resourceVersion" in self.asked[-1]:
                items, version = self.behind
                return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}
            return {"metadata": {"resourceVersion": str(self.version)}, "items": list(self.items)}

    def watch(self, path: str, query: Mapping[str, object], lasts_s: float) -> Feed:
        with self._guard:
            self.lasts_s.append(lasts_s)
            if self.refusal is not None:
                raise self.refusal
            self.from_versions.append(str(query["resourceVersion"]))
            self.feeds.append(Feed())
            return self.feeds[-1]

    def tell(self, *told: Json | Exception | None) -> None:
        for one in told:
            self.feeds[-1].told.put(one)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def view(server: Server) -> Iterator[Watched]:
    yield from opened(server, SLOWLY)


def opened(server: Server, resync: timedelta) -> Iterator[Watched]:
    view = Watched(cast(Kube, server), "/things", "ours=yes", resync)
    view.start()
    yield view
    view.close()


def names(view: Watched) -> dict[str, int]:
    return {one["metadata"]["name"]: int(one["metadata"]["resourceVersion"]) for one in view.all()}


def test_the_first_list_is_consistent_and_the_watch_goes_on_from_it(server: Server, view: Watched) -> None:
    server.items = [thing("a", 3)]

    eventually(lambda: server.feeds)
    server.tell(
        changed("ADDED", thing("b", 12)), changed("MODIFIED", thing("a", 13)), changed("DELETED", thing("b", 14))
    )

    eventually(lambda: names(view) == {"a": 13})
    assert server.asked == [{"labelSelector": "ours=yes", "limit": 500}]
    assert server.from_versions == ["10"]


def test_events_out_of_order_never_turn_an_object_back(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(
        changed("ADDED", thing("a", 15)),
        changed("MODIFIED", thing("a", 11)),
        changed("DELETED", thing("b", 16)),
        changed("ADDED", thing("b", 12)),
        changed("ADDED", thing("end", 17)),
    )

    eventually(lambda: "end" in names(view))
    assert names(view) == {"a": 15, "end": 17}


def test_a_deletion_of_an_earlier_object_leaves_the_later_one_of_its_name(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("ADDED", thing("a", 15, uid="second")), changed("DELETED", thing("a", 14, uid="first")))
    server.tell(changed("ADDED", thing("end", 17)))

    eventually(lambda: "end" in names(view))
    assert names(view) == {"a": 15, "end": 17}


def test_a_cut_watch_is_said_until_it_is_up_again_and_goes_on_where_it_was(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("ADDED", thing("a", 12)))
    eventually(lambda: names(view) == {"a": 12})
    server.refusal = CUT

    server.tell(CUT)

    eventually(lambda: _raises(view))
    server.refusal = None
    eventually(lambda: len(server.feeds) == 2)
    eventually(lambda: not _raises(view))
    assert names(view) == {"a": 12}
    assert server.from_versions == ["10", "12"]
    assert len(server.asked) == 1


def _raises(view: Watched) -> bool:
    try:
        view.all()
    except BackendError:
        return True
    return False


def test_a_bookmark_moves_the_version_that_the_next_watch_begins_from(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("BOOKMARK", {"metadata": {"resourceVersion": "40"}}), None)

    eventually(lambda: len(server.feeds) == 2)
    assert server.from_versions == ["10", "40"]


def test_after_410_everything_is_listed_anew(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("ADDED", thing("a", 12)), changed("ADDED", thing("b", 13)))
    eventually(lambda: len(names(view)) == 2)
    server.items, server.version = [thing("b", 30), thing("c", 31)], 31  # what happened while nobody told us

    server.tell(GONE)

    eventually(lambda: len(server.feeds) == 2)
    eventually(lambda: not _raises(view) and names(view) == {"b": 30, "c": 31})
    assert server.from_versions[-1] == "31"


def test_a_list_from_a_server_that_is_behind_is_not_believed(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("ADDED", thing("a", 20)), changed("BOOKMARK", {"metadata": {"resourceVersion": "22"}}))
    server.tell(changed("ADDED", thing("b", 23)), changed("DELETED", thing("b", 24)))
    eventually(lambda: names(view) == {"a": 20})
    server.items, server.version = [thing("a", 20)], 24
    server.behind = ([], 15)

    server.tell(GONE)

    eventually(lambda: len(server.feeds) == 2 and not _raises(view))
    assert {"resourceVersion": 24, "resourceVersionMatch": "NotOlderThan"}.items() <= server.asked[1].items()
    assert "resourceVersion" not in server.asked[2]
    assert names(view) == {"a": 20}


def test_storage_that_was_restored_from_a_backup_is_believed(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("ADDED", thing("a", 20)), changed("ADDED", thing("b", 21)))
    eventually(lambda: len(names(view)) == 2)
    server.items, server.version = [thing("a", 12)], 15

    server.tell(GONE)

    eventually(lambda: len(server.feeds) == 2 and not _raises(view))
    assert names(view) == {"a": 12}
    server.tell(changed("MODIFIED", thing("a", 16)))
    eventually(lambda: names(view) == {"a": 16})


def test_what_was_seen_deleted_does_not_come_back_with_a_list(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.tell(changed("ADDED", thing("a", 12)), changed("DELETED", thing("a", 13)), changed("ADDED", thing("b", 14)))
    eventually(lambda: names(view) == {"b": 14})
    server.items, server.version = [thing("a", 12), thing("b", 14)], 14

    server.tell(GONE)

    eventually(lambda: len(server.feeds) == 2)
    assert names(view) == {"b": 14}


def test_what_a_watch_swallowed_is_known_within_one_resync(server: Server) -> None:
    given = opened(server, AT_ONCE)
    view = next(given)
    eventually(lambda: server.feeds)
    server.items, server.version = [thing("a", 12)], 12

    assert server.lasts_s[0] <= AT_ONCE.total_seconds()
    eventually(lambda: _ended(server) and names(view) == {"a": 12})
    next(given, None)


def _ended(server: Server) -> bool:
    server.tell(None)  # as the server ends a watch that was not to last longer
    return True


def test_what_we_wrote_ourselves_is_seen_at_once_and_survives_an_older_list(server: Server, view: Watched) -> None:
    eventually(lambda: server.feeds)
    server.meanwhile = lambda: view.absorb(thing("mine", 25))  # while it lists what was before
    server.version = 24

    server.tell(GONE)

    eventually(lambda: len(server.feeds) == 2 and not _raises(view))
    assert names(view) == {"mine": 25}


def test_a_view_that_never_saw_anything_says_why(server: Server) -> None:
    server.refusal = Refused(403, "forbidden: list", "forbidden")
    for view in opened(server, SLOWLY):
        with pytest.raises(BackendError, match="forbidden: list"):
            view.all()
