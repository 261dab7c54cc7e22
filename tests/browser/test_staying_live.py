"""Pages that stay open: they say when they are not of now, come back by themselves, and keep what was typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from acceptance.stage import Up
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

Visit = Callable[..., Page]
PATIENT_MS = 30_000


def template(name: str) -> dict[str, object]:
    """Never launched here."""
    return {"name": name, "handler": "inference.samples.echo:Echo", "pool": {"min": 0, "max": 1}}


@pytest.fixture
def opened(browser: Browser, service: Up) -> Iterator[BrowserContext]:
    """Somebody who signed in; unlike `visit`, a page may complain of what goes wrong here on purpose."""
    context = browser.new_context(base_url=service.replica.url)
    signed_in(context, service.token)
    yield context
    context.close()


def signed_in(context: BrowserContext, token: str) -> Page:
    page = context.new_page()
    page.goto(f"/ui/login#token={token}")
    page.wait_for_url("**/ui/")
    return page


def follow_anew(page: Page) -> None:
    """As after a tab was hidden for a while."""
    page.evaluate("[...sources.keys()].forEach(letGo); followAll()")


def test_an_answer_that_is_no_stream_is_not_the_end_of_a_page(opened: BrowserContext, service: Up) -> None:
    """A gateway answers 503 while the service behind it starts anew; a browser gives its stream up for that."""
    away: Callable[[Route], None] = lambda route: route.fulfill(status=503, body="no healthy upstream")  # noqa: E731
    opened.route("**/live/**", away)
    page = opened.new_page()
    page.goto("/ui/templates")
    expect(page.get_by_role("alert")).to_contain_text("No news from the service since")
    service.client.apply_template(template("came-later"))
    opened.unroute("**/live/**", away)
    expect(page.get_by_role("link", name="came-later", exact=True)).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_page_says_that_the_service_is_gone_and_goes_on_with_it(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    up = Up(tmp_path_factory.mktemp("killed"))
    try:
        up.start()
        context = browser.new_context(base_url=up.replica.url)
        page = signed_in(context, up.token)
        page.goto("/ui/templates")
        expect(page.get_by_text("There is no template yet.")).to_be_visible()
        up.kill()
        expect(page.get_by_role("alert")).to_contain_text("What you see may be old.")
        up.start()
        expect(page.get_by_role("alert")).to_be_hidden(timeout=PATIENT_MS)
        up.client.apply_template(template("came-later"))
        expect(page.get_by_role("link", name="came-later", exact=True)).to_be_visible(timeout=PATIENT_MS)
        context.close()
    finally:
        up.close()


def test_an_error_page_comes_back_with_the_service(opened: BrowserContext, service: Up) -> None:
    page = opened.new_page()
    page.goto("/ui/templates")
    page.evaluate("document.querySelector('main').dataset.again = ''")  # as the page of a 503 has it
    opened.route("**/ui/templates", lambda route: route.fulfill(status=503, body="starting"), times=1)
    expect(page.locator("main[data-again]")).to_have_count(0, timeout=PATIENT_MS)
    expect(page.get_by_role("heading", name="Templates")).to_be_visible()


def test_a_session_that_ends_leads_to_the_sign_in_and_back(opened: BrowserContext, service: Up) -> None:
    page = opened.new_page()
    page.goto("/ui/requests?status=failed")
    opened.clear_cookies(name="muster_session")
    follow_anew(page)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=PATIENT_MS)
    page.get_by_label("Token").fill(service.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/ui/requests?status=failed")


def test_a_session_that_ends_takes_nothing_that_was_typed(opened: BrowserContext, service: Up) -> None:
    service.client.apply_template(template("policied"))
    page = opened.new_page()
    page.goto("/ui/pools/policied")
    page.get_by_label("Maximum").fill("7")
    opened.clear_cookies(name="muster_session")
    follow_anew(page)
    notice = page.get_by_role("alert").filter(has_text="Your session is over")
    expect(notice).to_be_visible(timeout=PATIENT_MS)
    expect(notice.get_by_role("link", name="Sign in")).to_have_attribute("href", re.compile(r"to=%2Fpools%2Fpolicied$"))
    expect(page.get_by_label("Maximum")).to_have_value("7")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Maximum")).to_have_value("7")
    signed_in(opened, service.token)
    expect(notice).to_be_hidden(timeout=PATIENT_MS)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("to 7 gangs")).to_be_visible()


def test_other_colours_leave_what_was_typed(visit: Visit, service: Up) -> None:
    service.client.apply_template(template("coloured"))
    page = visit("/templates/-/new")
    page.get_by_label("Template, as YAML").fill("name: half-written")
    page.get_by_label("Colours").select_option("dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_label("Template, as YAML")).to_have_value("name: half-written")
