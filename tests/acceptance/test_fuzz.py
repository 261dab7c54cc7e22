"""D1: schemathesis over /openapi.json of a running service: all checks, two tenants, no finding, no foreign canary.

Bounded here; `make fuzz` looks longer: MUSTER_FUZZ_EXAMPLES cases of each operation instead of a few, and stateful.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fuzz import seeds
from promises import broken
from replica import Replica, replica

from orchestrator.store import schema
from orchestrator.store.database import Database

FUZZ = Path(seeds.__file__).parent
EXAMPLES = os.environ.get("MUSTER_FUZZ_EXAMPLES", "")
PHASES = "examples,coverage,fuzzing,stateful" if EXAMPLES else "examples,coverage,fuzzing"


CLOCKS = {"I3", "I9", "I11"}
"""Promises that somebody acts in time: no loops run here."""


@pytest.fixture
def here(empty_database: Database, tmp_path: Path) -> Iterator[Replica]:
    schema.migrate(empty_database)
    with replica(empty_database, tmp_path / "home", **seeds.SETTINGS) as running:
        yield running
    assert empty_database.transact(broken).keys() <= CLOCKS


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600 if EXAMPLES else 400)
def test_schemathesis_finds_nothing_and_no_tenant_sees_another(here: Replica, tmp_path: Path) -> None:
    ours, theirs = seeds.tenant(here, "alpha"), seeds.tenant(here, "beta")
    owned = tmp_path / "seeds.json"
    owned.write_text(json.dumps({"ours": vars(ours), "theirs": vars(theirs)}))
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            f"--config-file={FUZZ / 'schemathesis.toml'}",
            "run",
            f"{here.url}/openapi.json",
            f"--phases={PHASES}",
            f"--max-examples={EXAMPLES or 4}",
            "--exclude-checks=positive_data_acceptance",
            "--continue-on-failure",
            *([] if EXAMPLES else ["--generation-deterministic"]),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(FUZZ.parent), os.environ.get("PYTHONPATH", "")]),
            "SCHEMATHESIS_HOOKS": "fuzz.hooks",
            "MUSTER_FUZZ_SEEDS": str(owned),
            "MUSTER_FUZZ_TOKEN": ours.token,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    cases = re.search(r"(\d+) generated", done.stdout)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert cases is not None and int(cases.group(1)) > 1000
    assert _sees(here, ours) and _sees(here, theirs), "the canaries are there for those whose they are"


def _sees(here: Replica, tenant: seeds.Tenant) -> bool:
    """Whether the tenant's own canary is shown to it: else the run proved nothing."""
    with httpx.Client(base_url=here.url, headers={"Authorization": f"Bearer {tenant.token}"}) as caller:
        return all(tenant.canary in caller.get(f"/v1/{kind}").text for kind in ("requests", "batches", "schedules"))
