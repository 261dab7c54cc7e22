"""The pages in the frame of a Central Dashboard, behind a gateway, with a real API server: in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import rights
from axe_playwright_python.sync_playwright import Axe
from browser.conftest import NO_BROWSER, chromium
from gateway_house import ECHO, GATEWAY
from kubeflow_site import Site, site
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect, sync_playwright
from town import Town, town

pytestmark = pytest.mark.cluster
__all__ = ["town"]
VIEW, EDIT = ("get", "list", "watch"), ("get", "list", "watch", "create", "delete", "update", "patch")
ALL = "All namespaces"
TEMPLATE = {**ECHO, "image": "registry.example/x:1"}


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip(f"{NO_BROWSER}: install chromium, or set MUSTER_CHROMIUM")
    with sync_playwright() as playwright:
        quiet = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
        browser = playwright.chromium.launch(executable_path=path, args=[*quiet, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def kubeflow(town: Town) -> Iterator[Site]:
    with site(town.house.doors["gateway"], GATEWAY, (town.a, town.b)) as here:
        yield here


@pytest.fixture(scope="module")
def boss(town: Town) -> str:
    """May do everything in both, and has a template in each."""
    user = town.user()
    for namespace, name in ((town.a, "of-first"), (town.b, "of-second")):
        rights.bind(town.cluster, namespace, EDIT, user=user)
        with town.house.user(user, namespace) as client:
            client.put(f"/v1/templates/{name}", json=TEMPLATE).raise_for_status()
    return user


@contextmanager
def logged_in(chrome: Browser, kubeflow: Site, user: str) -> Iterator[BrowserContext]:
    """Fails for what a page writes to its console as an error, but refusals that it shows."""
    complaints: list[str] = []
    context = chrome.new_context(base_url=kubeflow.url)
    context.set_default_timeout(20_000)
    context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.request.get(f"/login?user={user}")
    try:
        yield context
    finally:
        context.close()
    assert [one for one in complaints if "status of 403" not in one and "status of 404" not in one] == []


def dashboard(context: BrowserContext, namespace: str, path: str = "/muster/") -> tuple[Page, FrameLocator]:
    page = context.new_page()
    page.goto(f"/_{path}?ns={namespace}")
    return page, page.frame_locator("#app")


def pick(page: Page, namespace: str) -> None:
    page.get_by_label("Namespace").select_option(namespace)


def test_the_page_follows_the_picker_of_the_dashboard(chrome: Browser, kubeflow: Site, town: Town, boss: str) -> None:
    with logged_in(chrome, kubeflow, boss) as context:
        page, app = dashboard(context, town.a)
        for namespace, theirs, other in ((town.a, "of-first", "of-second"), (town.b, "of-second", "of-first")) * 2:
            pick(page, namespace)
            expect(app.get_by_role("link", name=namespace)).to_be_visible()
            expect(app.get_by_role("link", name=theirs)).to_be_visible()
            expect(app.get_by_role("link", name=other)).to_have_count(0)


def test_a_user_sees_the_own_namespace_and_is_told_of_the_other_that_it_is_not_theirs(
    chrome: Browser, kubeflow: Site, town: Town, boss: str
) -> None:
    ada = town.user()
    rights.bind(town.cluster, town.a, VIEW, user=ada)
    with logged_in(chrome, kubeflow, ada) as context:
        page, app = dashboard(context, town.b)
        expect(app.get_by_role("heading", name=f"{ada} may not")).to_be_visible()
        pick(page, town.a)
        expect(app.get_by_role("heading", name="Overview")).to_be_visible()
        pick(page, ALL)
        expect(app.locator("[data-choose]")).to_have_text([town.a])


def test_all_namespaces_are_listed_and_one_of_them_is_chosen_for_the_dashboard_too(
    chrome: Browser, kubeflow: Site, town: Town, boss: str
) -> None:
    with logged_in(chrome, kubeflow, boss) as context:
        page, app = dashboard(context, town.a)
        pick(page, ALL)
        expect(app.locator("[data-choose]")).to_have_text(sorted([town.a, town.b]))
        app.get_by_role("link", name=town.b).click()
        page.wait_for_url(f"**/_/muster/ui/?ns={town.b}")
        expect(page.get_by_label("Namespace")).to_have_value(town.b)
        expect(app.get_by_role("link", name="of-second")).to_be_visible()


def test_pages_of_two_tabs_act_for_their_own_namespaces(chrome: Browser, kubeflow: Site, town: Town, boss: str) -> None:
    with logged_in(chrome, kubeflow, boss) as context:
        first, app = dashboard(context, town.a)
        expect(app.get_by_role("link", name=town.a)).to_be_visible()
        _, other = dashboard(context, town.b)
        expect(other.get_by_role("link", name=town.b)).to_be_visible()
        with first.expect_request("**/theme") as sent:
            app.get_by_label("Colours").select_option("dark")
        assert sent.value.headers["muster-namespace"] == town.a
        expect(app.get_by_role("link", name=town.a)).to_be_visible()  # the page was loaded anew, and the picker holds


def test_what_happens_is_seen_without_a_reload_through_the_gateway(
    chrome: Browser, kubeflow: Site, town: Town, boss: str
) -> None:
    with logged_in(chrome, kubeflow, boss) as context, town.house.user(boss, town.a) as client:
        _, app = dashboard(context, town.a)
        expect(app.get_by_role("link", name="of-first")).to_be_visible()
        client.put("/v1/templates/comes-and-goes", json=TEMPLATE)
        expect(app.get_by_role("link", name="comes-and-goes")).to_be_visible()
        client.delete("/v1/templates/comes-and-goes")
        expect(app.get_by_role("link", name="comes-and-goes")).to_have_count(0)


def test_another_page_of_the_same_site_cannot_use_the_session_without_the_cookies_value(
    chrome: Browser, kubeflow: Site, town: Town, boss: str
) -> None:
    """The login proxy gives each of its calls a bearer token, which must not count."""
    script = """async ([namespace, value, template]) => (await fetch("/muster/v1/templates/by-a-page", { method: "PUT",
      headers: { "Content-Type": "application/json", "Muster-Namespace": namespace, "X-XSRF-TOKEN": value },
      body: JSON.stringify(template) })).status"""
    with logged_in(chrome, kubeflow, boss) as context:
        page, app = dashboard(context, town.a)
        expect(app.get_by_role("heading", name="Overview")).to_be_visible()
        assert page.evaluate(script, [town.a, "g" * 32, TEMPLATE]) == 403
        (value,) = (one["value"] for one in context.cookies() if one["name"] == "XSRF-TOKEN")
        assert page.evaluate(script, [town.a, value, TEMPLATE]) == 200


def test_without_the_dashboard_around_it_the_page_has_a_picker_of_its_own(
    chrome: Browser, kubeflow: Site, town: Town, boss: str
) -> None:
    with logged_in(chrome, kubeflow, boss) as context:
        page = context.new_page()
        page.goto("/muster/")
        page.get_by_role("link", name=sorted([town.a, town.b])[0]).click()
        expect(page.get_by_role("heading", name="Namespaces")).to_be_visible()
        found = Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        page.get_by_role("link", name=town.b).click()
        expect(page.get_by_role("link", name="of-second")).to_be_visible()
        assert page.url.endswith("/muster/ui/")


def test_nobody_is_shown_anything_without_a_login(chrome: Browser, kubeflow: Site, town: Town) -> None:
    context = chrome.new_context(base_url=kubeflow.url)
    headers = {"kubeflow-userid": "boss@example.org", "x-forwarded-client-cert": f"URI=spiffe://{GATEWAY}"}
    for path in ("/muster/ui/", "/muster/v1/requests", "/muster/api/v1/requests"):
        assert context.request.get(path, headers=headers).status == 401
    context.close()


def test_who_may_only_look_is_offered_nothing_else_and_gets_nothing_else(
    chrome: Browser, kubeflow: Site, town: Town, boss: str
) -> None:
    ada = town.user()
    rights.bind(town.cluster, town.a, VIEW, user=ada)
    with town.house.user(boss, town.a) as client:
        made = client.post("/v1/requests", json={"template": "of-first", "mode": "batch"}).json()["id"]
    for user, may in ((ada, False), (boss, True)):
        with logged_in(chrome, kubeflow, user) as context:
            _, app = dashboard(context, town.a, f"/muster/ui/requests/{made}")
            expect(app.get_by_role("heading", level=1)).to_be_visible()
            expect(app.get_by_role("button", name="Cancel", exact=True)).to_have_count(1 if may else 0)
            (value,) = (one["value"] for one in context.cookies() if one["name"] == "XSRF-TOKEN")
            proof = {"X-XSRF-TOKEN": value, "Muster-Namespace": town.a, "HX-Request": "true"}
            answer = context.request.post(f"/muster/ui/requests/{made}/cancel", headers=proof)
            assert answer.status == (204 if may else 403)
