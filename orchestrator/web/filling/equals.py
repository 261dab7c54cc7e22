"""What a filled form equals: a line for the terminal, a call with curl, a few lines of Python. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.web.frame import spelling
from orchestrator.web.frame.spelling import Sent


@dataclass(frozen=True, kw_only=True)
class Equal:
    name: str
    text: str
    note: str = ""


def of_request(said: Mapping[str, Any], schema: Mapping[str, Any], *, url: str) -> list[Equal]:
    """Of a request as the API takes it; `url`: where the service is."""
    known = {one.name for one in fields(Sent)}
    sent = Sent(**{**_AS_ALWAYS, **{name: value for name, value in said.items() if name in known}})
    note = _NO_TRIES if sent.max_attempts is not None else ""
    return [
        Equal(name="Command line", text=spelling.submit_line(sent, schema), note=note),
        Equal(name="curl", text=spelling.curl_submit(sent, url)),
        Equal(name="Python", text=python(sent), note=note),
    ]


_AS_ALWAYS: Mapping[str, Any] = {"labels": {}, "mode": "auto", "priority": 0}
_NO_TRIES = "This has no word for the tries: curl says them."


def python(sent: Sent) -> str:
    """With the client of this package."""
    terms = [repr(sent.template), repr(sent.input)]
    terms += [f"{name}={getattr(sent, name)!r}" for name, usual in _AS_ALWAYS.items() if getattr(sent, name) != usual]
    for name, argument in (("timeout_s", "timeout"), ("expire_queued_after_s", "expire_queued_after")):
        if (seconds := getattr(sent, name)) is not None:
            terms.append(f"{argument}=timedelta(seconds={seconds:g})")
    lines = [
        *(["from datetime import timedelta", ""] if "timedelta(" in "".join(terms[2:]) else []),
        "from orchestrator.client import Client",
        "",
        "with Client.from_env() as muster:",
        f"    request = muster.submit({', '.join(terms)})",
        "    print(muster.wait(request.id).result)",
    ]
    return "\n".join(lines)
