"""What of a call's headers names a user, under the names that a Kubeflow may use for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from orchestrator.api.gateway import peer, user_of
from orchestrator.errors import Unauthorized
from orchestrator.settings import Settings


def told(settings: dict[str, Any], *headers: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    found = user_of(Headers(raw=raw), Settings(folder=Path("/nowhere"), **settings))
    return found.name, found.groups


def test_the_header_its_prefix_and_that_of_groups_are_the_operators_choice() -> None:
    settings = {"userid_header": "X-Goog-User", "userid_prefix": "accounts:", "groups_header": "x-teams"}
    headers = (("x-goog-user", "accounts:ada@example.org"), ("x-teams", "a"), ("x-teams", "b, c"))
    assert told(settings, *headers) == ("ada@example.org", ("a", "b", "c", "system:authenticated"))
    with pytest.raises(Unauthorized):
        told(settings, ("kubeflow-userid", "ada@example.org"))


def test_a_prefix_is_taken_off_once_and_a_name_without_it_is_taken_as_it_is() -> None:
    settings = {"userid_prefix": "accounts:"}
    assert told(settings, ("kubeflow-userid", "accounts:accounts:x"))[0] == "accounts:x"
    account = "system:serviceaccount:team-a:default-editor"  # the gateway puts no prefix there
    assert told(settings, ("kubeflow-userid", account))[0] == account


def test_no_prefix_makes_a_name_of_kubernetes_out_of_another() -> None:
    for name in ("accounts:system:admin", "accounts:", "accounts:system:masters"):
        with pytest.raises(Unauthorized):
            told({"userid_prefix": "accounts:"}, ("kubeflow-userid", name))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ((), None),
        (("",), None),
        (("URI=spiffe://a/b",), "a/b"),
        (('By=spiffe://x;Hash=1;Subject="";URI=spiffe://a/b',), "a/b"),
        (('By=spiffe://x;Hash=1;Subject="";URI=spiffe://a/b;DNS=c.d',), "a/b"),
        (("URI=spiffe://forged,By=spiffe://x;URI=spiffe://real",), "real"),
        (("URI=spiffe://forged", "By=spiffe://x;URI=spiffe://real"), "real"),
        (('URI=spiffe://forged;Subject=",By=spiffe://x;Hash=1;Subject="";URI=spiffe://real',), "real"),
        (('By=spiffe://x;Hash=1;Subject="CN=a,URI=spiffe://forged";URI=spiffe://real',), "real"),
        (("By=spiffe://forged;Hash=1",), None),
        (("NoURI=spiffe://forged",), None),
        (('URI=spiffe://forged,By=spiffe://x;Hash=1;Subject="";URI=',), None),
        (("URI=spiffe://forged,By=spiffe://x;Hash=1;URI=https://real",), None),
        (('URI=spiffe://forged,By=spiffe://x;Hash=1;URI="spiffe://real"',), "real"),
        (("URI=spiffe://forged,By=spiffe://x;Hash=1;URI=spiffe://",), None),
    ],
)
def test_the_peer_is_whom_the_nearest_proxy_names_last(said: tuple[str, ...], found: str | None) -> None:
    raw = [(b"x-forwarded-client-cert", one.encode()) for one in said]
    assert peer(Headers(raw=raw)) == found
