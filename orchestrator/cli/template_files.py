"""A template from a YAML file: plain data only (`domain.plain_yaml`), 1 MiB at most, local handlers made absolute."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import introspect
from orchestrator.cli.inputs import read_text
from orchestrator.domain import plain_yaml

LARGEST_BYTES = 1024 * 1024
SHIPPED = "job_templates"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def read_template(file: str) -> dict[str, Any]:
    """The template in `file`, or the shipped one of that name."""
    path = Path(file)
    if path.is_file() or not NAME.fullmatch(file):
        document = parse(read_text(path, LARGEST_BYTES), file)
        folder = path.absolute().parent
        return introspect.complete(introspect.absolute(absolute(document, folder), folder))
    shipped = resources.files(SHIPPED) / f"{file}.yaml"
    if not shipped.is_file():
        raise click.UsageError(
            f"{file!r} is neither a file nor one of the templates shipped: {', '.join(shipped_names())}"
        )
    return parse(shipped.read_text("utf-8"), file)


def shipped_names() -> list[str]:
    found = [Path(entry.name) for entry in resources.files(SHIPPED).iterdir()]
    return sorted(path.stem for path in found if path.suffix == ".yaml")


def parse(text: str, name: str) -> dict[str, Any]:
    """The document in `text`. Raises UsageError with the place of the mistake."""
    try:
        document = plain_yaml.read(text)
    except ValueError as error:
        raise click.UsageError(f"{name} is not a template: {error}") from error
    if not isinstance(document, dict):
        raise click.UsageError(f"{name} is not a template: it must be a mapping with name, handler, ...")
    if not isinstance(document.get("name"), str) or not document["name"]:
        raise click.UsageError(f"{name} is not a template: it has no `name`")
    return document


def absolute(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`./model.py:Class` -> the file's full path, with its folder as workdir, since gangs start elsewhere."""
    handler = document.get("handler")
    if not isinstance(handler, str) or not handler.startswith(("./", "../")):
        return document
    relative, colon, name = handler.rpartition(":")
    path = (folder / relative).resolve()
    if not colon or not name or not path.is_file():
        raise click.UsageError(f"handler {handler!r}: {path} is not a file; write ./model.py:Class")
    return {**document, "handler": f"{path}:{name}", "workdir": document.get("workdir") or str(path.parent)}
