"""Several places of gangs: each answers for itself, and one that refuses keeps nobody from the others."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from scripted_backend import ScriptedBackend

from orchestrator.backends.base import Observed
from orchestrator.backends.kubeflow_names import place_name, place_of
from orchestrator.backends.places import Places
from orchestrator.domain.addresses import Addresses
from orchestrator.errors import BackendError, Invalid
from orchestrator.settings import MOST_GANG_NAMESPACES, Settings

GONE = BackendError("the namespace is gone", code="namespace_gone")


class Refusing(ScriptedBackend):
    """Says no while it is asked to."""

    shut = True
    closed = False

    def observe(self) -> tuple[Observed, ...]:
        if self.shut:
            raise GONE
        return super().observe()

    def close(self) -> None:
        self.closed = True


def test_the_place_of_a_gang_follows_from_its_tenant_alone() -> None:
    where = Addresses(home="home", own={"a": "at-a", "b": "at-b"}, former=("before",))
    assert [where.of(tenant) for tenant in ("a", "b", "c", "home", "at-a")] == ["at-a", "at-b", "home", "home", "home"]
    assert (where.current, where.all) == (("home", "at-a", "at-b"), ("home", "at-a", "at-b", "before"))
    assert where.elsewhere("a") == ("home", "at-b", "before")
    assert Addresses(home="home").elsewhere("a") == ()


def test_a_survey_tells_what_each_place_holds_and_which_refuse(caplog: pytest.LogCaptureFixture) -> None:
    home, team = ScriptedBackend(name="home"), Refusing(name="team")
    home.shows("gng_1", "m-1")
    places = Places(home, {"a": team})
    with caplog.at_level(logging.INFO, "muster.places"):
        for _ in range(3):
            survey = places.survey()
            assert [one.name for one in survey.seen["home"]] == ["m-1"]
            assert dict(survey.refused) == dict(places.refused) == {"team": GONE}
        team.shut = False
        assert set(places.survey().seen) == {"home", "team"} and not places.refused
    assert [line.action for line in caplog.records] == ["place_refused", "place_back"]  # type: ignore[attr-defined]
    places.close()


def test_every_call_goes_to_the_place_that_is_named_and_to_no_other() -> None:
    home, team = ScriptedBackend(name="home"), ScriptedBackend(name="team")
    places = Places(home, {"a": team, "home-too": home})
    assert places.at("team") is team and places.at(places.addresses.of("b")) is home
    assert places.addresses.current == ("home", "team")
    with pytest.raises(BackendError) as refused:
        places.at("elsewhere")
    assert refused.value.code == "unknown_place"
    places.close()


def test_a_place_of_earlier_settings_is_opened_while_rows_name_it_or_it_holds_something() -> None:
    former = Refusing(name="former")
    former.shut = False
    opened: list[str] = []

    def reopen(name: str) -> ScriptedBackend | None:
        opened.append(name)
        return former if name == "former" else None

    places = Places(ScriptedBackend(name="home"), reopen=reopen)
    places.remember(["home", "former", "local:elsewhere"])
    assert opened.count("former") == 1 and "home" not in opened
    assert places.addresses.former == ("former",) and places.addresses.of("a") == "home"
    former.shows("gng_1", "m-1")
    places.survey()
    places.remember(["home"])
    assert places.at("former") is former, "it holds a job that no row names"
    former.holds.clear()
    places.survey()
    places.remember(["home"])
    assert places.addresses.former == () and former.closed
    places.close()


def test_the_name_of_a_place_says_where_it_is() -> None:
    assert place_of(place_name("team-a", "muster")) == ("team-a", "muster")
    assert [place_of(name) for name in ("local:0123", "kubeflow:", "kubeflow:x", "test")] == [None] * 4


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("team-a,Team_B", "'Team_B' is no namespace"),
        ("default", "'default' is no namespace of a tenant"),
        ("../x", "is no namespace"),
        ("team-a,team-a", "twice"),
        (",".join(f"t{n}" for n in range(MOST_GANG_NAMESPACES + 1)), "201 are more than 200"),
    ],
)
def test_what_names_no_namespaces_is_refused_at_the_start(named: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=words):
        Settings.from_env({"MUSTER_HOME": str(tmp_path), "MUSTER_GANG_NAMESPACES": named})


def test_the_settings_say_where_gangs_of_a_tenant_run(tmp_path: Path) -> None:
    given = {"MUSTER_HOME": str(tmp_path), "MUSTER_NAMESPACE": "shared", "MUSTER_GANG_NAMESPACES": "team-a, team-b"}
    settings = Settings.from_env(given)
    assert [settings.gangs_in(tenant) for tenant in ("team-a", "team-b", "team-c", "default")] == [
        "team-a",
        "team-b",
        "shared",
        "shared",
    ]
