"""Which process is which: found by what the local backend puts into the environment of all it starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil


def of_gang(gang_id: str) -> list[psutil.Process]:
    """Every living process of a gang: the shells, the torchrun agents and the ranks."""
    return [process for process, env in _with_environment() if env.get("MUSTER_GANG") == gang_id]


def ranks(gang_id: str) -> list[psutil.Process]:
    """The ranks of a gang, by rank."""
    found = [(env, p) for p, env in _with_environment() if env.get("MUSTER_GANG") == gang_id and "RANK" in env]
    return [process for _, process in sorted(found, key=lambda one: int(one[0]["RANK"]))]


def agents(gang_id: str) -> list[psutil.Process]:
    """The torchrun agents of a gang, by node."""
    found = [
        (env["MUSTER_NODE"], process)
        for process, env in _with_environment()
        if env.get("MUSTER_GANG") == gang_id and "RANK" not in env and process.name() != "sh"
    ]
    return [process for _, process in sorted(found, key=lambda one: one[0])]


def of_folder(home: Path) -> list[psutil.Process]:
    """Whatever runs for the services of this folder: they, their Postgres, their gangs."""
    places = {str(home), str(home.resolve())}
    return [
        process
        for process, env in _with_environment()
        if any(env.get(name, "").startswith(tuple(places)) for name in ("MUSTER_HOME", "MUSTER_SCRATCH"))
    ] + postgres(home / "postgres" / "data")


def postgres(data: Path) -> list[psutil.Process]:
    """The postmaster of a data folder, first, and its children."""
    try:
        postmaster = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        if postmaster.name() != "postgres":
            return []
        return [postmaster, *postmaster.children(recursive=True)]
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return []


def send(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def _with_environment() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process, process.environ()
        except (psutil.Error, OSError):
            continue
