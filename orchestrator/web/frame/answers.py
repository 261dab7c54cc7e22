"""What a page hears of what it asked for: a word in a corner, another page, or text to be saved."""

from __future__ import annotations

import json
from typing import Literal
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from orchestrator.web.frame.rendering import HEADERS, base_of

Kind = Literal["good", "bad"]
_LONGEST = 500
_AS_IT_IS = ":/%#?=@[]!$&'()*+,;"
"""In an address; all else is escaped: it travels in a header, and some of it was somebody's link."""


def said(text: str, kind: Kind = "good", *, status: int = 204) -> Response:
    """A word that stays on the screen for some seconds and is read out; the live part of the page shows the rest."""
    return Response(status_code=status, headers={**HEADERS, "HX-Trigger": _word(text, kind)})


def went(request: Request, path: str) -> Response:
    """To another page, `path` below ours, however the browser asked."""
    target = quote(base_of(request) + path, safe=_AS_IT_IS)
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={**HEADERS, "HX-Redirect": target})
    return RedirectResponse(target, status_code=303, headers=HEADERS)


def saved(name: str, text: str) -> Response:
    """Text that somebody else wrote, as a file: never shown by the browser. `name` is ours."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return PlainTextResponse(text, headers=headers)


def _word(text: str, kind: Kind) -> str:
    return json.dumps({"said": {"text": text[:_LONGEST], "kind": kind}})  # ASCII: it travels in a header
