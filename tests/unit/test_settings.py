"""Settings: read once from the environment, refused where they make no sense."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.errors import Invalid
from orchestrator.settings import Settings, default_folder


def test_without_any_variable_the_defaults_hold() -> None:
    settings = Settings.from_env({"HOME": "/home/ann"})
    assert settings == Settings(folder=Path("/home/ann/.local/share/muster"))
    assert settings.host == "127.0.0.1" and settings.database_url is None


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"MUSTER_HOME": "/srv/m", "XDG_DATA_HOME": "/x", "HOME": "/h"}, "/srv/m"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/muster"),
        ({"HOME": "/h"}, "/h/.local/share/muster"),
    ],
)
def test_the_folder_is_the_first_that_is_named(environ: dict[str, str], folder: str) -> None:
    assert default_folder(environ) == Path(folder)


def test_without_a_home_the_folder_is_one_of_this_user_alone() -> None:
    folder = default_folder({"TMPDIR": "/scratch"})
    assert folder.parent == Path("/scratch") and folder.name.startswith("muster-")


def test_each_variable_is_read_as_its_type() -> None:
    settings = Settings.from_env(
        {
            "HOME": "/h",
            "MUSTER_PORT": "0",
            "MUSTER_LEASE": "60",
            "MUSTER_BEAT": "2.5",
            "MUSTER_API_URLS": "http://a:1/, http://b:2,",
            "MUSTER_DATABASE_URL": "postgresql://db/muster",
            "MUSTER_STORAGE_URL": "s3://bucket/outputs",
        }
    )
    assert settings.port == 0
    assert (settings.lease, settings.beat) == (timedelta(minutes=1), timedelta(seconds=2.5))
    assert settings.api_urls == ("http://a:1", "http://b:2")
    assert settings.database_url == "postgresql://db/muster"
    assert settings.outputs == "s3://bucket/outputs"


def test_an_empty_variable_is_no_variable() -> None:
    assert Settings.from_env({"HOME": "/h", "MUSTER_PORT": ""}).port == Settings.from_env({"HOME": "/h"}).port


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MUSTER_PORT", "http"),
        ("MUSTER_PORT", "80.5"),
        ("MUSTER_PORT", "-1"),
        ("MUSTER_PORT", "70000"),
        ("MUSTER_WORKER_PORT", "70000"),
        ("MUSTER_WORKER_PORT", "8380"),
        ("MUSTER_LEASE", "a minute"),
        ("MUSTER_LEASE", "nan"),
        ("MUSTER_LEASE", "inf"),
        ("MUSTER_LEASE", "-30"),
        ("MUSTER_LEASE", "0"),
        ("MUSTER_POLL", "1e300"),
        ("MUSTER_BATCH_RETENTION", "3600"),
        ("MUSTER_DATABASE_CONNECTIONS", "0"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(Invalid, match=name):
        Settings.from_env({"HOME": "/h", name: text})


def test_a_lease_must_outlast_three_beats() -> None:
    with pytest.raises(Invalid, match="MUSTER_LEASE"):
        Settings.from_env({"HOME": "/h", "MUSTER_LEASE": "10", "MUSTER_BEAT": "4"})


def test_outputs_lie_in_the_folder_unless_said_otherwise() -> None:
    assert Settings(folder=Path("/srv/m")).outputs == "file:///srv/m/outputs"


def test_the_gateways_settings_are_taken_under_their_stock_names_too() -> None:
    stock = {
        "USERID_HEADER": "x-user",
        "USERID_PREFIX": "accounts.example.org:",
        "APP_PREFIX": "/muster/",
        "APP_SECURE_COOKIES": "True",
        "APP_DISABLE_AUTH": "False",
    }
    settings = Settings.from_env({"HOME": "/h", "MUSTER_GATEWAY_PORT": "8383", **stock})
    assert (settings.userid_header, settings.userid_prefix) == ("x-user", "accounts.example.org:")
    assert (settings.page_prefix, settings.secure_cookies, settings.disable_auth) == ("/muster", True, False)
    ours = Settings.from_env({"HOME": "/h", "MUSTER_GATEWAY_PORT": "8383", **stock, "MUSTER_USERID_HEADER": "mine"})
    assert ours.userid_header == "mine"


def test_without_the_gateways_door_names_that_anybody_may_have_set_mean_nothing() -> None:
    assert Settings.from_env({"HOME": "/h", "APP_PREFIX": "/x", "APP_DISABLE_AUTH": "true"}) == Settings.from_env(
        {"HOME": "/h"}
    )


def test_nobody_may_do_everything_but_on_loopback() -> None:
    asked = {"HOME": "/h", "MUSTER_GATEWAY_PORT": "8383", "APP_DISABLE_AUTH": "true"}
    assert Settings.from_env(asked).disable_auth
    with pytest.raises(Invalid, match="MUSTER_DISABLE_AUTH"):
        Settings.from_env({**asked, "MUSTER_HOST": "0.0.0.0"})


@pytest.mark.parametrize("other", ["MUSTER_WORKER_PORT", "MUSTER_METRICS_PORT"])
def test_no_two_doors_have_one_port(other: str) -> None:
    with pytest.raises(Invalid, match="is MUSTER_"):
        Settings.from_env({"HOME": "/h", "MUSTER_GATEWAY_PORT": "9000", other: "9000"})


@pytest.mark.parametrize(
    ("given", "page"),
    [
        ({}, None),
        ({"MUSTER_PUBLIC_URL": "https://muster.example"}, "https://muster.example/ui/gangs/{gang}"),
        (
            {"MUSTER_PUBLIC_URL": "https://kf.example/", "MUSTER_PAGE_PREFIX": "/muster"},
            "https://kf.example/muster/ui/gangs/{gang}",
        ),
        (
            {"MUSTER_PUBLIC_URL": "https://kf.example/muster", "MUSTER_PAGE_PREFIX": "/muster"},
            "https://kf.example/muster/ui/gangs/{gang}",
        ),
        (
            {"MUSTER_PUBLIC_URL": "https://a.example", "MUSTER_GANG_URL": "https://b.example/{gang}"},
            "https://b.example/{gang}",
        ),
    ],
)
def test_a_pytorchjob_leads_to_the_page_of_its_gang(given: dict[str, str], page: str | None) -> None:
    assert Settings.from_env(given).gang_page == page
