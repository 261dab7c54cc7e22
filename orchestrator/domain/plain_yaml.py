"""YAML of plain data, read without surprises and written so that it reads the same again. Pure.

YAML as of 1.2's core: only true and false are booleans, dates stay text; no anchors (billion laughs), no duplicate
keys, no tags.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

MOST_NODES = 20_000
"""Keys and values of a document: reading takes some 50 microseconds for each."""
DEEPEST = 64
_NESTED = re.compile(r"(?:[\[{]\s*){65}")
"""Deeper than that. The scanner looks at all open brackets at each further one, long before the depth is known."""


def read(text: str) -> Any:
    """The value of a document. Raises ValueError with the place of the mistake."""
    if _NESTED.search(text):
        raise ValueError("nested too deeply")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with less, not more
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write(value: Mapping[str, Any]) -> str:
    """Keys in their order, texts of several lines as blocks."""
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


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

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise yaml.YAMLError(f"more than {MOST_NODES} keys and values")
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"nested deeper than {DEEPEST}")
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not taken{self.get_mark()}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

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


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader above would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_LIKE_ELSE = re.compile(r"[-+]?[.0-9][0-9.eE+-]*")


_BREAKS = frozenset("\r\x85\u2028\u2029\ufeff")
"""What YAML takes for an end of line, or drops: only spelt out it stays."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None
    if not _BREAKS.isdisjoint(value):
        style = '"'
    elif "\n" in value:
        style = "|"
    elif _LIKE_ELSE.fullmatch(value):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
