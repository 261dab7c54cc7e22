"""`muster serve` with the Kubeflow backend: a process over a database of its own, in one namespace of the cluster."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.stage import processes
from acceptance.stage.services import Replica, Stage, free_port
from acceptance.stage.templates import echo
from ground.cluster import Cluster, Namespace, until

from orchestrator.client import Client, Gang
from orchestrator.service.offline import first_token
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

IMAGE = "registry.example/muster/worker:1"


class Served(Stage):
    """One replica that can be killed and started again on the same port; its gangs outlive it."""

    def __init__(self, home: Path, database: Database, cluster: Cluster, namespace: Namespace, **settings: str) -> None:
        self.home = home
        self.cluster = cluster
        self.namespace = namespace.name
        self._database = database
        port = free_port()
        self.replica = Replica(
            "serve",
            home,
            port,
            {
                "MUSTER_BACKEND": "kubeflow",
                "MUSTER_NAMESPACE": namespace.name,
                "MUSTER_KUBECONFIG": str(namespace.kubeconfig),
                "MUSTER_DATABASE_URL": database.url,
                "MUSTER_API_URLS": f"http://127.0.0.1:{port}",
                **settings,
            },
        )

    def start(self) -> None:
        """Also again after kill()."""
        self.replica.begin()
        self.replica.await_ready()
        if not hasattr(self, "client"):
            self.token = first_token(self._database.url, name="test", scopes=tuple(Scope))
            self.client = Client(self.replica.url, self.token)

    def kill(self) -> None:
        self.replica.kill()

    def close(self) -> None:
        """Every gang is asked to go; then nothing of ours is left in the namespace."""
        try:
            for pool in self.client.pools():
                self.client.set_pool(pool.name, min=0, max=0)
            for gang in self.client.gangs():
                if gang.state != "gone":
                    self.client.drain_gang(gang.id)
            self.await_nothing_left()
            self.client.close()
            assert self.replica.stop() == 0
        finally:
            self.replica.kill()

    def await_nothing_left(self) -> None:
        until(lambda: not self.objects(), f"nothing of ours is left: {self.objects()}", 60)

    def last_words(self) -> str:
        """Of the service and of every pod, for people."""
        words = [f"--- the service\n{self.replica.words(60)}"]
        for pod in self.cluster.api.list("pods", self.namespace):
            log = self.cluster.kubelet.log(self.namespace, pod["metadata"]["name"])
            words.append(f"--- {pod['metadata']['name']} {pod['status'].get('phase')}\n{log[-3000:]}")
        return "\n".join(words)

    def objects(self) -> list[str]:
        return self.cluster.ours(self.namespace)

    def jobs(self) -> list[dict[str, Any]]:
        return self.cluster.api.list("pytorchjobs", self.namespace)

    def pods(self, gang: Gang) -> list[dict[str, Any]]:
        """By node."""
        label = f"training.kubeflow.org/job-name={gang.name}"
        found = self.cluster.api.list("pods", self.namespace, labelSelector=label)
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def database_url(self) -> str:
        return self._database.url

    def leftovers(self) -> list[str]:
        return [str(process) for process in processes.of_folder(self.home)]


@contextmanager
def served(home: Path, database: Database, cluster: Cluster, namespace: Namespace, **settings: str) -> Iterator[Served]:
    """Until the block ends; what was said last is shown with a failure."""
    stage = Served(home, database, cluster, namespace, **settings)
    try:
        stage.start()
        yield stage
    finally:
        print(stage.last_words())
        try:
            stage.close()
        finally:
            processes.send(signal.SIGKILL, processes.of_folder(home))


def two_nodes(name: str, *, ranks: int = 2, **more: Any) -> dict[str, Any]:
    """Echo on two nodes."""
    return echo(name, nodes=2, ranks=ranks, image=IMAGE, **more)
