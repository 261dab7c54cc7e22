"""In with a token, and out again."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from orchestrator.errors import NotFound, Unauthorized
from orchestrator.web.frame.answers import went
from orchestrator.web.frame.choosing import is_inside
from orchestrator.web.frame.forms import OF_ANYBODY, fields
from orchestrator.web.frame.rendering import THEMES, page
from orchestrator.web.frame.visiting import Here, close_session, cookie_path, open_session

router = APIRouter()


async def _not_inside(request: Request) -> None:
    """In the dashboard it is the gateway that lets people in. Raises NotFound."""
    if is_inside(request):
        raise NotFound("there is no page of this address")


OURS = [Depends(_not_inside)]


@router.get("/login", dependencies=OURS)
async def ask(request: Request, to: str = "/") -> Response:
    return page(request, "login.html", None, to=to, wrong=None)


@router.post("/login", dependencies=OURS)
async def sign_in(request: Request, here: Here) -> Response:
    sent = await fields(request, OF_ANYBODY)
    answer = went(request, _inside(sent.get("to", "/")))
    try:
        await open_session(request, sent.get("token", "").strip(), answer)
    except Unauthorized as error:
        return page(request, "login.html", None, status=422, to=sent.get("to", "/"), wrong=error.message)
    return answer


@router.post("/logout", dependencies=OURS)
async def sign_out(request: Request, here: Here) -> Response:
    answer = went(request, "/login")
    close_session(request, answer)
    return answer


@router.post("/theme")
async def choose_theme(request: Request, here: Here) -> Response:
    """Dark, light, or as the system has it; the browser remembers. The page changes itself (muster.js): loading it anew
    would lose what was typed."""
    asked = (await fields(request, OF_ANYBODY)).get("theme")
    answer = Response(status_code=204)
    if asked in THEMES:
        answer.set_cookie("muster_theme", asked, max_age=365 * 86400, path=cookie_path(request), samesite="lax")
    return answer


def _inside(path: str) -> str:
    """A page of ours, never somebody else's site."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
