"""Users of Kubeflow's gateway on a real API server: they see and do what their roles allow there, and nothing else."""

from __future__ import annotations

import time
from uuid import uuid4

import gateway_house
import gateway_matrix
import pytest
import rights
from gateway_house import ECHO, GATEWAY
from gateway_matrix import ROLES
from ground.cluster import Cluster, until
from kubeflow_site import site
from town import Town, town

from orchestrator.api import access
from orchestrator.client import Client
from orchestrator.errors import BackendError, MusterError
from orchestrator.place import reviews_of
from orchestrator.settings import Settings

pytestmark = pytest.mark.cluster
EDIT = ROLES["editor"]
__all__ = ["town"]


@pytest.mark.parametrize("role", list(ROLES))
def test_a_user_does_in_each_namespace_what_the_role_there_allows(town: Town, role: str) -> None:
    ada, bob = town.user(), town.user()
    if ROLES[role]:
        rights.bind(town.cluster, town.a, ROLES[role], user=ada)
        rights.bind(town.cluster, town.b, ROLES[role], user=bob)
    for user, home, other, but in ((ada, town.a, town.b, ""), (bob, town.b, town.a, "manage")):
        if ROLES[role] == ("*",):
            until(lambda u=user, h=home: rights.allowed(town.cluster, {"user": u}, h, "patch"), "the right is known")  # type: ignore[misc]
        assert gateway_matrix.wrong_in_api(town.house, user, role, home, other, but=but) == []
        assert gateway_matrix.wrong_on_pages(town.house, user, role, home, other, but=but) == []


def test_a_template_is_changed_by_those_who_may_also_run_code_where_gangs_run(town: Town) -> None:
    """All gangs run in the first namespace, whosever they are."""
    carol, template = town.user(), {**ECHO, "image": "registry.example/x:1"}
    rights.bind(town.cluster, town.b, ROLES["manager"], user=carol)
    with town.house.user(carol, town.b) as client:
        refused = client.put("/v1/templates/of-carol", json=template)
        assert refused.status_code == 403
        assert f"and in '{town.a}', where its gangs run" in refused.json()["detail"]
        rights.bind(town.cluster, town.a, ROLES["manager"], user=carol)
        until(lambda: client.put("/v1/templates/of-carol", json=template).status_code == 200, "the right is known")
    with town.house.user(carol, town.a) as client:
        assert "of-carol" not in [one["name"] for one in client.get("/v1/templates").json()["data"]]


def test_what_one_namespace_has_is_not_seen_in_another(town: Town) -> None:
    ada, bob = town.user(), town.user()
    rights.bind(town.cluster, town.a, EDIT, user=ada)
    rights.bind(town.cluster, town.b, EDIT, user=bob)
    with town.house.user(ada, town.a) as one, town.house.user(bob, town.b) as two:
        one.put("/v1/templates/of-ada", json={**ECHO, "image": "registry.example/x:1"}).raise_for_status()
        made = one.post("/v1/requests", json={"template": "of-ada", "input": {}, "mode": "batch"}).json()["id"]
        assert [row["id"] for row in one.get("/v1/requests").json()["data"]] == [made]
        assert two.get("/v1/requests").json()["data"] == []
        assert two.get(f"/v1/requests/{made}").status_code == 404
        assert two.post(f"/v1/requests/{made}/cancel").status_code == 404
        assert one.post(f"/v1/requests/{made}/cancel").status_code in (200, 202)
    with town.house.user(bob, town.a) as two:
        assert two.get(f"/v1/requests/{made}").status_code == 403


def test_a_role_of_a_group_is_one_of_its_members(town: Town) -> None:
    ada, group = town.user(), f"team-{uuid4().hex[:6]}"
    rights.bind(town.cluster, town.a, gateway_matrix.VIEW, group=group)
    with town.house.user(ada, town.a, **{"kubeflow-groups": f"x,{group}"}) as member:
        assert member.get("/v1/requests").status_code == 200
        assert member.post("/v1/requests", json={}).status_code == 403
    with town.house.user(ada, town.a) as stranger:
        assert stranger.get("/v1/requests").status_code == 403


@pytest.mark.parametrize("name", ["system:admin", "system:apiserver", "system:kube-controller-manager", "admin"])
def test_no_name_or_group_that_a_login_brings_is_above_the_roles(town: Town, name: str) -> None:
    """To Kubernetes the group `system:masters` may do everything, whatever roles there are."""
    with town.house.user(name, town.a, **{"kubeflow-groups": "system:masters"}) as eve:
        assert eve.get("/v1/requests").status_code in (401, 403)


@pytest.mark.parametrize("door", ["public", "worker"])
def test_a_forged_user_at_another_port_is_refused(town: Town, door: str) -> None:
    ada = town.user()
    rights.bind(town.cluster, town.a, EDIT, user=ada)
    forged = {"kubeflow-userid": ada, "Muster-Namespace": town.a, **gateway_house.THROUGH}
    with town.house.at(door, **forged) as eve:
        assert eve.get("/v1/requests").status_code == (401 if door == "public" else 404)
        assert eve.get("/ui/", follow_redirects=False).status_code == (303 if door == "public" else 404)
    with town.house.user(ada, town.a) as real:
        assert real.get("/v1/requests").status_code == 200


def test_a_right_that_is_taken_away_is_gone_within_seconds(town: Town) -> None:
    ada = town.user()
    name = rights.bind(town.cluster, town.a, EDIT, user=ada)
    with town.house.user(ada, town.a) as client:
        assert client.get("/v1/requests").status_code == 200
        rights.unbind(town.cluster, town.a, name)
        begun = time.monotonic()
        until(lambda: client.get("/v1/requests").status_code == 403, "the right is gone")
        assert time.monotonic() - begun < access.REMEMBERED_S + 3


def test_a_service_account_comes_with_its_own_token(town: Town) -> None:
    account = f"bot-{uuid4().hex[:6]}"
    town.cluster.api.create("serviceaccounts", town.a, {"metadata": {"name": account}})
    rights.bind(town.cluster, town.a, EDIT, account=account)
    user = f"system:serviceaccount:{town.a}:{account}"
    until(lambda: rights.allowed(town.cluster, {"user": user}, town.a, "patch"), "the right is known")
    token = town.cluster.service_account_token(town.a, account)
    with (
        site(town.house.doors["gateway"], GATEWAY, (town.a, town.b), lambda it: verified(town.cluster, it)) as kubeflow,
        Client(f"{kubeflow.url}/muster/api", token) as client,
        Client(f"{kubeflow.url}/muster/api", token, namespace=town.b) as elsewhere,
        Client(f"{kubeflow.url}/muster/api", "forged", retries=0) as nobody,
    ):
        client.apply_template({"name": "of-bot", **ECHO, "image": "registry.example/x:1"})
        made = client.submit("of-bot", {}, mode="batch")
        assert client.cancel(made.id).id == made.id
        for other, code in ((elsewhere, "forbidden"), (nobody, None)):
            with pytest.raises(MusterError) as refused:
                other.get(made.id)
            assert code in (None, refused.value.code)


def verified(cluster: Cluster, token: str) -> str | None:
    """The gateway's check, by the API server's own word (it checks the signature by its keys)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = cluster.api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]
    return str(status["user"]["username"]) if status.get("authenticated") else None


def test_without_the_api_server_nobody_may_do_anything_and_then_all_is_as_before(town: Town) -> None:
    ada = town.user()
    rights.bind(town.cluster, town.a, EDIT, user=ada)
    with town.house.user(ada, town.a) as client:
        assert client.get("/v1/requests").status_code == 200
        town.cluster.plane.kill_apiserver()
        try:
            until(lambda: client.get("/v1/requests").status_code == 503, "the memory is over")
            assert client.post("/v1/requests", json={"template": "x"}).json()["code"] == "unavailable"
            assert client.get("/ui/").status_code == 503
        finally:
            town.cluster.plane.start_apiserver()
        until(lambda: client.get("/v1/requests").status_code == 200, "the API server is back")


def test_an_api_server_that_hangs_is_no_yes_and_holds_nobody_for_long(town: Town) -> None:
    ada = town.user()
    rights.bind(town.cluster, town.a, EDIT, user=ada)
    with town.house.user(ada, town.a) as client:
        town.cluster.plane.freeze_apiserver()
        try:
            begun = time.monotonic()
            assert client.get("/v1/requests").status_code == 503
            assert time.monotonic() - begun < 10
        finally:
            town.cluster.plane.thaw_apiserver()
        until(lambda: client.get("/v1/requests").status_code == 200, "it answers again")


def test_a_service_without_the_right_to_ask_says_so_when_it_starts(cluster: Cluster, town: Town) -> None:
    stranger = cluster.namespace()
    with pytest.raises(BackendError, match=r"identity\.yaml"):
        reviews_of(Settings(folder=stranger.kubeconfig.parent, kubeconfig=stranger.kubeconfig, gateway_port=0))
