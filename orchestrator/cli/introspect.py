"""Asks a script about its arguments, in a process of its own: scripts import torch, `muster` never does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

LONGEST_S = 600
FIELDS = ("gang_args", "memoise", "once", "outputs")


def describe(path: str, words: Sequence[str] = (), says: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `python -m inference.script describe` answers. Raises UsageError with the script's own words."""
    told = {name: value for name, value in (says or {}).items() if name in FIELDS}
    command = [sys.executable, "-m", "inference.script", "describe", path, "--says", json.dumps(told), "--", *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise click.UsageError(f"{path} did not come to parse its arguments within {LONGEST_S} s") from None
    if answer.returncode != 0:
        raise click.UsageError(_why(path, answer.stderr))
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """A template whose script was not described in full: what it does not say follows from the script."""
    script = document.get("script")
    if not isinstance(script, dict) or "input" in document or not isinstance(script.get("path"), str):
        return document
    found = describe(script["path"], says=script)
    return {**document, "script": {**found["script"], **script}, "input": found["input"]}


def absolute(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`path: ./generate.py` is meant from the template's folder."""
    script = document.get("script")
    if not isinstance(script, dict) or not str(script.get("path", "")).endswith(".py"):
        return document
    return {**document, "script": {**script, "path": str((folder / script["path"]).resolve())}}


def _why(path: str, said: str) -> str:
    last = said.strip().splitlines()[-1:] or ["no reason was given"]
    hint = (
        "" if last[0].startswith("muster: ") else "; its imports must work here, or the template must say its `input`"
    )
    return f"{path} cannot be described: {last[0].removeprefix('muster: ')}{hint}"
