"""docs/templates.md: its example is a template, and it names every field there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from orchestrator.api.catalog import read_template
from orchestrator.cli.template_files import parse, shipped_names
from orchestrator.domain.template import Template

PAGE = (Path(__file__).parents[2] / "docs" / "templates.md").read_text()
EXAMPLE = parse(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0], "the example")


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Dotted paths of all fields, through sections, lists and maps of them."""
    for name, field in model.model_fields.items():
        yield f"{path}{name}"
        for section in sections(field.annotation):
            yield from fields(section, f"{path}{name}.")


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections(inner)


def said(document: Any, path: str = "") -> Iterator[str]:
    match document:
        case dict():
            for name, inner in document.items():
                yield f"{path}{name}"
                yield from said(inner, f"{path}{name}.")
        case list():
            for inner in document:
                yield from said(inner, path)


def test_the_example_is_a_template() -> None:
    assert read_template(EXAMPLE).world == 16


def test_the_example_shows_every_field_but_those_of_a_script() -> None:
    shown = {re.sub(r"secret_env\.[A-Z_]+\.", "secret_env.", path) for path in said(EXAMPLE)}
    assert {path for path in fields(Template) if not path.startswith("script")} - shown == set()


def test_the_page_names_every_field_in_words_as_well() -> None:
    words = PAGE.replace(re.findall(r"```yaml\n.*?```", PAGE, re.DOTALL)[0], "")
    named = set(re.findall(r"`([a-z_.]+)`", words))
    known = list(fields(Template))
    leaves = [path for path in known if not any(other.startswith(f"{path}.") for other in known)]
    missing = [path for path in leaves if not {path, path.removeprefix("pod."), path.split(".")[-1]} & named]
    assert missing == []


def test_the_page_names_every_shipped_template() -> None:
    assert [name for name in shipped_names() if f"`{name}`" not in PAGE] == []
