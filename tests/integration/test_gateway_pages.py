"""The pages behind Kubeflow's gateway, without a browser: whose they are, about which namespace, and who may change."""

from __future__ import annotations

import re
from collections.abc import Iterator

import gateway_house
import httpx
import pytest
from gateway_house import ECHO, House
from gateway_matrix import needed_by_pages
from reviewing import EDIT, VIEW

from orchestrator.api import access, followers
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope
from orchestrator.web.frame import live


@pytest.fixture(scope="module")
def house(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with gateway_house.house(shared_database, tmp_path_factory.mktemp("pages")) as here:
        here.reviews.bind("ada@example.org", "team-a", *EDIT)
        for namespace in ("team-a", "team-b"):
            here.reviews.bind("boss@example.org", namespace, *EDIT)
            with here.user("boss@example.org", namespace) as boss:
                assert boss.put("/v1/templates/echo", json=ECHO).status_code == 200
        with here.user("boss@example.org", "team-b") as boss:
            boss.post("/v1/requests", json={"template": "echo", "input": {}})
        yield here


@pytest.fixture(scope="module", autouse=True)
def nothing_remembered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(access, "REMEMBERED_S", 0.0)
        patched.setattr(access, "QUIET_S", 0.0)
        yield


def namespace_of(answer: httpx.Response) -> str:
    found = re.search(r'data-namespace="([^"]*)"', answer.text)
    assert found is not None
    return found[1]


def test_a_page_is_about_the_first_namespace_that_the_user_may_see(house: House) -> None:
    for who in ("ada@example.org", "boss@example.org"):
        with house.user(who) as user:
            answer = user.get("/ui/")
            assert (answer.status_code, namespace_of(answer)) == (200, "team-a")


def test_the_namespace_that_was_chosen_holds_and_that_of_a_page_goes_before(house: House) -> None:
    with house.user("boss@example.org", Cookie="muster_namespace=team-b") as boss:
        assert namespace_of(boss.get("/ui/")) == "team-b"
        assert namespace_of(boss.get("/ui/", headers={"Muster-Namespace": "team-a"})) == "team-a"
        assert namespace_of(boss.get("/ui/?namespace=team-a")) == "team-a"


@pytest.mark.parametrize("cookie", ["team-b", "no-such"])
def test_a_namespace_that_one_may_not_see_is_refused_and_named_no_other(house: House, cookie: str) -> None:
    with house.user("ada@example.org", Cookie=f"muster_namespace={cookie}") as ada:
        answer = ada.get("/ui/")
        assert (answer.status_code, namespace_of(answer)) == (403, cookie)


@pytest.mark.parametrize("odd", ["Team", "..%2f", "%3Cscript%3E", "a" * 70])
def test_a_choice_that_can_be_no_namespace_is_none(house: House, odd: str) -> None:
    with house.user("ada@example.org", Cookie=f"muster_namespace={odd}") as ada:
        assert namespace_of(ada.get("/ui/")) == "team-a"


def test_all_namespaces_are_those_that_the_user_may_list_with_what_is_open_there(house: House) -> None:
    seen = {}
    for who in ("ada@example.org", "boss@example.org", "eve@example.org"):
        with house.user(who, Cookie="muster_namespace=*") as user:
            user.follow_redirects = False
            assert user.get("/ui/").headers["location"] == "/muster/ui/namespaces"
            shown = user.get("/ui/namespaces")
            rows = re.findall(r'data-choose="([^"]+)">.*?<td[^>]*>(\d+)</td>', shown.text, re.DOTALL)
            seen[who[:3]] = [(name, int(number)) for name, number in rows]
    assert seen == {"ada": [("team-a", 0)], "bos": [("team-a", 0), ("team-b", 1)], "eve": []}


def test_a_user_who_may_list_everywhere_sees_all_tenants_with_one_question(house: House) -> None:
    house.reviews.bind("root@example.org", "", "list")
    with house.user("root@example.org") as root:
        assert root.get("/ui/namespaces").text.count("data-choose") == 2
    assert len([spec for spec in house.reviews.asked if spec["user"] == "root@example.org"]) == 1


def test_paths_begin_with_the_prefix_at_the_gateways_door_only(house: House) -> None:
    with house.user("ada@example.org") as ada, house.at("public") as guest:
        assert 'href="/muster/ui/static/muster.css' in ada.get("/ui/").text
        assert ada.get("/", follow_redirects=False).headers["location"] == "/muster/ui/"
        assert 'href="/ui/static/muster.css' in guest.get("/ui/login").text
        assert "dashboard" not in guest.get("/ui/login").text


def test_the_pages_may_stand_in_the_dashboards_frame_and_in_nobody_elses(house: House) -> None:
    with house.user("ada@example.org") as ada:
        headers = ada.get("/ui/").headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert "x-frame-options" not in headers


def test_whom_the_gateway_does_not_name_is_told_so_and_asked_for_no_token(house: House) -> None:
    with house.at("gateway", **gateway_house.THROUGH) as nobody:
        for path in ("/ui/", "/ui/namespaces"):
            assert nobody.get(path).status_code == 401
    with house.user("ada@example.org") as ada:
        assert ada.get("/ui/login").status_code == 404


def test_a_session_of_ours_counts_nothing_at_the_gateways_door(house: House) -> None:
    with house.at("public") as guest:
        guest.get("/ui/login")
        proof = {"X-XSRF-TOKEN": guest.cookies["XSRF-TOKEN"]}
        assert guest.post("/ui/login", data={"token": house.token()}, headers=proof).status_code == 303
        session = guest.cookies["muster_session"]
    with house.at("gateway", Cookie=f"muster_session={session}", **gateway_house.THROUGH) as guest:
        assert guest.get("/ui/").status_code == 401


def test_a_user_named_at_the_public_door_is_led_to_the_sign_in(house: House) -> None:
    forged = {"kubeflow-userid": "ada@example.org", "Muster-Namespace": "team-a", **gateway_house.THROUGH}
    with house.at("public", **forged) as eve:
        assert "/ui/login" in eve.get("/ui/", follow_redirects=False).headers["location"]


def test_the_cookie_for_changes_is_as_the_stock_apps_have_it(house: House) -> None:
    with house.user("ada@example.org") as ada:
        given = ada.get("/ui/").headers["set-cookie"]
    assert re.match(r"XSRF-TOKEN=[\w-]{22,}; Path=/muster/; SameSite=strict$", given), given


def test_a_change_by_a_page_needs_the_proof(house: House) -> None:
    with house.user("ada@example.org") as ada:
        assert ada.post("/ui/theme", data={"theme": "dark"}).status_code == 403
    value = "v" * 32
    with house.user("ada@example.org", Cookie=f"XSRF-TOKEN={value}", **{"X-XSRF-TOKEN": value}) as ada:
        assert ada.post("/ui/theme", data={"theme": "dark"}).status_code == 204


def test_where_kubernetes_does_not_answer_no_page_is_shown(house: House) -> None:
    house.reviews.status = 503
    try:
        with house.user("ada@example.org", "team-a") as ada:
            for path in ("/ui/", "/ui/namespaces", "/ui/live/overview"):
                assert ada.get(path).status_code == 503
    finally:
        house.reviews.status = 201


def test_a_user_who_may_see_nothing_is_told_what_to_do(house: House) -> None:
    with house.user("eve@example.org") as eve:
        eve.follow_redirects = False
        assert eve.get("/ui/").headers["location"] == "/muster/ui/namespaces"
        assert "its owner can make you a contributor" in eve.get("/ui/namespaces").text


def test_an_open_page_or_stream_ends_when_the_user_may_not_see_it_any_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(followers, "HEARTBEAT_S", 0.2)
    house.reviews.bind("short@example.org", "team-b", *VIEW)
    with house.user("short@example.org", "team-b", Accept="text/event-stream") as user:
        made = user.get("/v1/requests", headers={"Accept": "*/*"}).json()["data"][0]["id"]
        with user.stream("GET", "/ui/live/overview") as page, user.stream("GET", f"/v1/requests/{made}/events") as told:
            assert (page.status_code, told.status_code) == (200, 200)
            house.reviews.rights -= {("short@example.org", "team-b", verb) for verb in VIEW}
            assert "event: gone" in page.read().decode()
            told.read()
        assert user.get("/ui/").status_code == 403


_ADDRESS = re.compile(r"""(?:href|src|action|poster|data-[a-z-]+|hx-(?:get|post|put|patch|delete))=["'](/[^"']*)""")


def test_every_address_on_every_page_begins_with_the_prefix(house: House) -> None:
    """The gateway takes it off, and the browser must put it on."""
    with house.user("boss@example.org", "team-b") as boss:
        ids = _things(boss)
        shown = set()
        for route in needed_by_pages():
            path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: ids.get(match[1], "x"), route.removeprefix("GET "))
            if not route.startswith("GET /") or "/live/" in path or path == "/login":
                continue
            with boss.stream("GET", f"/ui{path}") as answer:
                if answer.status_code != 200 or "html" not in answer.headers["content-type"]:
                    continue
                page = answer.read().decode()
            shown.add(route)
            found = set(_ADDRESS.findall(page)) - {"/dashboard_lib.bundle.js"}
            assert found and [one for one in found if not one.startswith("/muster/")] == [], route
    assert {"GET /", "GET /requests", "GET /requests/{request_id}", "GET /templates", "GET /pools"} <= shown


def _things(boss: httpx.Client) -> dict[str, str]:
    """IDs of what pages show, by the names of their parameters."""
    schedule = {"name": "nightly", "cron": "@daily", "runs": {"request": {"template": "echo"}}}
    batch = {"content": b'{"custom_id": "i-1", "input": {}}\n', "headers": {"Content-Type": "application/jsonl"}}
    return {
        "request_id": boss.post("/v1/requests", json={"template": "echo", "input": {}}).json()["id"],
        "batch_id": boss.post("/v1/batches?template=echo", **batch).json()["id"],  # type: ignore[arg-type]
        "schedule": boss.post("/v1/schedules", json=schedule).json()["id"],
        "name": "echo",
        "custom_id": "i-1",
    }


def test_those_who_come_through_two_doors_see_the_same_and_each_with_their_own_addresses(house: House) -> None:
    house.reviews.bind("looks@example.org", "team-b", *VIEW)
    with house.at("public") as reader, house.user("looks@example.org", "team-b") as viewer:
        reader.get("/ui/login")
        proof = {"X-XSRF-TOKEN": reader.cookies["XSRF-TOKEN"]}
        reader.post("/ui/login", data={"token": house.token("team-b", Scope.READ)}, headers=proof)
        with (
            reader.stream("GET", "/ui/live/overview") as one,
            viewer.stream("GET", "/ui/live/overview") as two,
        ):
            bases = [re.search(r'href="([a-z/]*)/pools/echo"', _first_news(told)) for told in (one, two)]
    assert [base and base[1] for base in bases] == ["/ui", "/muster/ui"]


def _first_news(told: httpx.Response) -> str:
    lines = []
    for line in told.iter_lines():
        lines.append(line)
        if lines[-1] == "" and any(one == "event: news" for one in lines):
            break
    return "\n".join(lines)
