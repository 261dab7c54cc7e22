"""What is accepted is accepted once; what cannot be run is refused and leaves nothing behind (A7)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from stage import QUAD, Up

from orchestrator.errors import Invalid


def submit(up: Up, key: str, values: dict[str, Any]) -> httpx.Response:
    return httpx.post(
        f"{up.client.url}/v1/requests",
        json={"template": QUAD, "input": values},
        headers={"Authorization": f"Bearer {up.token}", "Idempotency-Key": key},
        timeout=30,
        trust_env=False,
    )


def rows(up: Up) -> int:
    return int(up.look(lambda tx: tx.execute(text("SELECT count(*) FROM request")).scalar_one()))


@pytest.mark.long
def test_32_parallel_submits_with_one_key_are_one_request(service: Up) -> None:
    before = rows(service)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: submit(service, "race", {"text": "once"}), range(32)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert Counter(answer.headers.get("Idempotent-Replayed") for answer in answers) == {None: 1, "true": 31}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert rows(service) == before + 1
    assert service.done(answers[0].json()["id"]).attempt == 1


def test_a_key_that_was_used_with_another_body_is_refused(service: Up) -> None:
    submit(service, "taken", {"text": "one"}).raise_for_status()
    before = rows(service)
    answer = submit(service, "taken", {"text": "another"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert rows(service) == before


@pytest.mark.parametrize("values", [{"steps": "three"}, {"steps": 0}, {"text": None}])
def test_input_that_does_not_fit_is_refused_and_not_recorded(service: Up, values: dict[str, Any]) -> None:
    before = rows(service)
    with pytest.raises(Invalid) as refused:
        service.client.submit(QUAD, values)
    assert refused.value.pointer == f"/input/{next(iter(values))}"
    assert rows(service) == before
