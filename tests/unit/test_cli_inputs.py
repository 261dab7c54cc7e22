"""`-i key=value` by the template's schema, and templates from YAML."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from orchestrator.cli.inputs import FILE, LARGEST_BYTES, gather, typed
from orchestrator.cli.template_files import parse, read_template, shipped_names


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "123", "123"),
        ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, "3.0", 3.0),
        ({"type": "integer"}, "3.5", "3.5"),
        ({"type": "integer"}, "true", "true"),
        ({"type": "integer"}, "three", "three"),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "number"}, "NaN", "NaN"),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "1", "1"),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": ["string", "integer"]}, "5", 5),
        ({}, "5", 5),
        ({}, "1280*720", "1280*720"),
        ({}, "", ""),
        ({"type": 7}, "a cat", "a cat"),
    ],
)
def test_a_value_is_json_of_the_schemas_type_else_text(schema: dict[str, object], text: str, value: object) -> None:
    found = typed(schema, text)
    assert found == value and type(found) is type(value)


def test_pairs_go_over_the_file(tmp_path: Path) -> None:
    file, prompt = tmp_path / "in.json", tmp_path / "prompt.txt"
    file.write_text('{"a": 1, "b": 2}')
    prompt.write_text("a cat\n東京")
    schema = {"properties": {"p": {"type": "string"}, "b": {"type": "integer"}}}
    given = gather(schema, ["b=3", f"p=@{prompt}", "at=@@home", "x=a=b"], file=file)
    assert given == {"a": 1, "b": 3, "p": "a cat\n東京", "at": "@home", "x": "a=b"}


@pytest.mark.parametrize("pair", ["novalue", "=x"])
def test_a_pair_without_key_or_value_is_refused(pair: str) -> None:
    with pytest.raises(click.UsageError, match="KEY=VALUE"):
        gather(None, [pair])


@pytest.mark.parametrize("text", ["[1]", "5", "{", '{"a": NaN}', '{"a": Infinity}', "[" * 100_000])
def test_a_file_that_is_not_an_object_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "in.json"
    file.write_text(text)
    with pytest.raises(click.UsageError):
        gather(None, [], file=file)


def test_only_regular_files_of_bounded_text_are_read(tmp_path: Path) -> None:
    fifo, large, binary = tmp_path / "fifo", tmp_path / "large", tmp_path / "binary"
    os.mkfifo(fifo)
    large.write_bytes(b" " * (LARGEST_BYTES + 1))
    binary.write_bytes(b"\xff\xfe")
    for path in (fifo, large, binary, tmp_path, tmp_path / "missing", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(click.UsageError):
            gather(None, [f"x=@{path}"])


def test_shipped_templates_are_known_by_name() -> None:
    assert "digits" in shipped_names()
    assert read_template("digits")["handler"] == "inference.samples.digits.handler:Digits"
    with pytest.raises(click.UsageError, match="digits"):
        read_template("digit")


def test_a_handler_beside_the_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "mine.yaml").write_text("name: mine\nhandler: ./model.py:Mine\n")
    monkeypatch.chdir(tmp_path.parent)
    template = read_template(f"{tmp_path.name}/mine.yaml")
    assert template == {"name": "mine", "handler": f"{tmp_path}/model.py:Mine", "workdir": str(tmp_path)}


@pytest.mark.parametrize("handler", ["./missing.py:X", "./model.py", "./model.py:"])
def test_a_handler_that_is_not_there_is_told_at_once(tmp_path: Path, handler: str) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "mine.yaml").write_text(f"name: mine\nhandler: {handler}\n")
    with pytest.raises(click.UsageError, match="handler"):
        read_template(str(tmp_path / "mine.yaml"))


def test_yaml_is_plain_data() -> None:
    text = "name: n\nday: 2026-01-01\non: off\nyes: no\ngood: true\nsize: 1280*720\nx: ${HOME} {{ y }}\n"
    assert parse(text, "f") == {
        "name": "n", "day": "2026-01-01", "on": "off", "yes": "no", "good": True, "size": "1280*720",
        "x": "${HOME} {{ y }}",
    }  # fmt: skip


def test_numbers_in_yaml_are_those_that_people_see() -> None:
    text = "name: n\na: 010\nb: 1:30\nc: 1_000\nd: .nan\ne: 0x1F\nf: -12\ng: 1.5\nh: 1e3\n"
    seen = {"a": "010", "b": "1:30", "c": "1_000", "d": ".nan", "e": "0x1F", "f": -12, "g": 1.5, "h": 1000.0}
    assert parse(text, "f") == {"name": "n"} | seen


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nname: b",
        "name: a\nx: {b: 1, b: 2}",
        "name: a\nx: &y 1\nz: *y",
        "name: a\nx: !!python/object/apply:os.system [ls]",
        "name: a\n1: 2",
        "name: a\n? [x]\n: y",
        "name: a\n---\nname: b",
        "name: a\nx:\t- y",
        "name: 5",
        "name: ''",
        "handler: x:Y",
        "- name",
        "",
        "[" * 1500,
        "name: a\nx: \x00",
        "name: a\n<<: {b: 1}\nb: 2\nb: 3",
        "name: a\nb: &l [x, x]\nc: &m [*l, *l]\nd: [*m, *m]",
        "name: a\nx: !!binary aGk=",
        "name: a\nx: !!set {b}",
        "name: a\nx: !!timestamp 2026-01-01",
        "name: a\n\tx: 1",
    ],
)
def test_yaml_with_surprises_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse(text, "f")


def test_a_file_is_sent_where_the_schema_wants_one_and_all_else_is_good(tmp_path: Path) -> None:
    cat, sent = tmp_path / "cat.png", []
    cat.write_bytes(b"\xff\x00")
    schema = {"properties": {"image": {"type": "string", "format": FILE}}}

    def send(path: Path) -> str:
        sent.append(path)
        return "fil_1"

    assert gather(schema, [f"image=@{cat}", "n=1"], send=send) == {"image": "fil_1", "n": 1}
    assert gather(schema, ["image=req_1/a.png"], send=send) == {"image": "req_1/a.png"}
    with pytest.raises(click.UsageError):
        gather(schema, [f"image=@{cat}", "no pair"], send=send)
    with pytest.raises(click.UsageError, match="regular"):
        gather(schema, [f"image=@{tmp_path}"], send=send)
    assert sent == [cat]
