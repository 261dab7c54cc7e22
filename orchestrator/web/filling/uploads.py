"""A file that a form sends while it is filled: stored as the API stores it, answered as JSON for `forms.js`."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from orchestrator.api import files
from orchestrator.api.problems import problem, status_of
from orchestrator.domain.access import Permission
from orchestrator.errors import MusterError
from orchestrator.web.frame.visiting import Guest, Here

router = APIRouter()

_LONGEST = 200
_ODD = re.compile(r"[^A-Za-z0-9_. ()+,=@-]")


@router.post("/files")
async def upload(request: Request, here: Here, visitor: Guest, name: str = "file") -> Response:
    """The body is the file. A visitor who cancels breaks the call off."""
    try:
        return await files.upload(request, here, visitor.allow(Permission.SUBMIT), plain(name))
    except MusterError as error:
        return problem(status_of(error), error.code, error.message)
    except ClientDisconnect:
        return JSONResponse({}, status_code=400)  # nobody reads it


def plain(name: str) -> str:
    """A name that the API takes, as near as can be; the suffix stays, since it tells scripts what the file is."""
    kept = _ODD.sub("_", name)
    if not re.match(r"[A-Za-z0-9_]", kept):
        kept = "_" + kept
    stem, dot, suffix = kept.rpartition(".")
    if len(kept) <= _LONGEST or not dot or len(suffix) > 20:
        return kept[:_LONGEST]
    return f"{stem[: _LONGEST - len(suffix) - 1]}.{suffix}"
