"""What a filled form equals: a line for the terminal, a call with curl, a few lines of Python. Pure.

Every value is quoted for where it is pasted. A form with values that a command cannot say says the whole input as JSON.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 6000
"""Characters of an input that is written out; a longer one is a file."""
_FILE = "input.json"


@dataclass(frozen=True, kw_only=True)
class Equal:
    name: str
    text: str
    note: str = ""


def of_request(said: Mapping[str, Any], *, url: str, texts: Collection[str] = ()) -> list[Equal]:
    """Of a request as the API takes it. `url`: of the service, if known; `texts`: inputs that are text and no JSON."""
    return [_cli(said, texts), _curl(said, url), _python(said)]


def _cli(said: Mapping[str, Any], texts: Collection[str]) -> Equal:
    values = said["input"]
    note = "The command has no option for tries: curl says them." if "max_attempts" in said else ""
    start = f"muster submit {shlex.quote(str(said['template']))}"
    if _is_long(values):
        lines = [f"{start} --input-file {_FILE}"]
    elif any(_is_odd(key, value, texts) for key, value in values.items()):
        lines = [f"echo {shlex.quote(json.dumps(values, ensure_ascii=False))} | {start} --stdin"]
    else:
        lines = [start, *("-i " + shlex.quote(f"{key}={_said(value)}") for key, value in values.items())]
    return Equal(name="Command line", text=" \\\n  ".join([*lines, *_options(said)]), note=note)


def _is_odd(key: str, value: Any, texts: Collection[str]) -> bool:
    """Whether `-i` would understand something else: a text that is JSON too is taken for that."""
    if not key or "=" in key:
        return True
    return isinstance(value, str) and key not in texts and _is_json(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _said(value: Any) -> str:
    """As `-i` reads it: a text as it is, but for @, which would name a file."""
    if isinstance(value, str):
        return f"@{value}" if value.startswith("@") else value
    return json.dumps(value, ensure_ascii=False)


def _options(said: Mapping[str, Any]) -> list[str]:
    found = []
    if said.get("mode", "auto") != "auto":
        found.append(f"--mode {shlex.quote(str(said['mode']))}")
    if said.get("priority"):
        found.append(f"--priority {said['priority']}")
    if "timeout_s" in said:
        found.append(f"--timeout {said['timeout_s']:g}s")
    if "expire_queued_after_s" in said:
        found.append(f"--expire-queued {said['expire_queued_after_s']:g}s")
    labels = said.get("labels", {})
    return found + [f"--label {shlex.quote(f'{key}={value}')}" for key, value in labels.items()]


def _curl(said: Mapping[str, Any], url: str) -> Equal:
    body = f"@{_FILE}" if _is_long(said["input"]) else json.dumps(said, ensure_ascii=False)
    note = f"{_FILE} holds the whole body here." if _is_long(said["input"]) else ""
    lines = [
        f"curl -sS {shlex.quote(f'{url}/v1/requests') if url else _URL}",
        '-H "Authorization: Bearer $MUSTER_TOKEN"',
        "-H 'Content-Type: application/json'",
        '-H "Idempotency-Key: $(uuidgen)"',
        f"--data {shlex.quote(body)}",
    ]
    return Equal(name="curl", text=" \\\n  ".join(lines), note=note)


def _python(said: Mapping[str, Any]) -> Equal:
    given = f"json.load(open({_FILE!r}))" if _is_long(said["input"]) else repr(said["input"])
    terms = [repr(said["template"]), given]
    terms += [f"{name}={said[name]!r}" for name in ("mode", "priority", "labels") if said.get(name) not in _AS_ALWAYS]
    for name, argument in (("timeout_s", "timeout"), ("expire_queued_after_s", "expire_queued_after")):
        if name in said:
            terms.append(f"{argument}=timedelta(seconds={said[name]:g})")
    imports = ["import json"] * ("json.load" in given)
    imports += ["from datetime import timedelta"] * any("timedelta(" in term for term in terms)
    lines = [
        *imports,
        "from orchestrator.client import Client",
        "",
        "with Client.from_env() as muster:",
        f"    request = muster.submit({', '.join(terms)})",
        "    print(muster.wait(request.id).result)",
    ]
    note = "The client has no argument for tries: curl says them." if "max_attempts" in said else ""
    return Equal(name="Python", text="\n".join(lines), note=note)


_URL = '"$MUSTER_URL/v1/requests"'
_AS_ALWAYS: tuple[Any, ...] = (None, "auto", 0, {})


def _is_long(values: Mapping[str, Any]) -> bool:
    return len(json.dumps(values)) > LONGEST
