"""A browser without a screen: the session and the proof that the pages want, and what is read in what they answer."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from replica import Replica
from sqlalchemy import event


@contextmanager
def signed_in(url: str, token: str) -> Iterator[httpx.Client]:
    """Sends the proof with every call, as the pages do."""
    with httpx.Client(base_url=url, timeout=60) as browser:
        browser.get("/ui/login")
        browser.headers["X-XSRF-TOKEN"] = browser.cookies["XSRF-TOKEN"]
        assert browser.post("/ui/login", data={"token": token}).status_code == 303
        yield browser


@contextmanager
def counted(here: Replica) -> Iterator[list[str]]:
    """The statements that the replica sends to its database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engine = here.office.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def fields(page: str) -> dict[str, Any]:
    """What the fields of a page's form hold, by name, as a browser would send them."""
    form = page[page.index('<form id="order"') : page.index("</form>", page.index('<form id="order"'))]
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input [^>]*>", form):
        told = dict(re.findall(r'([a-z]+)="([^"]*)"', tag))
        kind, name = told.get("type", "text"), html.unescape(told.get("name", ""))
        if name and kind != "file" and (kind not in ("checkbox", "radio") or " checked" in tag):
            value = html.unescape(told.get("value", "on"))
            found.setdefault(name, []).append(value)
    for name, text in re.findall(r'<textarea [^>]*name="([^"]*)"[^>]*>\n(.*?)</textarea>', form, re.DOTALL):
        found[html.unescape(name)] = [html.unescape(text)]
    for name, inner in re.findall(r'<select [^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', inner) or re.search(r'value="([^"]*)"', inner)
        found[html.unescape(name)] = [html.unescape(chosen[1] if chosen else "")]
    return found


def wrong(page: str) -> list[str]:
    """What the page says is wrong, in its order."""
    return [html.unescape(one).strip() for one in re.findall(r'class="wrong" id="[^"]*">([^<]*)<', page)]
