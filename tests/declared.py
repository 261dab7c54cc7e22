"""Holds an answer of the API to /openapi.json: a status, a code or a field that is not declared there is a failure.

A hook of httpx clients, so that the whole test-suite looks at the contract. The worker API is no part of it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, cast

import httpx
from jsonschema import Draft202012Validator

from orchestrator.api.app import described

Json = dict[str, Any]


@cache
def document() -> Json:
    """The contract; it depends on no state of a replica."""
    return described().openapi()


def check(answer: httpx.Response) -> None:
    """Raises AssertionError for what the contract does not declare."""
    told = _operation(answer.request.method, answer.request.url.path)
    if told is None:
        return
    name = f"{told['operationId']}: {answer.status_code}"
    assert str(answer.status_code) in told["responses"], f"{name} is not declared"
    declared = told["responses"][str(answer.status_code)]
    media = answer.headers.get("content-type", "").partition(";")[0]
    content = declared.get("content", {})
    if not content:
        return
    assert media in content or "*/*" in content, f"{name} is declared as {list(content)}, not as {media}"
    for header in _required(declared):
        assert header in answer.headers, f"{name} lacks {header}"
    if media.endswith("json") and media in content:
        body = answer.read()
        wrong = [
            f"{e.json_path}: {e.message}"
            for e in _validator(told["operationId"], answer.status_code).iter_errors(answer.json())
        ]
        assert not wrong, f"{name} is not as declared: {wrong[:3]} in {body[:500]!r}"
    if media == "application/problem+json":
        assert answer.json()["code"] in declared["x-codes"], f"{name}: {answer.json()['code']} is not declared"


def _required(declared: Json) -> list[str]:
    return [
        name for name in declared.get("headers", {}) if name in ("WWW-Authenticate", "Retry-After", "Location", "ETag")
    ]


def _operation(method: str, path: str) -> Json | None:
    for pattern, template in _paths():
        if pattern.fullmatch(path):
            return cast(Json | None, document()["paths"][template].get(method.lower()))
    return None


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Those without a parameter first."""
    templates = sorted(document()["paths"], key=lambda path: ("{" in path, path))
    return [
        (re.compile(re.sub(r"\{[^}]*\}", "[^/]+", re.escape(path).replace(r"\{", "{").replace(r"\}", "}"))), path)
        for path in templates
    ]


@cache
def _validator(operation: str, status: int) -> Draft202012Validator:
    told = next(
        one for path in document()["paths"].values() for one in path.values() if one["operationId"] == operation
    )
    content = told["responses"][str(status)]["content"]
    (schema,) = (one["schema"] for media, one in content.items() if media.endswith("json"))
    return Draft202012Validator({"components": _closed(document()["components"]), **_closed(schema)})


def _closed(schema: Any) -> Any:
    """With every object closed to fields that are not named: clients must leave them alone, we must not forget them."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
