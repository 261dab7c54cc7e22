"""Who may do what: every route of the API and every page against every role, in the user's namespace and in another.

The rows say what people are promised (docs/kubeflow.md), by hand; nothing here is asked of the code that is tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
from gateway_house import House
from integration.test_scopes import ADMIN, IDS, READ, ROUTES, SUBMIT

from orchestrator.web import site

VIEW = ("get", "list", "watch")
ROLES: dict[str, tuple[str, ...]] = {
    "nobody": (),
    "lister": ("list", "watch"),
    "viewer": VIEW,
    "submitter": (*VIEW, "create"),
    "canceler": (*VIEW, "delete"),
    "manager": (*VIEW, "update", "patch"),
    "editor": (*VIEW, "create", "delete", "update", "patch"),
    "sender": ("create",),
    "owner": ("*",),
}
"""Verbs on PyTorchJobs."""
MAY = {
    "nobody": "",
    "lister": "",
    "viewer": "see",
    "submitter": "see submit",
    "canceler": "see cancel",
    "manager": "see manage",
    "editor": "see submit cancel steer manage",
    "sender": "submit",
    "owner": "see submit cancel steer manage",
}

SUBMITS = """
POST /v1/requests
PUT /v1/requests/{request_id}
POST /v1/requests:validate
POST /v1/requests/{request_id}/retry
POST /v1/files
POST /v1/batches
POST /v1/batches/{batch_id}/items/{custom_id}/retry
"""
CANCELS = """
DELETE /v1/requests/{request_id}
POST /v1/requests/{request_id}/cancel
DELETE /v1/batches/{batch_id}
POST /v1/batches/{batch_id}/cancel
"""
STEERS = """
POST /v1/batches/{batch_id}/pause
POST /v1/batches/{batch_id}/resume
POST /v1/schedules
PATCH /v1/schedules/{schedule}
DELETE /v1/schedules/{schedule}
POST /v1/schedules/{schedule}/trigger
POST /v1/schedules/{schedule}/pause
POST /v1/schedules/{schedule}/resume
"""
MANAGES = """
PUT /v1/templates/{name}
DELETE /v1/templates/{name}
PATCH /v1/pools/{name}
POST /v1/pools/{name}/drain
POST /v1/pools/{name}/recycle
POST /v1/gangs/{gang}/drain
"""
NEVER = "never"
PAGES_FOR_ALL = {"GET /namespaces", "POST /theme"}
PAGES_OF_SESSIONS = {"GET /login", "POST /login", "POST /logout"}
PAGES = {
    "POST /gangs/{gang}/drain": "manage",
    "POST /pools/{name}": "manage",
    "POST /pools/{name}/drain": "manage",
    "POST /pools/{name}/recycle": "manage",
    "POST /requests/_cancel": "cancel",
    "POST /requests/{request_id}/cancel": "cancel",
    "POST /requests/{request_id}/delete": "cancel",
    "POST /requests/{request_id}/retry": "submit",
    "GET /templates/{name}/submit": "submit",
    "POST /templates/{name}/submit": "submit",
    "POST /templates/{name}/check": "submit",
    "POST /files": "submit",
    "GET /templates/-/new": "manage",
    "POST /templates/-/new": "manage",
    "GET /templates/{name}/edit": "manage",
    "POST /templates/{name}/edit": "manage",
    "POST /templates/{name}/delete": "manage",
    "POST /batches/{batch_id}/cancel": "cancel",
    "POST /batches/{batch_id}/delete": "cancel",
    "POST /batches/{batch_id}/pause": "steer",
    "POST /batches/{batch_id}/resume": "steer",
    "POST /batches/{batch_id}/items/{custom_id}/retry": "submit",
    "GET /batches/new": "submit",
    "POST /batches/new": "submit",
    "GET /schedules/_new": "steer",
    "POST /schedules/_new": "steer",
    "POST /schedules/_preview": "steer",
    "POST /schedules/_runs": "steer",
    "GET /schedules/{schedule}/edit": "steer",
    "POST /schedules/{schedule}/edit": "steer",
    "POST /schedules/{schedule}/trigger": "steer",
    "POST /schedules/{schedule}/pause": "steer",
    "POST /schedules/{schedule}/resume": "steer",
    "POST /schedules/{schedule}/delete": "steer",
}
"""What pages need that change something, or are there for a change."""


def rows(text: str) -> list[str]:
    return text.strip().splitlines()


def needed() -> dict[str, str]:
    """What each public route needs. Fails for a route without a row."""
    named = {
        **dict.fromkeys(rows(SUBMITS), "submit"),
        **dict.fromkeys(rows(CANCELS), "cancel"),
        **dict.fromkeys(rows(STEERS), "steer"),
        **dict.fromkeys(rows(MANAGES), "manage"),
    }
    found = {}
    for route, who in ROUTES.items():
        if who not in (READ, SUBMIT, ADMIN):
            continue
        if "/v1/tokens" in route:
            found[route] = NEVER
        elif "/v1/webhooks" in route:
            found[route] = "manage"
        elif route.startswith("GET "):
            found[route] = "see"
        else:
            found[route] = named.pop(route)
    assert not named, f"no such routes: {named}"
    return found


def needed_by_pages() -> dict[str, str]:
    """What each page needs. Fails for a page without a row."""
    found = {}
    for route in sorted(_pages()):
        if route in PAGES_FOR_ALL:
            found[route] = ""
        elif route in PAGES_OF_SESSIONS:
            found[route] = NEVER
        else:
            found[route] = "see" if route.startswith("GET ") and route not in PAGES else PAGES[route]
    return found


def _pages() -> Iterator[str]:
    application = site.pages(SimpleNamespace())  # type: ignore[arg-type]
    for one in _contexts(application.routes):
        for method in (getattr(one, "methods", None) or set()) - {"HEAD"}:
            yield f"{method} {one.path}"


def _contexts(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            yield from route.effective_route_contexts()
        else:
            yield route


# --------------------------------------------------------------------------------------------------------------- asking


def call(client: httpx.Client, route: str, under: str = "") -> httpx.Response:
    method, path = route.split()
    filled = under + re.sub(r"\{(\w+)(:\w+)?\}", lambda match: IDS.get(match[1], "x"), path)
    if "/live/" in path or path.endswith("/events"):
        with client.stream(method, filled) as answer:  # who may see it gets a stream without end
            return answer
    return client.request(method, filled, **({"json": {}} if method in ("POST", "PUT", "PATCH") else {}))


def wrong_in_api(house: House, user: str, role: str, home: str, other: str, *, but: str = "") -> list[str]:
    """Every call whose answer is not the promised one. `but`: what the role is not promised there."""
    wrong = []
    for namespace, may in ((home, [one for one in MAY[role].split() if one != but]), (other, [])):
        with house.user(user, namespace) as client:
            for route, need in needed().items():
                answer = call(client, route)
                refused = answer.status_code == 403
                if refused == (need in may) or answer.status_code in (401, 500, 502, 503):
                    wrong.append(f"{role} in {namespace}: {route} ({need}) was answered {answer.status_code}")
    return wrong


def wrong_on_pages(house: House, user: str, role: str, home: str, other: str, *, but: str = "") -> list[str]:
    """Every page whose answer is not the promised one. A thing that is not there may be said to be so before."""
    wrong = []
    proof = {"Cookie": f"XSRF-TOKEN={'x' * 32}", "X-XSRF-TOKEN": "x" * 32}
    for namespace, may in ((home, [one for one in MAY[role].split() if one != but]), (other, [])):
        with house.user(user, namespace, **proof) as client:
            for route, need in needed_by_pages().items():
                status = call(client, route, "/ui").status_code
                good = status != 403 if need == "" or (need in may and "see" in may) else status in (403, 404)
                if not good or status in (401, 500, 502, 503):
                    wrong.append(f"{role} in {namespace}: {route} ({need}) was answered {status}")
    return wrong
