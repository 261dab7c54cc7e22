"""For schemathesis: paths and bodies that name what exists, of this tenant and of another one, and the canary check.

Loaded by SCHEMATHESIS_HOOKS; MUSTER_FUZZ_SEEDS is the file with what the two tenants own.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from schemathesis import GenerationMode

from orchestrator.api.batch_shapes import NamedBatchOrder
from orchestrator.api.schedule_shapes import ScheduleChange, ScheduleDraft
from orchestrator.api.submission import Submission

SEEDS = json.loads(Path(os.environ["MUSTER_FUZZ_SEEDS"]).read_text())
OURS, THEIRS = SEEDS["ours"], SEEDS["theirs"]
KNOWN = {name: [*OURS["owned"].get(name, ()), *THEIRS["owned"].get(name, ())] for name in OURS["owned"]}


_FILES = st.sampled_from(KNOWN["file_id"])
_REQUEST = st.just({"template": "echo", "input": {"text": "x"}})
_BATCH = st.fixed_dictionaries({"template": st.just("echo"), "file": _FILES, "url": st.none()})
_RUNS = st.one_of(
    st.fixed_dictionaries({"runs": st.fixed_dictionaries({"request": _REQUEST})}),
    st.fixed_dictionaries({"runs": st.fixed_dictionaries({"batch": _BATCH})}),
)
SUBMISSIONS: dict[str, tuple[type[BaseModel], st.SearchStrategy[dict[str, Any]]]] = {
    **dict.fromkeys(("submit_request", "submit_request_as", "validate_request"), (Submission, _REQUEST)),
    "submit_batch": (NamedBatchOrder, _BATCH),
    "create_schedule": (ScheduleDraft, _RUNS),
    "change_schedule": (ScheduleChange, _RUNS),
}
"""What is put over a body that is good as it is, so that it names what this tenant or the other one has."""
BEYOND_SCHEMAS = {
    "bad_cursor",
    "idempotency_key_reused",
    "invalid_string",
    "invalid_template",
    "never_fires",
    "output_expired",
    "purged",
    "request_id_reused",
    "url_not_allowed",
    "webhook_url_refused",
}
"""Codes for what valid data may still be refused: it contradicts what is stored, or cannot be."""
BEYOND_POINTERS = (
    *("/input", "/min", "/name", "/query", "/since", "/status", "/webhook"),
    *("/cron", "/timezone", "/start_at", "/end_at", "/inject", "/runs"),
)
"""Likewise of `invalid_input`: a template's own schema, bounds that contradict each other, another path."""


@schemathesis.hook
def flatmap_path_parameters(ctx: Any, path_parameters: Any) -> Any:
    """Half of all calls name something that is there."""
    if not path_parameters:
        return st.just(path_parameters)
    known = {
        name: st.sampled_from([value, *_known(ctx, name)]) if _known(ctx, name) else st.just(value)
        for name, value in path_parameters.items()
    }
    return st.one_of(st.just(path_parameters), st.fixed_dictionaries(known))


def _known(ctx: Any, name: str) -> list[str]:
    if name == "name" and "/outputs/" in ctx.operation.path:
        return ["note.txt"]
    return KNOWN.get(name, [])


@schemathesis.hook
def flatmap_body(ctx: Any, body: Any) -> Any:
    """Many of the submissions name what is there. What is meant to be refused stays as it is."""
    model, of_what_is_there = SUBMISSIONS.get(ctx.operation.definition.raw["operationId"], (None, None))
    if model is None or of_what_is_there is None or not _valid(model, body):
        return st.just(body)
    return st.one_of(st.just(body), of_what_is_there.map(lambda known: {**body, **known}))


def _valid(model: type[BaseModel], body: Any) -> bool:
    try:
        model.model_validate(body)
    except ValidationError:
        return False
    return True


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """The token of this run is not revoked, and nobody waits for long."""
    with suppress(KeyError, TypeError, ValueError):
        if float(case.query["wait"]) > 1:
            case.query["wait"] = 0.1
    case.query.pop("follow", None)
    (case.headers or {}).pop("Prefer", None)
    if case.path_parameters.get("token_id") == OURS["token_id"]:
        case.path_parameters["token_id"] = OURS["owned"]["token_id"][0]


@schemathesis.check
def no_canary_of_the_other_tenant(ctx: Any, response: Any, case: Any) -> None:
    """What another tenant wrote is in no answer: body, headers, or text of an error (I22)."""
    seen = response.content + repr(response.headers).encode()
    assert THEIRS["canary"].encode() not in seen, f"{case.operation.label} shows what tenant {THEIRS['name']} wrote"


@schemathesis.check
def every_code_is_declared(ctx: Any, response: Any, case: Any) -> None:
    """The codes of an answer stand beside its schema, where schemathesis does not look."""
    told = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    if "x-codes" in told and response.content:
        assert response.json()["code"] in told["x-codes"], f"{case.operation.label}: {response.json()['code']}"


@schemathesis.check
def valid_data_is_refused_only_for_what_no_schema_can_say(ctx: Any, response: Any, case: Any) -> None:
    """In place of `positive_data_acceptance`, which knows statuses but not codes."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if response.status_code < 400 or response.status_code in (401, 403, 404, 405, 409, 416, 429, 503):
        return
    told = response.json()
    named = [error["pointer"] for error in told["errors"]]
    beyond = told["code"] == "invalid_input" and any(pointer.startswith(BEYOND_POINTERS) for pointer in named)
    assert told["code"] in BEYOND_SCHEMAS or beyond, f"valid data, refused: {told}"
