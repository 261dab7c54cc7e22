"""`muster schedule` and the client's schedules, against a real replica."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from replica import Replica, replica

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import run
from orchestrator.client import Client
from orchestrator.store.database import Database

DIGITS = {
    "handler": "samples.echo:Echo",
    "input": {"type": "object", "properties": {"digit": {"type": "integer"}, "day": {"type": "string"}}},
}


class Muster:
    """The command line of a tenant of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> int:
        code = run(("schedule", *arguments))
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        assert self(*arguments, "--json") == ExitCode.OK, self.err
        return json.loads(self.out)


@pytest.fixture
def here(database: Database, tmp_path: Path) -> Iterator[Replica]:
    with replica(database, tmp_path, batch_urls=("s3://bucket/batches",)) as running:
        yield running


@pytest.fixture
def muster(
    here: Replica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Muster:
    caller = here.caller()
    assert caller.put("/v1/templates/digits", json=DIGITS).status_code == 200
    monkeypatch.setenv("MUSTER_URL", here.url)
    monkeypatch.setenv("MUSTER_TOKEN", caller.headers["authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path / "home"))
    return Muster(capsys)


def test_a_schedule_is_made_shown_listed_and_removed(muster: Muster) -> None:
    words = ("create", "nightly", "digits", "--cron", "0 2 29 2 *", "--tz", "Europe/Berlin", "-i", "digit=3")
    assert muster(*words, "--inject", "/input/day=scheduled_date", "--grace", "2h", "--overlap", "queue") == 0
    made, upcoming = muster.out.strip(), muster.err.splitlines()
    assert (
        made.startswith("sch_")
        and len(upcoming) == 5
        and upcoming[0].endswith("2028-02-29T01:00:00Z (2028-02-29 02:00 Europe/Berlin)")
    )
    shown = muster.json("show", "nightly")
    assert shown["runs"] == {"request": {"template": "digits", "input": {"digit": 3}}}
    assert (shown["grace_s"], shown["overlap"], shown["inject"]) == (7200, "queue", {"/input/day": "scheduled_date"})
    assert muster("show", made) == 0 and "runs\trequest of digits\n" in muster.out
    assert "grace_s\t7200\ninject\t/input/day=scheduled_date\n" in muster.out
    assert muster("ls") == 0
    assert muster.out.strip().split("\t") == [
        "nightly", "active", "0 2 29 2 *", "Europe/Berlin", "2028-02-29T01:00:00Z", "", made,
    ]  # fmt: skip
    assert muster(*words) == ExitCode.FAILED and "change or delete it" in muster.err
    assert muster("rm", "nightly") == 0 and muster("show", "nightly") == ExitCode.NOT_FOUND


def test_a_batch_is_scheduled_by_its_url(muster: Muster) -> None:
    words = ("create", "weekly", "digits", "--cron", "0 4 * * sun", "--batch", "s3://bucket/batches/weekly.jsonl")
    assert muster.json(*words)["runs"] == {"batch": {"template": "digits", "url": "s3://bucket/batches/weekly.jsonl"}}
    assert muster(*words, "-i", "digit=3") == ExitCode.USAGE
    assert muster("create", "other", "digits", "--cron", "@daily", "--batch", "s3://elsewhere/x") == ExitCode.USAGE
    assert "/runs/batch/url" in muster.err


def test_a_trigger_prints_its_run_and_the_fires_tell_of_it(muster: Muster) -> None:
    assert muster("create", "leap", "digits", "--cron", "0 2 29 2 *", "--paused") == 0
    assert muster("trigger", "leap") == 0
    request = muster.out.strip()
    with Client.from_env() as client:
        assert client.get(request).status == "queued"
        assert client.schedules.get("leap").last_fire.run == request
        assert client.schedules.change("leap", cron="@yearly").version == 2
    assert muster("fires", "leap", "-n", "3") == 0
    assert muster.out.split("\t")[1:3] == ["ran", request] and muster.err.count("next:") == 5
    assert muster.json("fires", "leap")["data"][0]["triggered"]
    assert muster.json("resume", "leap")["state"] == "active"
    assert muster("pause", "leap") == 0 and muster.err == "leap is paused\n"


def test_an_edit_changes_what_is_named_and_nothing_else(muster: Muster) -> None:
    words = ("create", "nightly", "digits", "--cron", "0 2 29 2 *", "-i", "digit=3", "-i", "day=x", "--label", "a=1")
    assert muster(*words, "--overlap", "queue", "--end", "2099-01-01T00:00:00Z") == 0
    assert muster("edit", "nightly", "--cron", "30 2 29 2 *", "--tz", "Asia/Kathmandu") == 0
    assert muster.err.splitlines()[:2] == [
        "nightly is version 2",
        "  next: 2028-02-28T20:45:00Z (2028-02-29 02:30 Asia/Kathmandu)",
    ]
    shown = muster.json("edit", "nightly", "-i", "digit=4", "--label", "b=2", "--grace", "5m", "--reset", "overlap")
    order = {"template": "digits", "input": {"digit": 4, "day": "x"}, "labels": {"a": "1", "b": "2"}}
    assert (shown["version"], shown["runs"]) == (3, {"request": order})
    assert (shown["cron"], shown["timezone"], shown["overlap"]) == ("30 2 29 2 *", "Asia/Kathmandu", "skip")
    assert (shown["grace_s"], shown["end_at"]) == (300, "2099-01-01T00:00:00Z")
    assert muster.json("edit", "nightly", "--reset", "end", "--reset", "tz")["end_at"] is None
    assert muster("edit", "nightly", "--grace", "5m") == 0 and muster.err.startswith("nightly is as it was\n")


def test_an_edit_names_another_place_for_a_batch(muster: Muster) -> None:
    words = ("create", "weekly", "digits", "--cron", "@yearly", "--batch", "s3://bucket/batches/a.jsonl")
    assert muster(*words, "--priority", "3") == 0
    told = muster.json("edit", "weekly", "--batch", "s3://bucket/batches/b.jsonl")["runs"]
    assert told == {"batch": {"template": "digits", "url": "s3://bucket/batches/b.jsonl", "priority": 3}}
    for wrong in (("-i", "digit=3"), ("--mode", "warm"), ("--batch", "s3://elsewhere/x"), (), ("--cron", "never")):
        assert muster("edit", "weekly", *wrong) == ExitCode.USAGE, wrong
    assert muster.json("show", "weekly")["version"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("create", "x", "digits"),
        ("create", "x", "digits", "--cron", "R * * * *"),
        ("create", "x", "digits", "--cron", "0 0 30 2 *"),
        ("create", "x", "digits", "--cron", "@daily", "--tz", "EST5EDT"),
        ("create", "x", "digits", "--cron", "@daily", "--inject", "scheduled_at"),
        ("create", "x", "digits", "--cron", "@daily", "--inject", "/input/digit=scheduled_at"),
        ("create", "X!", "digits", "--cron", "@daily"),
        ("create", "x", "digits", "--cron", "@daily", "--start", "tomorrow"),
        ("create", "x", "digits", "--cron", "@daily", "--grace", "1s"),
        ("show",), ("edit",), ("fires",), ("trigger",), ("pause",), ("resume",), ("rm",),
    ],
)  # fmt: skip
def test_nonsense_is_refused_as_usage_and_leaves_nothing(muster: Muster, words: tuple[str, ...]) -> None:
    assert muster(*words) == ExitCode.USAGE and muster.err
    assert muster("ls") == 0 and muster.out == ""
