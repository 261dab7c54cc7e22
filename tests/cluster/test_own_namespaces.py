"""Teams whose gangs run in their own namespaces, on a real API server with real ranks and exactly our Role."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ground.api import Refused
from ground.cluster import Cluster, Namespace, until
from served import two_nodes
from sqlalchemy import text
from teams import Team, Teams, admit, may_create, teams

from orchestrator.store.database import Database

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).parents[2] / "deploy/team.sh"
ACCOUNT = "system:serviceaccount:muster-system:muster"


@pytest.fixture
def stage(tmp_path: Path, database: Database, cluster: Cluster, namespace: Namespace) -> Iterator[Teams]:
    with teams(tmp_path, database, cluster, namespace) as stage:
        yield stage


def named(cluster: Cluster) -> str:
    """A new namespace that nobody opened to any service."""
    name = cluster.namespace().name
    cluster.api.call("DELETE", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/rolebindings/muster")
    return name


def is_gone(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.api.call("GET", f"/api/v1/namespaces/{namespace}")
    except Refused as refused:
        return refused.status == 404
    return False


def served(team: Team, template: str) -> str:
    """A request that succeeded; the gang that ran it."""
    done = team.run(template)
    assert done.succeeded, done.error
    assert done.placement is not None
    assert done.placement.gang is not None
    return done.placement.gang


def test_each_team_has_its_gangs_in_its_namespace_and_one_that_is_deleted_takes_nobody_along(
    stage: Teams, cluster: Cluster
) -> None:
    one, two = named(cluster), named(cluster)
    for name in (one, two):
        admit(cluster, name, stage.service)
    stage.begin(one, two)
    a, b = stage.join(one), stage.join(two)
    for team in (a, b):
        team.client.apply_template(two_nodes("pair", ranks=1))
    stage.client.apply_template(two_nodes("pair", ranks=1))
    waiting = {team: team.submit("pair") for team in (a, b)}
    shared = stage.client.submit("pair", {}).id

    assert all(team.done(request).succeeded for team, request in waiting.items())
    assert stage.done(shared).succeeded
    for team in (a, b):
        (gang,) = team.gangs()
        assert team.jobs() == [gang.name]
        assert gang.raw["backend"] == f"kubeflow:{team.name}/muster"
    assert [job["metadata"]["name"] for job in stage.jobs()] == [gang.name for gang in stage.gangs("pair")]

    (warm,) = b.gangs()
    stage.teams.remove(a)
    running = a.client.submit("pair", {"steps": 600, "sleep_s": 120}).id
    until(lambda: a.client.get(running).status == "running", "a request runs")
    cluster.api.delete("namespaces", "", one)
    until(lambda: is_gone(cluster, one), "the namespace is gone with all that was in it", 90)

    for refused in (a.done(running, 240), a.done(a.submit("pair"), 240)):
        assert (refused.status, refused.raw["error"]["code"]) == ("failed", "namespace_gone"), refused.error
        assert one in refused.raw["error"]["message"]

    tried = len(a.client.gangs(state=["gone"]))
    assert served(b, "pair") == warm.id, "the other team is served by its warm gang"
    assert stage.run("pair").succeeded
    assert len(a.client.gangs(state=["gone"])) == tried, "nothing waits, so nothing is launched"
    assert a.gangs() == []
    a.client.close()


def test_a_team_that_was_not_admitted_is_told_and_is_served_once_it_is(stage: Teams, cluster: Cluster) -> None:
    one = named(cluster)
    stage.begin(one)
    team = stage.join(one)
    team.client.apply_template(two_nodes("pair", ranks=1))

    refused = team.run("pair")

    assert refused.raw["error"]["code"] == "namespace_gone"
    assert "deploy/gangs is not applied there" in refused.raw["error"]["message"]
    assert "no gangs can be launched at" in stage.replica.log.read_text()
    admit(cluster, one, stage.service)
    served(team, "pair")
    assert len(team.jobs()) == 1


def test_an_installation_is_changed_to_own_namespaces_and_back_with_a_warm_gang_alive(
    stage: Teams, cluster: Cluster
) -> None:
    one = named(cluster)
    admit(cluster, one, stage.service)
    stage.begin()
    team = stage.join(one)
    team.client.apply_template(two_nodes("pair", ranks=1, min=1))
    old = served(team, "pair")
    assert team.jobs() == []

    stage.begin(one)

    assert served(team, "pair") == old, "it serves on where it is"
    new = moved(stage, team, old)
    assert len(team.jobs()) == 1 and served(team, "pair") == new
    until(lambda: not stage.jobs(), "nothing is left where it was")

    stage.begin()

    assert served(team, "pair") == new, "what runs where no gangs are launched any more is looked after"
    last = moved(stage, team, new)
    until(lambda: not cluster.ours(one), "nothing is left in the team's namespace")
    assert served(team, "pair") == last


def moved(stage: Teams, team: Team, before: str) -> str:
    """The gang that has taken the place of one that has run for long."""
    stage.database.transact(lambda tx: tx.execute(text("UPDATE gang SET planned_at = planned_at - interval '1 hour'")))
    until(lambda: team.client.gang(before).state == "gone", "the gang of before is replaced", 120)
    assert team.client.gang(before).raw["reason_code"] == "recycled"
    (after,) = team.gangs()
    return after.id


def run(cluster: Cluster, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "KUBECONFIG": str(cluster.folder / "admin.kubeconfig"),
    }
    return subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def labels_of(cluster: Cluster, namespace: str) -> dict[str, str]:
    return dict(cluster.api.call("GET", f"/api/v1/namespaces/{namespace}")["metadata"].get("labels", {}))


def test_one_command_lets_the_service_into_one_namespace_and_another_takes_it_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("NOT CHECKED: deploy/team.sh needs kubectl on the PATH")
    one, other = named(cluster), named(cluster)
    for _ in range(2):
        done = run(cluster, tmp_path, one)
        assert done.returncode == 0, done.stderr
    until(lambda: may_create(cluster, one, ACCOUNT), "the service may start gangs there")
    assert not may_create(cluster, other, ACCOUNT)
    assert labels_of(cluster, one)["muster/gangs"] == "true"
    assert cluster.api.get("serviceaccounts", one, "muster-worker") is not None

    job = {"metadata": {"name": "m", "labels": {"app.kubernetes.io/managed-by": "muster"}}}
    pod = {"spec": {"containers": [{"name": "pytorch", "image": "registry.example/x:1"}]}}
    spec = {"runPolicy": {"suspend": True}, "pytorchReplicaSpecs": {"Worker": {"replicas": 1, "template": pod}}}
    kind = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    cluster.api.create("pytorchjobs", one, {**kind, **job, "spec": spec})
    left = run(cluster, tmp_path, "--remove", one)
    assert left.returncode == 1 and "gangs are left" in left.stderr
    cluster.api.delete("pytorchjobs", one, "m")
    done = run(cluster, tmp_path, "--remove", one)
    assert done.returncode == 0, done.stderr
    until(lambda: not may_create(cluster, one, ACCOUNT), "it may not any more")
    assert "muster/gangs" not in labels_of(cluster, one)


@pytest.mark.parametrize("wrong", ["", "kube-system", "default", "muster-system", "--remvoe"])
def test_the_command_opens_no_namespace_of_the_cluster_itself(cluster: Cluster, tmp_path: Path, wrong: str) -> None:
    refused = run(cluster, tmp_path, *([wrong] if wrong else []))
    assert refused.returncode == 2 and refused.stderr and not refused.stdout
