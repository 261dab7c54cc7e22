"""The pages under docs/ and beside the code against the tree: what they name is there, and what is there is named."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

from orchestrator.cli.main import muster
from orchestrator.settings import Settings

ROOT = Path(__file__).parents[2]
ROOMS = ("", "orchestrator/", "orchestrator/web/", "deploy/")
"""Below which a page may name a file in short."""
BEFORE_THE_WORD = r"(?<![\w./-])"


@cache
def tree() -> frozenset[str]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    return frozenset(listed.stdout.decode().splitlines())


@cache
def pages() -> dict[str, str]:
    """What people read, without what is generated or was."""
    told = [name for name in tree() if name.endswith(".md") and name != "CHANGELOG.md" and "/results/" not in name]
    return {name: (ROOT / name).read_text() for name in sorted(told)}


def anchors(page: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


def test_every_link_leads_to_a_page_and_a_heading_that_are_there() -> None:
    astray = []
    for name, page in pages().items():
        for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page):
            path, _, anchor = link.partition("#")
            there = (ROOT / name).parent / path if path else ROOT / name
            if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
                astray.append(f"{name}: {link}")
    assert astray == []


def test_every_module_that_a_page_names_is_there() -> None:
    named = {(name, path) for name, page in pages().items() for path in re.findall(r"`([\w./-]+/[\w-]+\.py)`", page)}
    assert [one for one in sorted(named) if not any(room + one[1] in tree() for room in ROOMS)] == []


def test_every_make_target_that_a_page_names_is_there_and_contributing_names_all() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.compile(r"(?:`|^    |; )make ([a-z-]+)", re.MULTILINE)
    named = {name: set(called.findall(page)) for name, page in pages().items()}
    assert {name: unknown for name, of_page in named.items() if (unknown := of_page - targets)} == {}
    assert targets - named["CONTRIBUTING.md"] == set()


def test_every_setting_is_documented_and_no_page_names_one_that_is_not_read() -> None:
    settings = {f"MUSTER_{name.upper()}" for name in Settings.__dataclass_fields__} - {"MUSTER_FOLDER", "MUSTER_OTLP"}
    told = {name for page in pages().values() for name in re.findall(r"\b(?:MUSTER|INFERENCE)_[A-Z_]*[A-Z]\b", page)}
    assert settings - told == set()
    assert [name for name in sorted(told - settings) if not _stands_in_code(name)] == []


def _stands_in_code(name: str) -> bool:
    found = subprocess.run(["git", "grep", "-qw", name, "--", ":!*.md", ":!tests/unit"], cwd=ROOT, check=False)
    return found.returncode == 0


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            if (one := command.get_command(click.Context(command), name)) is not None:
                yield from commands(one, (*path, name))


def test_every_command_line_in_a_page_is_one_that_the_program_takes() -> None:
    known = dict(commands(muster))
    wrong = []
    for name, page in pages().items():
        for line, words, rest in re.findall(BEFORE_THE_WORD + r"(muster ([a-z]+(?: [a-z]+)*)([^`\n|#]*))", page):
            path = _path_of(words.split(), known)
            options = {option for one in known[path].params for option in (*one.opts, *one.secondary_opts)}
            asked = set(re.findall(r"(?<!\S)(--[a-z][a-z-]*)", rest.partition("muster ")[0]))
            after_script = path == ("run",) and ".py" in rest
            if not path or (asked - options - {"--help", "--version"} and not after_script):
                wrong.append(f"{name}: {line}")
    assert wrong == []


def _path_of(words: list[str], known: dict[tuple[str, ...], click.Command]) -> tuple[str, ...]:
    """The longest command that they name."""
    return next(path for end in range(len(words), -1, -1) if (path := tuple(words[:end])) in known)
