"""Teams with namespaces of their own on a real API server: what deploy/gangs grants there, and a client for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from acceptance.stage import processes
from ground.api import Json
from ground.cluster import RBAC, Cluster, Namespace, until
from served import Served

from orchestrator.client import Client, Gang, Request
from orchestrator.service.offline import first_token
from orchestrator.store import tenants
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope

GANGS = Path(__file__).parents[2] / "deploy/gangs/gangs.yaml"


def admit(cluster: Cluster, namespace: str, service: Namespace) -> None:
    """What deploy/team.sh grants, to the account of this service."""
    for thing in yaml.safe_load_all(GANGS.read_text()):
        if thing["kind"] == "RoleBinding":
            thing["subjects"][0]["namespace"] = service.name
            cluster.api.call("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", {**thing})
    account = f"system:serviceaccount:{service.name}:muster"
    until(lambda: may_create(cluster, namespace, account), "the right is known")


def may_create(cluster: Cluster, namespace: str, account: str) -> bool:
    asked = {"namespace": namespace, "verb": "create", "resource": "pytorchjobs", "group": "kubeflow.org"}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    body: Json = {**review, "spec": {"user": account, "resourceAttributes": asked}}
    answer = cluster.api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(answer["status"]["allowed"])


class Team:
    """A tenant and the namespace of its name, of which the service's account knows nothing until it is admitted."""

    def __init__(self, stage: Teams, namespace: str) -> None:
        self.name = namespace
        self._stage = stage
        stage.database.transact(lambda tx: tenants.enter(tx, namespace))
        token = first_token(stage.database.url, name="t", scopes=tuple(Scope), tenant=namespace)
        self.client = Client(stage.replica.url, token)

    def submit(self, template: str, **more: Any) -> str:
        return self.client.submit(template, {}, **more).id

    def done(self, request_id: str, within_s: float = 120) -> Request:
        def look() -> Request | None:
            request = self.client.get(request_id)
            return request if request.is_terminal else None

        return until(look, f"{request_id} of {self.name} ends", within_s)  # type: ignore[no-any-return]

    def run(self, template: str, **more: Any) -> Request:
        return self.done(self.submit(template, **more))

    def gangs(self) -> list[Gang]:
        """Those that are not gone."""
        return [gang for gang in self.client.gangs() if gang.state != "gone"]

    def jobs(self) -> list[str]:
        """What `kubectl -n NAMESPACE get pytorchjobs` shows."""
        return sorted(job["metadata"]["name"] for job in self._stage.cluster.api.list("pytorchjobs", self.name))

    def close(self) -> None:
        for pool in self.client.pools():
            self.client.set_pool(pool.name, min=0, max=0)
        for gang in self.gangs():
            self.client.drain_gang(gang.id)


class Teams(Served):
    """A service that may be started again with other namespaces for its teams."""

    def __init__(self, home: Path, database: Database, cluster: Cluster, namespace: Namespace) -> None:
        super().__init__(home, database, cluster, namespace)
        self.database = database
        self.service = namespace
        self.teams: list[Team] = []

    def begin(self, *own: str) -> None:
        """With gangs of these tenants in namespaces of their own; again, after what ran before was ended."""
        self.replica.stop()
        self.replica.settings(MUSTER_GANG_NAMESPACES=",".join(own))
        self.start()

    def join(self, namespace: str) -> Team:
        team = Team(self, namespace)
        self.teams.append(team)
        return team

    def close(self) -> None:
        for team in self.teams:
            team.close()
        for team in self.teams:
            until(lambda team=team: not self.cluster.ours(team.name), f"nothing is left in {team.name}", 60)  # type: ignore[misc]
            team.client.close()
        super().close()


@contextmanager
def teams(home: Path, database: Database, cluster: Cluster, namespace: Namespace) -> Iterator[Teams]:
    stage = Teams(home, database, cluster, namespace)
    try:
        yield stage
        stage.close()
    finally:
        print(stage.last_words())
        stage.replica.kill()
        processes.send(9, processes.of_folder(home))
