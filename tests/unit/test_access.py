"""What verbs and names of Kubernetes come to, with no Kubernetes."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.domain.access import ALL_VERBS, MOST_GROUPS, VERBS, Permission, granted, is_namespace, user
from orchestrator.errors import Unauthorized
from orchestrator.store.tokens import SCOPE_OF, Scope, permissions


def test_a_permission_needs_every_one_of_its_verbs() -> None:
    for size in range(len(ALL_VERBS) + 1):
        for allowed in itertools.combinations(ALL_VERBS, size):
            assert granted(allowed) == {one for one, verbs in VERBS.items() if not set(verbs) - set(allowed)}


def test_no_verb_of_kubernetes_lets_anybody_make_tokens() -> None:
    assert granted((*ALL_VERBS, "*", "escalate")) == set(Permission) - {Permission.ADMINISTER}


def test_every_permission_is_granted_by_a_scope_and_all_by_admin() -> None:
    assert SCOPE_OF.keys() == set(Permission)
    assert permissions([Scope.ADMIN]) == set(Permission)
    assert permissions([Scope.READ]) == {Permission.SEE}
    assert permissions([Scope.SUBMIT]) == {Permission.SUBMIT, Permission.CANCEL, Permission.STEER}
    assert permissions([]) == frozenset()


def test_a_person_is_in_the_groups_of_the_gateway_and_in_that_of_all_who_logged_in() -> None:
    ada = user("ada@example.org", ["team-b", "team-a", "team-a", ""])
    assert ada.groups == ("team-a", "team-b", "system:authenticated")
    assert ada.home is None


def test_a_service_account_is_in_the_groups_of_its_namespace_whatever_the_gateway_says() -> None:
    account = user("system:serviceaccount:team-a:default-editor", ["system:masters", "admins"])
    assert account.groups == ("system:serviceaccounts", "system:serviceaccounts:team-a", "system:authenticated")
    assert account.home == "team-a"


def test_a_login_puts_nobody_into_a_group_that_means_something_to_kubernetes() -> None:
    assert user("eve@example.org", ["system:masters", "system:nodes"]).groups == ("system:authenticated",)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "system:admin",
        "system:masters",
        "system:node:one",
        "system:serviceaccount:team-a",
        "system:serviceaccount:team-a:",
        "system:serviceaccount::x",
        "system:serviceaccount:Team:x",
        "system:serviceaccount:a:b:c",
        "a\nb",
        "a\x00",
        "a\x7fb",
        " ada",
        "a" * 257,
    ],
)
def test_a_name_that_no_login_can_have_is_nobody(name: str) -> None:
    with pytest.raises(Unauthorized):
        user(name, [])


def test_a_user_in_more_groups_than_are_asked_about_is_refused_instead_of_cut() -> None:
    with pytest.raises(Unauthorized):
        user("ada", [f"g{number}" for number in range(MOST_GROUPS + 1)])


def test_a_namespace_is_named_as_kubernetes_names_them() -> None:
    assert all(map(is_namespace, ("a", "team-a", "0", "a" * 63)))
    assert not any(map(is_namespace, ("", "-a", "a-", "A", "a_b", "a.b", "a/b", "a" * 64, "a\n", "é")))
