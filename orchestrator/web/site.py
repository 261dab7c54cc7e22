"""The pages put together, as an application below the one that answers programs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Scope

from orchestrator.api.app import build as app_for_programs
from orchestrator.api.office import Office
from orchestrator.api.problems import status_of
from orchestrator.errors import MusterError, NotFound, Unauthorized
from orchestrator.web.batches import form as batch_form
from orchestrator.web.batches import pages as batch_pages
from orchestrator.web.catalog import pages as template_pages
from orchestrator.web.entry import login, namespaces, overview
from orchestrator.web.filling import submit, uploads
from orchestrator.web.fleet import gang, gangs, pools
from orchestrator.web.frame.answers import said, went
from orchestrator.web.frame.choosing import Undecided, is_inside
from orchestrator.web.frame.kept import Kept
from orchestrator.web.frame.live import Boards
from orchestrator.web.frame.rendering import PAGES, base_of, page
from orchestrator.web.frame.visiting import Visitor, prove, visitor
from orchestrator.web.requests import files as request_files
from orchestrator.web.requests import listing as requests
from orchestrator.web.requests import logs as request_logs
from orchestrator.web.requests import one as request
from orchestrator.web.requests import several as several_requests
from orchestrator.web.schedules import edit as schedule_edit
from orchestrator.web.schedules import pages as schedules

log = logging.getLogger("muster.web")

FOR_GOOD = "public, max-age=31536000, immutable"


def application(office: Office) -> FastAPI:
    """All that one replica answers: programs, and people with a browser."""
    app = app_for_programs(office)

    async def front(request: Request) -> Response:
        return RedirectResponse(base_of(request) + "/")

    app.add_api_route("/", front, methods=["GET"], include_in_schema=False)
    app.mount(PAGES, pages(office))
    return app


def pages(office: Office) -> FastAPI:
    """The pages alone."""
    site = FastAPI(openapi_url=None, dependencies=[Depends(_readable), Depends(prove)])
    site.state.office = office
    site.state.boards = Boards(office)
    site.state.kept = Kept()
    for one in (
        gang,
        gangs,
        login,
        namespaces,
        overview,
        pools,
        requests,
        schedule_edit,
        schedules,
        submit,
        template_pages,
        batch_form,
        batch_pages,
        uploads,
        several_requests,
        request,
        request_files,
        request_logs,
    ):
        site.include_router(one.router)
    site.mount("/static", Assets(packages=[("orchestrator.web", "static")]))
    site.add_exception_handler(MusterError, _on_muster_error)
    site.add_exception_handler(RequestValidationError, _on_odd_address)
    site.add_exception_handler(HTTPException, _on_http_error)
    site.add_exception_handler(Exception, _on_defect)
    return site


async def _readable(request: Request) -> None:
    """Raises NotFound for an address that names what nobody can have stored. (What a query asks for is each page's.)"""
    if "\0" in request.url.path:
        raise NotFound("there is no page of this address")


class Assets(StaticFiles):
    """Files of the package; their addresses name their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = FOR_GOOD if b"v=" in scope["query_string"] else "no-cache"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


async def _on_muster_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, MusterError):
        raise error
    if isinstance(error, Undecided):
        return went(request, "/namespaces")
    if isinstance(error, Unauthorized) and not is_inside(request):
        return _to_login(request)
    return await _sorry(request, status_of(error), error.code, error.message)


async def _on_odd_address(request: Request, error: Exception) -> Response:
    return await _sorry(request, 404, "not_found", "there is no page of this address")


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return await _sorry(request, status, "http_error", HTTPStatus(status).phrase)


async def _on_defect(request: Request, error: Exception) -> Response:
    said_ = {"action": "defect", "method": request.method, "path": request.url.path}
    log.error("a defect in a page", extra=said_, exc_info=error)
    return await _sorry(request, 500, "internal", "an internal error; it is in the service's log")


def _to_login(request: Request) -> Response:
    asked = _page_of(request)
    return went(request, "/login" + (f"?{urlencode({'to': asked})}" if asked else ""))


def _page_of(request: Request) -> str:
    """The page that somebody looks at, below ours: of a part or a change it is the one that asked for it."""
    if not request.headers.get("hx-request"):
        return _below(request.url.path.removeprefix(PAGES), request.url.query) if request.method == "GET" else ""
    try:
        shown = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        return ""
    base = base_of(request)
    return _below(shown.path.removeprefix(base), shown.query) if shown.path.startswith(f"{base}/") else ""


def _below(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


async def _sorry(request: Request, status: int, code: str, message: str) -> Response:
    if request.headers.get("hx-request"):
        return said(message, "bad", status=status)
    return page(request, "error.html", await _somebody(request, visitor), status=status, code=code, message=message)


async def _somebody(request: Request, who: Callable[[Request], Awaitable[Visitor]]) -> Visitor | None:
    try:
        return await who(request)
    except MusterError:
        return None
