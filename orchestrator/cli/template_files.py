"""A template from a YAML file: plain data only, no surprises, local handlers made absolute.

YAML as of 1.2's core: only true and false are booleans, dates stay text; no anchors (billion laughs), no duplicate
keys, no tags, 1 MiB at most.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from importlib import resources
from pathlib import Path
from typing import Any

import click
import yaml

from orchestrator.cli import introspect
from orchestrator.cli.inputs import read_text

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
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with less, not more
    except yaml.YAMLError as error:
        raise click.UsageError(f"{name} is not a template: {error}") from error
    except (RecursionError, ValueError) as error:
        raise click.UsageError(f"{name} is not a template: {error or 'nested too deeply'}") from error
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


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader without aliases, duplicate keys, dates, `yes`/`no`/`on`/`off`, 010 for 8 and 1:30 for 90."""

    yaml_constructors = {  # noqa: RUF012 - how PyYAML wants it
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("map", "seq", "str", "int", "float", "bool", "null")
    }

    yaml_implicit_resolvers = {  # noqa: RUF012 - how PyYAML wants it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("bool", "timestamp", "int", "float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not taken{self.get_mark()}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.YAMLError(f"a key must be text{key.start_mark}")
            if key.value in seen:
                raise yaml.YAMLError(f"{key.value!r} stands twice{key.start_mark}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), [*"tTfF"]
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), [*"-+0123456789"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    [*"-+.0123456789"],
)
