"""A gang that nobody owns, or that can never work, ends for good, with its agents, and says why."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from stage import Up, echo, processes, until

STILLBORN = Path(__file__).parent / "stage" / "stillborn"
SETTINGS = {"MUSTER_ORPHAN_S": "12", "PYTHONPATH": str(STILLBORN)}
LAST_WORDS = "no module named flash_attn, as asked"


@pytest.mark.long
def test_requests_learn_what_ranks_wrote_that_died_before_hello(up: Up) -> None:
    up.client.apply_template(echo("stillborn", ranks=2, env={"STILLBORN": LAST_WORDS}))
    request = up.done(up.client.submit("stillborn", {}).id, within=timedelta(seconds=120))
    error = request.error
    assert error is not None
    assert (request.status, error.code) == ("failed", "gang_lost")
    assert "3 gangs in a row" in error.message and "exit code 7" in error.message
    assert LAST_WORDS in (error.traceback or "")


@pytest.mark.long
def test_gangs_whose_service_was_killed_end_by_themselves_wherever_they_are(up: Up) -> None:
    up.client.apply_template(echo("idle", ranks=1, min=1))
    up.idle_gang("idle")
    up.client.apply_template(echo("loading", nodes=2, ranks=1, min=1))
    gang = until(lambda: next(iter(up.gangs("loading")), None), "a gang is planned")
    until(lambda: processes.of_gang(gang.id), "its agents run")
    up.kill()
    until(lambda: processes.of_folder(up.home) == [], "nothing is left", within=timedelta(seconds=60))
    up.start()
