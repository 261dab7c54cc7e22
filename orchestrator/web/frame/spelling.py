"""The same from a terminal: lines for a shell to copy, quoted so that no value in them means anything else. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PLAIN: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_LONGEST_ARGUMENT = 4000
_LONGEST_PASTED = 16_000


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What it was sent with."""

    template: str
    input: Mapping[str, Any]
    labels: Mapping[str, str]
    mode: str
    priority: int
    timeout_s: float | None = None
    expire_queued_after_s: float | None = None
    max_attempts: int | None = None
    """No option of `muster submit` says it."""


def submit_line(sent: Sent, schema: Mapping[str, Any] | None) -> str:
    """`muster submit` with this input; what an option cannot say exactly comes over stdin."""
    terms = [*_terms(sent)]
    pairs = _pairs(sent.input, schema)
    if pairs is not None:
        return shlex.join(["muster", "submit", sent.template, *pairs, *terms])
    whole = shlex.quote(json.dumps(sent.input, ensure_ascii=False))
    return f"printf %s {whole} | {shlex.join(['muster', 'submit', sent.template, '--stdin', *terms])}"


def _terms(sent: Sent) -> Iterator[str]:
    if sent.mode != "auto":
        yield from ("--mode", sent.mode)
    if sent.priority:
        yield f"--priority={sent.priority}"
    if sent.timeout_s is not None:
        yield from ("--timeout", f"{sent.timeout_s:g}s")
    if sent.expire_queued_after_s is not None:
        yield from ("--expire-queued", f"{sent.expire_queued_after_s:g}s")
    for key, value in sent.labels.items():
        yield from ("--label", f"{key}={value}")


def _pairs(values: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[str] | None:
    """As `-i KEY=VALUE` each, if the schema's types read every one of them back as it is."""
    properties = (schema or {}).get("properties") or {}
    told: list[str] = []
    for key, value in values.items():
        said = properties.get(key)
        if not key or "=" in key or not isinstance(said, Mapping) or not _is_plain(said, value):
            return None
        told += ["-i", f"{key}={_written(value)}"]
    return told if sum(map(len, told)) <= _LONGEST_ARGUMENT else None


def _is_plain(said: Mapping[str, Any], value: Any) -> bool:
    kind = said.get("type")
    if said.get("format") == "muster-file" or not isinstance(kind, str) or kind not in _PLAIN:
        return False
    return isinstance(value, _PLAIN[kind]) and isinstance(value, bool) == (kind == "boolean")


def _written(value: Any) -> str:
    """A string that begins with `@` would name a file: doubled, it is itself."""
    if isinstance(value, str):
        return f"@{value}" if value.startswith("@") else value
    return json.dumps(value)


def curl_submit(sent: Sent, url: str) -> str:
    body = {"template": sent.template, "input": sent.input, "mode": sent.mode, "priority": sent.priority}
    if sent.labels:
        body["labels"] = dict(sent.labels)
    bounds = {name: getattr(sent, name) for name in ("timeout_s", "expire_queued_after_s", "max_attempts")}
    body |= {name: value for name, value in bounds.items() if value is not None}
    whole = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"""{_curl(f"{url}/v1/requests")} \\\n  -H 'Content-Type: application/json' \\\n  --data-binary {whole}"""


def _curl(url: str, *options: str) -> str:
    """The token stays in the variable."""
    return " ".join(["curl", *options, '-H "Authorization: Bearer $MUSTER_TOKEN"', shlex.quote(url)])


def lines(request_id: str, sent: Sent, schema: Mapping[str, Any] | None, url: str) -> list[tuple[str, str, str]]:
    """What it does, the line of the command line, and that of curl."""
    at = f"{url}/v1/requests/{request_id}"
    return [
        ("look at it", f"muster get {request_id}", _curl(at)),
        ("wait for its end", f"muster wait {request_id}", _curl(f"{at}?wait=30")),
        ("follow its logs", f"muster logs -f {request_id}", _curl(f"{at}/logs?rank=all&follow=true", "-N")),
        ("why it waits or failed", f"muster explain {request_id}", _curl(f"{at}/explain")),
        ("fetch its outputs", f"muster download {request_id}", _curl(f"{at}/outputs")),
        ("cancel it", f"muster cancel {request_id}", _curl(f"{at}/cancel", "-X POST")),
        _again(request_id, sent, schema, url),
    ]


def _again(request_id: str, sent: Sent, schema: Mapping[str, Any] | None, url: str) -> tuple[str, str, str]:
    """With its input, where that is no longer than a line that somebody pastes."""
    if len(json.dumps(sent.input)) > _LONGEST_PASTED:
        retry = _curl(f"{url}/v1/requests/{request_id}/retry", "-X POST")
        return "send the same again", f"muster retry {request_id}", retry
    return "send the same again", submit_line(sent, schema), curl_submit(sent, url)
