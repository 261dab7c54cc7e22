"""Peers, each a script that one process runs under its own interpreter; nothing here imports Muster.

A peer prints one line of JSON when it is ready (or its result), serves until its standard input ends, and then leaves.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
READY_S = 180.0
LEAVE_S = 30.0


def python() -> str:
    """The interpreter that has the optional peers."""
    return os.environ.get("MUSTER_BENCH_PYTHON") or sys.executable


def has(package: str) -> str | None:
    """The version of a package in that interpreter; None if it is not installed."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    asked = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


@contextlib.contextmanager
def running(script: str, *arguments: str, interpreter: str = "") -> Iterator[dict[str, Any]]:
    """What the peer says when it is ready; it ends with the block. Its noise goes to our standard error."""
    command = [interpreter or python(), str(FOLDER / f"{script}.py"), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        yield _ready(process, script)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], script: str) -> dict[str, Any]:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], READY_S)[0]:
        raise TimeoutError(f"the peer {script} was not ready within {READY_S:g} s")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the peer {script} ended with code {process.wait()}")
    return dict(json.loads(line))
