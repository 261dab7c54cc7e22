"""Every action by every role in both namespaces. tests/cluster asks the same of a real API server."""

from __future__ import annotations

from collections.abc import Iterator

import gateway_house
import gateway_matrix
import pytest
from gateway_house import House
from gateway_matrix import ROLES

from orchestrator.store.database import Database

VERBS = ("get", "list", "watch", "create", "delete", "update", "patch")


@pytest.fixture(scope="module")
def house(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with gateway_house.house(shared_database, tmp_path_factory.mktemp("matrix")) as here:
        for role, verbs in ROLES.items():
            here.reviews.bind(f"{role}@example.org", "team-a", *(VERBS if verbs == ("*",) else verbs))
        yield here


SHORT = ("viewer", "submitter", "canceler", "manager", "editor")
"""What `make test` looks at; the rest is for `make test-long`."""


@pytest.mark.parametrize(
    "role", [role if role in SHORT else pytest.param(role, marks=pytest.mark.long) for role in ROLES]
)
def test_a_role_opens_what_it_is_promised_to_open_and_nothing_else(house: House, role: str) -> None:
    user = f"{role}@example.org"
    assert gateway_matrix.wrong_in_api(house, user, role, "team-a", "team-b") == []
    assert gateway_matrix.wrong_on_pages(house, user, role, "team-a", "team-b") == []
