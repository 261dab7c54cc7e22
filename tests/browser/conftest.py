"""A real service with real gangs, and Chromium in front of it. Without a browser the tests are skipped, and the run
says so in the end (tests/conftest.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.stage import Up
from playwright.sync_api import Browser, Page, sync_playwright

NO_BROWSER = "NOT RUN: the tests in a browser"
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Visit = Callable[..., Page]


def chromium() -> str | None:
    """Where a browser of Chromium's family is: MUSTER_CHROMIUM, or on the PATH."""
    named = os.environ.get("MUSTER_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip(f"{NO_BROWSER}: install chromium, or set MUSTER_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`muster up` for all tests of this folder."""
    up = Up(tmp_path_factory.mktemp("service"))
    try:
        up.start()
        yield up
    finally:
        up.close()


@pytest.fixture
def visit(browser: Browser, service: Up) -> Iterator[Visit]:
    """`visit("/requests")` gives a page on which somebody signed in; `token=None` does not sign in.

    A page that writes an error to its console, or breaks its content policy, fails the test.
    """
    contexts, complaints = [], []

    def open_(path: str = "/", *, token: str | None = service.token, **options: object) -> Page:
        context = browser.new_context(base_url=service.replica.url, **options)  # type: ignore[arg-type]
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if token is not None:
            page.goto(f"/ui/login#token={token}")
            page.wait_for_url("**/ui/")
        page.goto(f"/ui{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [one for one in complaints if not _expected(one)] == []


def _expected(complaint: str) -> bool:
    """Chromium writes a line for each answer that says no, also where the page deals with it."""
    return "Failed to load resource" in complaint and any(f"status of {code}" in complaint for code in (404, 409, 422))
