"""The door of Kubeflow's gateway: it alone is told who calls, and what a user may do is Kubernetes' word."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gateway_house
import httpx
import pytest
from gateway_house import BY, ECHO, GATEWAY, THROUGH, WORK, House
from races import eventually
from reviewing import EDIT, VIEW

from orchestrator.api import access
from orchestrator.store.database import Database


@pytest.fixture(scope="module")
def house(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with gateway_house.house(shared_database, tmp_path_factory.mktemp("house")) as here:
        yield here


@pytest.fixture(scope="module", autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Each test binds as it likes. For the whole file: a question may still be under way when a test ends."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(access, "REMEMBERED_S", 0.0)
        patched.setattr(access, "QUIET_S", 0.0)
        yield


@pytest.fixture(autouse=True)
def nobodys_rights_last(house: House) -> Iterator[None]:
    yield
    house.reviews.rights.clear()
    house.reviews.status = 201


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---------------------------------------------------------------------------------------------------- who is believed


@pytest.mark.parametrize("door", ["public", "worker"])
@pytest.mark.parametrize("path", ["/v1/requests", WORK])
def test_a_user_named_at_another_door_is_nobody(house: House, door: str, path: str) -> None:
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    forged = {
        "kubeflow-userid": "ada@example.org",
        "kubeflow-groups": "team-a",
        "Muster-Namespace": "team-a",
        **THROUGH,
    }
    with house.at(door, **forged) as eve:
        assert eve.get(path).status_code == (401 if path.startswith("/v1") == (door == "public") else 404)
    assert not house.reviews.asked or house.reviews.asked[-1]["user"] != "ada@example.org"


def test_a_token_of_ours_means_the_same_with_a_forged_user(house: House) -> None:
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    with house.user("ada@example.org", "team-a") as ada:
        assert ada.put("/v1/templates/of-ada", json=ECHO).status_code == 200
    forged = {"kubeflow-userid": "ada@example.org", "Muster-Namespace": "team-a", **THROUGH}
    with house.at("public", Authorization=f"Bearer {house.token()}", **forged) as caller:
        assert caller.get("/v1/templates/of-ada").status_code == 404


def test_at_the_gateways_door_a_token_of_ours_makes_nobody_a_user(house: House) -> None:
    with house.at("gateway", Authorization=f"Bearer {house.token()}", **THROUGH) as caller:
        assert problem(caller.get("/v1/requests")) == (401, "unauthorized")


def test_the_gateways_door_shows_neither_the_worker_api_nor_metrics(house: House) -> None:
    house.reviews.bind("ada@example.org", "default", *EDIT)
    with house.user("ada@example.org", "default") as ada:
        nowhere = ada.get("/nowhere")
        for path in (WORK, "/metrics"):
            assert (ada.get(path).status_code, ada.get(path).json()) == (404, nowhere.json())


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "URI=spiffe://cluster.local/ns/team-a/sa/default-editor",
        f"{BY}cluster.local/ns/team-a/sa/default-editor",
        f"{BY}{GATEWAY},{BY}cluster.local/ns/team-a/sa/default-editor",  # forged in front, Envoy's own word behind
        f'URI=spiffe://{GATEWAY};x=",{BY}cluster.local/ns/team-a/sa/default-editor',
        f"URI=spiffe://{GATEWAY}x",
        f"URI=https://{GATEWAY}",
    ],
)
def test_whom_the_mesh_does_not_call_the_gateway_is_believed_nothing(house: House, said: str | None) -> None:
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    peer = {} if said is None else {"x-forwarded-client-cert": said}
    with house.at("gateway", **{"kubeflow-userid": "ada@example.org", "Muster-Namespace": "team-a"}, **peer) as eve:
        assert problem(eve.get("/v1/requests")) == (401, "unauthorized")


def test_what_the_gateways_own_caller_said_of_itself_does_not_matter(house: House) -> None:
    house.reviews.bind("ada@example.org", "team-a", *VIEW)
    peers = {"x-forwarded-client-cert": f"By=spiffe://x;URI=spiffe://y,{BY}{GATEWAY}"}
    with house.at("gateway", **{"kubeflow-userid": "ada@example.org", "Muster-Namespace": "team-a"}, **peers) as ada:
        assert ada.get("/v1/requests").status_code == 200


def test_two_names_are_no_name(house: House) -> None:
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    twice = [("kubeflow-userid", "eve"), ("kubeflow-userid", "ada@example.org"), ("Muster-Namespace", "team-a")]
    with house.at("gateway", **THROUGH) as eve:
        assert problem(eve.get("/v1/requests", headers=twice)) == (401, "unauthorized")


@pytest.mark.parametrize("name", ["system:admin", "system:masters", "system:serviceaccount:x", "a\tb"])
def test_a_name_that_means_something_to_kubernetes_is_no_user(house: House, name: str) -> None:
    with house.user(name, "team-a") as eve:
        assert eve.get("/v1/requests").status_code in (400, 401)
    assert not any(spec["user"] == name for spec in house.reviews.asked)


# --------------------------------------------------------------------------------------------------- what they may do


def test_kubernetes_is_asked_with_the_users_groups_for_the_namespace_that_is_named(house: House) -> None:
    house.reviews.bind("ml", "team-a", *VIEW)
    with house.user("ada@example.org", "team-a", **{"kubeflow-groups": "ml, ops,system:masters"}) as ada:
        assert ada.get("/v1/requests").status_code == 200
    assert all(spec["groups"] == ["ml", "ops", "system:authenticated"] for spec in house.reviews.asked[-6:])
    assert {spec["resourceAttributes"]["namespace"] for spec in house.reviews.asked[-6:]} == {"team-a"}


def test_a_service_account_acts_for_its_own_namespace_unless_it_names_another(house: House) -> None:
    account = "system:serviceaccount:team-a:default-editor"
    house.reviews.bind("system:serviceaccounts:team-a", "team-a", *EDIT)
    house.reviews.bind(account, "team-b", *VIEW)
    with house.user(account) as robot:
        assert robot.put("/v1/templates/of-robot", json=ECHO).status_code == 200
        assert [one["name"] for one in robot.get("/v1/templates").json()["data"] if one["name"] == "of-robot"]
    with house.user(account, "team-b") as robot:
        assert robot.get("/v1/templates").json()["data"] == []
        assert problem(robot.put("/v1/templates/of-robot", json=ECHO)) == (403, "forbidden")


@pytest.mark.parametrize("namespace", [None, "Team", "../x", "a" * 64, "team-a,team-b"])
def test_a_person_must_say_for_which_namespace(house: House, namespace: str | None) -> None:
    with house.user("ada@example.org", namespace) as ada:
        assert problem(ada.get("/v1/requests")) == (422, "no_namespace")


def test_a_namespace_that_one_may_not_see_is_answered_like_one_that_is_not_there(house: House) -> None:
    house.reviews.bind("bob@example.org", "team-b", *EDIT)
    with house.user("bob@example.org", "team-b") as bob:
        assert bob.put("/v1/templates/of-bob", json=ECHO).status_code == 200
        theirs = bob.post("/v1/requests", json={"template": "of-bob", "input": {}}).json()["id"]
    answers = []
    for namespace in ("team-b", "no-such"):
        with house.user("ada@example.org", namespace) as ada:
            answers.append(ada.get(f"/v1/requests/{theirs}"))
    assert [problem(answer) for answer in answers] == [(403, "forbidden")] * 2
    assert answers[0].text.replace("team-b", "*") == answers[1].text.replace("no-such", "*")


def test_a_thing_of_another_namespace_is_not_found_whatever_one_may_do_in_both(house: House) -> None:
    for namespace in ("team-a", "team-b"):
        house.reviews.bind("ada@example.org", namespace, *EDIT)
    with house.user("ada@example.org", "team-a") as ada:
        ada.put("/v1/templates/mine", json=ECHO)
        mine = ada.post("/v1/requests", json={"template": "mine", "input": {}}).json()["id"]
        assert ada.get(f"/v1/requests/{mine}").status_code == 200
    with house.user("ada@example.org", "team-b") as ada:
        assert problem(ada.get(f"/v1/requests/{mine}")) == (404, "not_found")


def test_nobody_gets_a_token_of_ours_through_the_gateway(house: House) -> None:
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    with house.user("ada@example.org", "team-a") as ada:
        for answer in (ada.post("/v1/tokens", json={"name": "x", "scopes": ["admin"]}), ada.get("/v1/tokens")):
            assert problem(answer) == (403, "forbidden")


def test_the_tenant_of_the_installation_itself_is_nobodys_namespace_unless_it_is_named(house: House) -> None:
    house.reviews.bind("ada@example.org", "default", *EDIT)
    with house.user("ada@example.org", "default") as ada:
        assert problem(ada.get("/v1/requests")) == (403, "forbidden")


# ------------------------------------------------------------------------------------------------------- the API server


@pytest.mark.parametrize("status", [500, 503, 403, 401, 404])
def test_where_kubernetes_does_not_say_nobody_may_do_anything(house: House, status: int) -> None:
    house.reviews.bind(f"ada-{status}", "team-a", *EDIT)
    house.reviews.status = status
    with house.user(f"ada-{status}", "team-a") as ada:
        for answer in (ada.get("/v1/requests"), ada.put("/v1/templates/x", json=ECHO)):
            assert problem(answer) == (503, "unavailable")


def test_a_question_is_asked_once_for_all_who_want_to_know(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REMEMBERED_S", 60.0)
    house.reviews.bind("once@example.org", "team-a", *VIEW)
    with house.user("once@example.org", "team-a") as once:
        assert [once.get("/v1/requests").status_code for _ in range(20)] == [200] * 20
    asked = [spec["resourceAttributes"]["verb"] for spec in house.reviews.asked if spec["user"] == "once@example.org"]
    assert sorted(asked) == ["create", "delete", "get", "list", "patch", "update"]


def test_many_who_come_at_once_wait_for_one_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REMEMBERED_S", 60.0)
    house.reviews.bind("crowd@example.org", "team-a", *VIEW)
    house.reviews.go.clear()
    headers = {"kubeflow-userid": "crowd@example.org", "Muster-Namespace": "team-a", **THROUGH}
    with house.at("gateway", **headers) as crowd, ThreadPoolExecutor(30) as pool:
        heard = house.reviews.heard
        answers = [pool.submit(crowd.get, "/v1/requests") for _ in range(30)]
        eventually(lambda: house.reviews.heard == heard + 6)
        house.reviews.go.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert len([spec for spec in house.reviews.asked if spec["user"] == "crowd@example.org"]) == 6


# ---------------------------------------------------------------------------------------------------------- browsers


def browser(house: House, **headers: Any) -> httpx.Client:
    """With a session, and with the token that the login proxy makes of it."""
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    session = {"Cookie": "oauth2_proxy_kubeflow=s", "Authorization": "Bearer of-the-session"}
    return house.user("ada@example.org", "team-a", **{**session, **headers})


def test_a_browser_that_does_not_repeat_the_cookie_changes_nothing(house: House) -> None:
    good, other = "a" * 32, "b" * 32
    for headers in (
        {},
        {"X-XSRF-TOKEN": good},
        {"Cookie": f"XSRF-TOKEN={good}"},
        {"Cookie": f"XSRF-TOKEN={good}", "X-XSRF-TOKEN": other},
        {"Cookie": "XSRF-TOKEN=", "X-XSRF-TOKEN": ""},
        {"Cookie": "XSRF-TOKEN=short", "X-XSRF-TOKEN": "short"},
    ):
        with browser(house, **headers) as ada:
            assert problem(ada.put("/v1/templates/by-browser", json=ECHO)) == (403, "csrf")
            assert problem(ada.delete("/v1/templates/by-browser")) == (403, "csrf")
            assert ada.get("/v1/templates").status_code == 200


def test_a_browser_that_repeats_the_cookie_does_what_it_may(house: House) -> None:
    value = "c" * 32
    with browser(house, **{"Cookie": f"x=y; XSRF-TOKEN={value}", "X-XSRF-TOKEN": value}) as ada:
        assert ada.put("/v1/templates/by-browser", json=ECHO).status_code == 200


@pytest.mark.parametrize("sign", ["Sec-Fetch-Site", "Origin"])
def test_a_call_of_a_browser_without_any_cookie_is_one_of_a_browser(house: House, sign: str) -> None:
    house.reviews.bind("ada@example.org", "team-a", *EDIT)
    value = {"Sec-Fetch-Site": "same-origin", "Origin": house.doors["gateway"]}[sign]
    with house.user("ada@example.org", "team-a", Authorization="Bearer x", **{sign: value}) as ada:
        assert problem(ada.put("/v1/templates/by-browser", json=ECHO)) == (403, "csrf")
