"""A replica killed between every two steps of a launch and of a removal: after it comes back there is exactly one
object where a gang is wanted, and none where it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import builders as make
import pytest
from behaving import KubeflowGround
from ground.cluster import Cluster, Namespace, until
from sqlalchemy import text

from orchestrator.domain.states import Reason
from orchestrator.store import gangs
from orchestrator.store.database import Database

pytestmark = pytest.mark.cluster

LAUNCHING = ("to_launch", "add_token", "POST pytorchjobs", "POST secrets", "POST poddisruptionbudgets", "launched")
STOPPING = ("DELETE pytorchjobs", "DELETE pods", "absent")

Run = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def ground(namespace: Namespace, tmp_path: Path) -> KubeflowGround:
    return KubeflowGround(tmp_path, namespace)


@pytest.fixture
def replica(database: Database, namespace: Namespace, tmp_path: Path) -> Run:
    """One life of a replica that dies at the given point."""

    def run(point: str) -> subprocess.Popen[bytes]:
        settings = {
            "MUSTER_HOME": str(tmp_path),
            "MUSTER_BACKEND": "kubeflow",
            "MUSTER_NAMESPACE": namespace.name,
            "MUSTER_KUBECONFIG": str(namespace.kubeconfig),
            "MUSTER_DATABASE_URL": database.url,
            "MUSTER_API_URLS": "http://127.0.0.1:1",
            "MUSTER_STOP_GRACE": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with (tmp_path / "replica.log").open("ab") as log:
            command = [sys.executable, Path(__file__).with_name("dying.py"), point]
            return subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)

    return run


@contextmanager
def living(replica: Run) -> Iterator[None]:
    """One that stays, until the block ends."""
    process = replica("never")
    try:
        yield
    finally:
        process.kill()
        process.wait(timeout=10)


def die_at(replica: Run, point: str) -> None:
    process = replica(point)
    try:
        assert process.wait(timeout=30) == -signal.SIGKILL
    finally:
        process.kill()


def planned(database: Database, ground: KubeflowGround) -> str:
    """A serve gang that somebody wants, with two nodes."""
    template = ground.spec("stay", nodes=2).template

    def work(tx: make.Tx) -> str:
        pool = make.pool(tx, **{**template, "name": "digits"})
        return gangs.plan(tx, pool, backend=f"kubeflow:{ground.namespace}/muster")

    return database.transact(work)


def state_of(database: Database, gang: str) -> tuple[str, bool]:
    row = database.transact(
        lambda tx: tx.execute(text("SELECT state, present FROM gang WHERE id = :g"), {"g": gang}).one()
    )
    return row.state, row.present


def give_up(database: Database, gang: str) -> None:
    database.transact(lambda tx: gangs.end(tx, gang, Reason.STOPPED, "not wanted any more"))


def objects(cluster: Cluster, namespace: Namespace) -> dict[str, list[Any]]:
    kinds = ("pytorchjobs", "secrets", "poddisruptionbudgets", "pods")
    return {kind: cluster.api.list(kind, namespace.name) for kind in kinds}


@pytest.mark.parametrize("point", LAUNCHING)
def test_killed_in_a_launch_there_is_one_gang_after_it(
    database: Database, ground: KubeflowGround, replica: Run, cluster: Cluster, namespace: Namespace, point: str
) -> None:
    gang = planned(database, ground)
    die_at(replica, point)

    with living(replica):
        until(lambda: state_of(database, gang)[0] == "launching", "the gang is launched")
        until(lambda: ground.starts() == 2, "both nodes run")
        found = objects(cluster, namespace)
        assert {kind: len(things) for kind, things in found.items()} == {
            "pytorchjobs": 1,
            "secrets": 1,
            "poddisruptionbudgets": 1,
            "pods": 2,
        }
        owner = found["pytorchjobs"][0]["metadata"]["uid"]
        for kind in ("secrets", "poddisruptionbudgets"):
            assert found[kind][0]["metadata"]["ownerReferences"][0]["uid"] == owner
        give_up(database, gang)
        until(lambda: state_of(database, gang) == ("gone", False), "nothing of the gang is left")

    until(lambda: not cluster.ours(namespace.name), "no object is left")
    assert ground.starts() == 2


@pytest.mark.parametrize("point", LAUNCHING)
def test_killed_in_a_launch_that_is_not_wanted_any_more_there_is_nothing_after_it(
    database: Database, ground: KubeflowGround, replica: Run, cluster: Cluster, namespace: Namespace, point: str
) -> None:
    gang = planned(database, ground)
    die_at(replica, point)
    give_up(database, gang)

    with living(replica):
        until(lambda: state_of(database, gang) == ("gone", False), "nothing of the gang is left")
        until(lambda: not cluster.ours(namespace.name), "no object is left")


@pytest.mark.parametrize("point", STOPPING)
def test_killed_in_a_removal_there_is_nothing_after_it(
    database: Database, ground: KubeflowGround, replica: Run, cluster: Cluster, namespace: Namespace, point: str
) -> None:
    gang = planned(database, ground)
    with living(replica):
        until(lambda: ground.starts() == 2, "both nodes run")
        until(lambda: state_of(database, gang)[0] == "launching", "the gang is launched")
    give_up(database, gang)
    die_at(replica, point)

    with living(replica):
        until(lambda: state_of(database, gang) == ("gone", False), "nothing of the gang is left")
        until(lambda: not cluster.ours(namespace.name), "no object is left")
    assert ground.starts() == 2


def test_a_job_that_no_row_knows_is_removed(
    ground: KubeflowGround, replica: Run, cluster: Cluster, namespace: Namespace
) -> None:
    backend = ground.open()
    backend.launch(ground.spec("stay", gang="gng_nobody"))
    backend.close()

    with living(replica):
        until(lambda: not cluster.ours(namespace.name), "the orphan is removed")
