"""Live parts of pages without a browser: they say when they are not of now, and go on where they were."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import builders as make
import httpx
import pages
import pytest
from replica import Replica, replica

from orchestrator.errors import Unavailable
from orchestrator.store import tokens
from orchestrator.store.database import Database
from orchestrator.store.tokens import Scope
from orchestrator.web.entry import overview
from orchestrator.web.entry.overview import Seen
from orchestrator.web.frame import live
from orchestrator.web.frame.rendering import linked


@pytest.fixture(scope="module")
def here(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with replica(shared_database, tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture
def tenant(here: Replica) -> str:
    name = f"tenant-{secrets.token_hex(6)}"
    here.database.transact(lambda tx: make.tenant(tx, name))
    return name


@pytest.fixture
def browser(here: Replica, tenant: str) -> Iterator[httpx.Client]:
    create = lambda tx: tokens.create(tx, tenant=tenant, name="test", scopes=tuple(Scope))  # noqa: E731
    with pages.signed_in(here.url, here.database.transact(create)[1]) as opened:
        yield opened


def kinds_of(stream: httpx.Response) -> Iterator[str]:
    """The kinds of its events."""
    return (line for line in stream.iter_lines() if line.startswith("event: "))


def test_a_page_is_told_when_the_database_is_away_and_when_it_is_back(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as broken, browser.stream("GET", "/ui/live/overview") as stream:
        events = kinds_of(stream)
        assert next(events) == "event: news"
        broken.setattr(overview, "look", away)
        assert next(events) == "event: old"
        broken.undo()
        assert next(events) == "event: news"


def test_a_page_is_told_when_the_database_hangs_and_when_it_answers(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, look = threading.Event(), overview.look

    def late(*asked: Any) -> Seen:
        answered.wait(60)
        return look(*asked)

    with browser.stream("GET", "/ui/live/overview") as stream:
        events = kinds_of(stream)
        assert next(events) == "event: news"
        monkeypatch.setattr(live, "LATE_S", 0.01)
        monkeypatch.setattr(overview, "look", late)
        assert next(events) == "event: old"
        answered.set()
        assert next(events) == "event: news"


def test_a_page_that_cannot_be_shown_now_looks_again_by_itself(
    browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(overview, "look", away)
    answer = browser.get("/ui/")
    assert answer.status_code == 503 and "data-again" in answer.text
    assert "data-again" not in browser.get("/ui/requests/req_" + "0" * 26).text


def test_colours_are_chosen_without_loading_the_page_anew(browser: httpx.Client) -> None:
    answer = browser.post("/ui/theme", data={"theme": "dark"})
    assert answer.status_code == 204 and "hx-refresh" not in answer.headers
    assert 'data-theme="dark"' in browser.get("/ui/").text


def test_ids_in_sentences_lead_to_their_pages_and_all_else_is_text() -> None:
    request, gang = "req_" + "0" * 26, "gng_01m8bwcrwxg2y19tgb58ktamv2"
    told = linked(f"{gang} runs {request}, <b> req_short \u202e", "/base/ui")
    assert f'<a class="mono" href="/base/ui/gangs/{gang}" title="{gang}">01m8bwcr…amv2</a> runs' in told
    assert f'href="/base/ui/requests/{request}"' in told
    assert told.endswith("</a>, &lt;b&gt; req_short \\u202e")


def test_whoever_signs_in_again_comes_back_to_the_page_that_asked(here: Replica) -> None:
    with httpx.Client(base_url=here.url) as nobody:
        nobody.get("/ui/login")
        nobody.headers["X-XSRF-TOKEN"] = nobody.cookies["XSRF-TOKEN"]

        def led(current: str) -> str:
            asked = {"HX-Request": "true", "HX-Current-URL": current}
            return nobody.post("/ui/pools/echo", headers=asked).headers["hx-redirect"]

        assert led(f"{here.url}/ui/pools/echo?a=1") == "/ui/login?to=%2Fpools%2Fecho%3Fa%3D1"
        assert led("https://elsewhere.example/") == "/ui/login"
        assert led("http://[") == "/ui/login"
