"""A port for workers alone: each door shows its own paths and nothing of the other's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.domain.ids import new_id
from orchestrator.service.replica import replica
from orchestrator.settings import Settings
from orchestrator.store.database import Database

WORK = f"/internal/v1/gangs/{new_id('gng')}/work"


@pytest.fixture
def doors(database: Database, tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """The public door and that of workers, of one replica as `serve` puts it together."""
    settings = Settings(folder=tmp_path, database_url=database.url, port=0, worker_port=0)
    with (
        replica(settings, database) as (url, desk, _),
        httpx.Client(base_url=url) as public,
        httpx.Client(base_url=desk.settings.api_urls[0]) as workers,
    ):
        assert public.base_url != workers.base_url
        yield public, workers


def test_the_worker_api_is_at_the_workers_door_only(doors: tuple[httpx.Client, httpx.Client]) -> None:
    public, workers = doors
    assert workers.get(WORK).status_code == 401
    assert public.get(WORK).status_code == 404


def test_the_public_api_is_at_the_public_door_only(doors: tuple[httpx.Client, httpx.Client]) -> None:
    public, workers = doors
    for path in ("/v1/requests", "/v1/templates", "/openapi.json"):
        assert public.get(path).status_code in (200, 401)
        assert workers.get(path).status_code == 404


def test_a_path_of_the_other_door_looks_like_one_that_does_not_exist(
    doors: tuple[httpx.Client, httpx.Client],
) -> None:
    public, workers = doors
    nowhere = public.get("/nowhere").json()
    assert public.get(WORK).json() == nowhere
    assert workers.get("/v1/requests").json() == nowhere


def test_no_header_opens_the_other_door(doors: tuple[httpx.Client, httpx.Client]) -> None:
    public, workers = doors
    forged = {"Host": workers.base_url.netloc.decode(), "X-Forwarded-Port": str(workers.base_url.port)}
    assert public.get(WORK, headers=forged).status_code == 404


def test_health_is_told_at_both_doors(doors: tuple[httpx.Client, httpx.Client]) -> None:
    for door in doors:
        assert door.get("/healthz").status_code == door.get("/readyz").status_code == 200


def test_without_a_door_of_the_gateway_a_user_whom_somebody_names_is_nobody(
    doors: tuple[httpx.Client, httpx.Client],
) -> None:
    named = {"kubeflow-userid": "ada@example.org", "kubeflow-groups": "ops", "Muster-Namespace": "default"}
    public, workers = doors
    assert public.get("/v1/requests", headers=named).status_code == 401
    assert public.get("/ui/", headers=named).status_code == 303
    assert workers.get(WORK, headers=named).status_code == 401
