"""List and watch of one kind over all namespaces, on a thread; tells a stand-in what changed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx

from .api import Api, Json, Refused


class Mirror:
    """`changed` is called with every object after each change of it, also after its deletion."""

    def __init__(self, api: Api, kind: str, changed: Callable[[Json], None]) -> None:
        self._api = api
        self._kind = kind
        self._changed = changed
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._things: dict[str, Json] = {}
        self._thread = threading.Thread(target=self._run, name=f"mirror-{kind}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def all(self) -> list[Json]:
        with self._guard:
            return list(self._things.values())

    def get(self, namespace: str, name: str) -> Json | None:
        with self._guard:
            return self._things.get(f"{namespace}/{name}")

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow(self._load())
            except (Refused, httpx.HTTPError, RuntimeError, ValueError):
                self._stop.wait(0.2)

    def _load(self) -> str:
        answer = self._api.call("GET", f"{_root(self._kind)}/{self._kind}")
        fresh = {_key(item): item for item in answer["items"]}
        with self._guard:
            gone = [thing for key, thing in self._things.items() if key not in fresh]
            self._things = dict(fresh)
        for thing in [*fresh.values(), *gone]:
            self._changed(thing)
        return str(answer["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        for event in self._api.watch(self._kind, version):
            thing = event["object"]
            if self._stop.is_set() or event["type"] == "ERROR":
                return
            with self._guard:
                if event["type"] == "DELETED":
                    self._things.pop(_key(thing), None)
                else:
                    self._things[_key(thing)] = thing
            self._changed(thing)


def _key(thing: Json) -> str:
    return f"{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def _root(kind: str) -> str:
    return "/apis/kubeflow.org/v1" if kind == "pytorchjobs" else "/api/v1"
