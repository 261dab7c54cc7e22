"""Somebody with a browser, without the browser: a session of the pages as an httpx client."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import builders as make
import httpx
from replica import ALL, Replica

from orchestrator.store import tokens
from orchestrator.store.database import Tx
from orchestrator.store.tokens import Scope


class Visitor:
    """Signed in with a token of these scopes; of a tenant of its own unless one is named."""

    def __init__(self, here: Replica, *scopes: Scope, tenant: str | None = None) -> None:
        def work(tx: Tx) -> tuple[str, str]:
            of = tenant or make.tenant(tx)
            return of, tokens.create(tx, tenant=of, name="test", scopes=scopes or ALL)[1]

        self.tenant, token = here.database.transact(work)
        self._here = here
        self.http = httpx.Client(base_url=f"{here.url}/ui", timeout=30)
        here.clients.append(self.http)
        self.http.get("/login")
        self.http.headers["X-XSRF-TOKEN"] = self.http.cookies["XSRF-TOKEN"]
        assert self.post("/login", token=token).status_code == 303

    def get(self, path: str, status: int = 200) -> str:
        """The page."""
        answer = self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    def post(self, path: str, **fields: str) -> httpx.Response:
        """As htmx sends a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}
        if path == "/login":
            del headers["HX-Request"]
        return self.http.post(path, content=urlencode(fields), headers=headers)

    def transact(self, work: Callable[[Tx], Any]) -> Any:
        return self._here.database.transact(work)


def words(page: str) -> str:
    """What a page says, without its marks."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
