"""Fifty gangs launched at once on a real Kubernetes API: creates per second, calls per gang, none doubled (K6).

`python -m benchmarks.kubeflow` writes results/kubeflow.md; needs what tests/cluster/README.md names. Under a minute.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.results import Aim, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))
import builders as make
from behaving import KubeflowGround
from ground.cluster import Cluster

from orchestrator.backends.kubeflow_wall import Kube
from orchestrator.backends.places import Places
from orchestrator.domain.states import Reason
from orchestrator.loops import launch, observe
from orchestrator.loops.desk import Desk
from orchestrator.settings import Settings
from orchestrator.store import gangs, schema
from orchestrator.store.database import Database
from orchestrator.store.embedded import EmbeddedPostgres

GANGS, REPLICAS, LOOKS = 50, 2, 20
METHOD = f"""
etcd, kube-apiserver 1.20.2 and controller manager on this machine, with nobody who makes or runs pods; {GANGS} serve
gangs of two nodes planned in Postgres; {REPLICAS} replicas, each a thread with its own database connections, watches
and launch loop, all with one ServiceAccount that has exactly our Role. Launched as fast as they can, observed {LOOKS}
times by each replica, then ended and removed. Calls are counted where they leave for the API server; a watch counts
once.
"""


@dataclass
class Calls:
    """What went to the API server, by stage and kind of call."""

    stage: str = "start"

    def __post_init__(self) -> None:
        self.counted: Counter[tuple[str, str]] = Counter()
        self.careless: list[str] = []
        self._guard = threading.Lock()

    def note(self, method: str, path: str, query: Mapping[str, object] | None, *, watch: bool = False) -> None:
        parts = [part for part in path.split("/") if part]
        kinds = ("pytorchjobs", "pods", "secrets", "poddisruptionbudgets", "events")
        place = next((index for index, part in enumerate(parts) if part in kinds), -1)
        whole = place == len(parts) - 1
        verb = "WATCH" if watch else "LIST" if method == "GET" and whole and place >= 0 else method
        asked = query or {}
        with self._guard:
            self.counted[self.stage, f"{verb} {parts[place]}"] += 1
            if verb == "LIST" and "limit" in asked and "labelSelector" not in asked and asked["limit"] != 1:
                self.careless.append(path)
            if verb == "WATCH" and not (asked.get("labelSelector") and asked.get("resourceVersion")):
                self.careless.append(path)

    def of(self, stage: str) -> list[tuple[str, int]]:
        return sorted((call, count) for (at, call), count in self.counted.items() if at == stage)


@contextmanager
def counted() -> Iterator[Calls]:
    calls, call, watch = Calls(), Kube.call, Kube.watch

    def calling(self: Kube, method: str, path: str, body: Any = None, query: Any = None) -> Any:
        calls.note(method, path, query)
        return call(self, method, path, body, query)

    def watching(self: Kube, path: str, query: Any, lasts_s: float) -> Any:
        calls.note("GET", path, query, watch=True)
        return watch(self, path, query, lasts_s)

    Kube.call = calling
    Kube.watch = watching
    try:
        yield calls
    finally:
        Kube.call = call
        Kube.watch = watch


def main() -> None:
    result = Result(name="kubeflow", title="Fifty gangs at once", method=METHOD)
    with tempfile.TemporaryDirectory(prefix="muster-kubeflow-") as name:
        folder = Path(name)
        cluster = Cluster(folder, operator=False, kubelet=False)
        cluster.start()
        try:
            with EmbeddedPostgres(folder / "postgres") as postgres, counted() as calls:
                _measure(result, cluster, postgres.url, calls, folder)
        finally:
            cluster.stop()
    result.write()


def _measure(result: Result, cluster: Cluster, url: str, calls: Calls, folder: Path) -> None:
    namespace = cluster.namespace()
    ground = KubeflowGround(folder, namespace)
    desks = [_desk(url, ground, folder) for _ in range(REPLICAS)]
    database = desks[0].database
    schema.migrate(database)
    _plan(database, ground)
    for desk in desks:
        desk.places.survey()

    calls.stage = "launch"
    launch_s = _by_all(desks, lambda desk: launch.run_once(desk), lambda: _count(database, "planned") == 0)
    jobs = cluster.api.list("pytorchjobs", namespace.name)
    belongings = [len(cluster.api.list(kind, namespace.name)) for kind in ("secrets", "poddisruptionbudgets")]

    calls.stage = "observe"
    began = time.monotonic()
    for desk in desks:
        for _ in range(LOOKS):
            observe.run_once(desk)
    look_s = (time.monotonic() - began) / LOOKS / REPLICAS

    calls.stage = "remove"
    for gang in database.transact(gangs.living):
        database.transact(lambda tx, gang=gang: gangs.end(tx, gang, Reason.STOPPED, "measured"))  # type: ignore[misc]
    remove_s = _by_all(desks, lambda desk: launch.run_once(desk), lambda: _present(database) == 0)
    left = cluster.api.list("pytorchjobs", namespace.name)
    for desk in desks:
        desk.places.close()
        desk.database.close()
    _report(result, calls, jobs, belongings, left, launch_s, look_s, remove_s)


def _desk(url: str, ground: KubeflowGround, folder: Path) -> Desk:
    settings = Settings(folder=folder, api_urls=("http://127.0.0.1:1",), stop_grace=timedelta(seconds=1))
    return Desk(database=Database(url), places=Places(ground.open()), settings=settings, wake=lambda **_: None)


def _plan(database: Database, ground: KubeflowGround) -> None:
    template = ground.spec("stay", nodes=2, mode="serve").template

    def work(tx: make.Tx) -> None:
        pool = make.pool(tx, **{**template, "name": "digits"})
        for _ in range(GANGS):
            gangs.plan(tx, pool, backend=f"kubeflow:{ground.namespace}/muster")

    database.transact(work)


def _by_all(desks: list[Desk], work: Callable[[Desk], object], done: Callable[[], bool]) -> float:
    """Seconds until it is done by all replicas together."""
    began = time.monotonic()

    def walk(desk: Desk) -> None:
        while not done():
            work(desk)

    threads = [threading.Thread(target=walk, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    return time.monotonic() - began


def _count(database: Database, state: str) -> int:
    return database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM gang WHERE state = :s", s=state))


def _present(database: Database) -> int:
    return database.transact(lambda tx: make.count(tx, "SELECT count(*) FROM gang WHERE present"))


def _report(
    result: Result,
    calls: Calls,
    jobs: list[dict[str, Any]],
    belongings: list[int],
    left: list[dict[str, Any]],
    launch_s: float,
    look_s: float,
    remove_s: float,
) -> None:
    known = {job["metadata"]["labels"]["muster/gang-id"] for job in jobs}
    each = sum(count for _, count in calls.of("launch")) / GANGS
    result.aims = [
        Aim(
            what="PyTorchJobs, and gangs that have one",
            aim=f"{GANGS} and {GANGS}",
            measured=f"{len(jobs)} and {len(known)}",
            met=len(jobs) == len(known) == GANGS,
        ),
        Aim(
            what="Secrets and disruption budgets",
            aim=f"{GANGS} and {GANGS}",
            measured=" and ".join(map(str, belongings)),
            met=belongings == [GANGS, GANGS],
        ),
        Aim(
            what="lists of all and watches without a label selector, watches without a version",
            aim="0",
            measured=str(len(calls.careless)),
            met=not calls.careless,
        ),
        Aim(what="PyTorchJobs left after the removal", aim="0", measured=str(len(left)), met=not left),
    ]
    figures = [
        ("launches", f"{GANGS / launch_s:.1f} gangs/s", f"{launch_s:.1f} s for all {GANGS}"),
        ("calls per launch", f"{each:.1f}", "job, Secret, budget; one look for the version of policy per replica"),
        ("one look at all of them", f"{look_s * 1000:.0f} ms", "from the watched view, with two queries to Postgres"),
        ("removals", f"{GANGS / remove_s:.1f} gangs/s", f"{remove_s:.1f} s for all {GANGS}"),
    ]
    result.tables = [("Figures", ("what", "measured", ""), figures)]
    for stage in ("start", "launch", "observe", "remove"):
        result.tables.append((f"Calls: {stage}", ("call", "times"), calls.of(stage)))
    result.notes = [
        "Nobody bounds our creates but the API server: the training operator, with its own bound of 2 to 5 jobs/s"
        " (16 when told so by its flags), is far slower than either, so jobs wait for it, not for us.",
        f"Variables: KUBEBUILDER_ASSETS or MUSTER_KUBE; {'the real' if os.environ.get('MUSTER_KUBEFLOW_CRD') else 'a'}"
        f"{'' if os.environ.get('MUSTER_KUBEFLOW_CRD') else ' minimal'} definition of PyTorchJobs was served.",
    ]
    if result.load_before > (os.cpu_count() or 1):
        result.notes.append(
            "Others kept the machine busy (see the load below): seconds are upper bounds, counts are not."
        )
    result.samples = {"launch_s": launch_s, "look_s": look_s, "remove_s": remove_s}


if __name__ == "__main__":
    main()
