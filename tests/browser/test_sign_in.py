"""In and out of the pages, and what they let nobody else do."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from acceptance.stage import Up
from playwright.sync_api import Page, expect

from orchestrator.store import tokens
from orchestrator.store.tokens import Scope

Visit = Callable[..., Page]


def test_whoever_has_no_session_is_led_to_the_sign_in_and_then_to_where_they_wanted(visit: Visit, service: Up) -> None:
    page = visit("/?from=a-chat", token=None)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Token").fill("mst_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("this token is unknown, expired or revoked")).to_be_visible()
    page.get_by_label("Token").fill(service.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/ui/?from=a-chat")


def test_a_link_of_muster_open_signs_in_and_leaves_no_token_in_the_address(visit: Visit) -> None:
    page = visit("/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert "mst_" not in page.url


def test_after_the_sign_out_the_pages_are_closed(visit: Visit) -> None:
    page = visit("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto("/ui/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_session_ends_with_its_token(visit: Visit, service: Up) -> None:
    token_id, token = service.look(lambda tx: tokens.create(tx, tenant="default", name="short", scopes=[Scope.READ]))
    page = visit("/", token=token)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    service.look(lambda tx: tokens.revoke(tx, "default", token_id))
    page.wait_for_timeout(5_500)  # an identity is remembered for five seconds
    page.reload()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_choice_of_colours_is_kept(visit: Visit) -> None:
    page = visit("/")
    with page.expect_response("**/theme"):
        page.get_by_label("Colours").select_option("dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("proof", [{}, {"X-XSRF-TOKEN": "another"}])
def test_a_change_without_the_proof_of_a_page_is_refused(service: Up, proof: dict[str, str]) -> None:
    with httpx.Client(base_url=service.replica.url) as browser:
        browser.get("/ui/login")
        answer = browser.post("/ui/login", data={"token": service.token}, headers=proof)
        assert answer.status_code == 403
        assert "muster_session" not in browser.cookies


def test_a_cookie_that_nobody_here_signed_is_no_session(service: Up) -> None:
    answer = httpx.get(f"{service.replica.url}/ui/", cookies={"muster_session": "InRva19mb3JnZWQi.aaaa.bbbb"})
    assert answer.status_code == 303
    assert "/ui/login" in answer.headers["location"]


@pytest.mark.parametrize("to", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_the_sign_in_leads_to_no_other_site(service: Up, to: str) -> None:
    with httpx.Client(base_url=service.replica.url) as browser:
        browser.get("/ui/login")
        proof = {"X-XSRF-TOKEN": browser.cookies["XSRF-TOKEN"]}
        answer = browser.post("/ui/login", data={"token": service.token, "to": to}, headers=proof)
        assert answer.headers["location"] == "/ui/"


def test_every_page_has_the_strict_policy(service: Up) -> None:
    for path in ("/ui/login", "/ui/nowhere", "/ui/"):
        policy = httpx.get(f"{service.replica.url}{path}").headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
