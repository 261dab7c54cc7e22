"""What `muster run` makes of a script, without a service: real scripts are asked in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripted_service import ROOT

SCRIPT = ROOT / "inference/samples/wanlike/generate.py"


def muster(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "orchestrator.cli.main", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def dry_run(folder: Path, script: Path, *words: str) -> dict[str, Any]:
    answer = muster("run", "--json", "--ranks", "2", "--dry-run", str(script), *words, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.mark.slow
def test_the_sample_s_arguments_are_told_apart(tmp_path: Path) -> None:
    found = dry_run(tmp_path, SCRIPT, "--prompt", "a two", "--dit_fsdp", "--ulysses_size=2", "--save_file", "two.gif")
    assert found["template"]["args"] == {"dit_fsdp": True, "ulysses_size": 2}
    assert found["input"] == {"prompt": "a two"}
    script = found["template"]["script"]
    assert set(script["gang_args"]) == {"task", "ckpt_dir", "offload_model", "ulysses_size", "dit_fsdp"}
    assert script["memoise"] == ["digitvideo.pipeline:DigitVideo"]
    assert script["outputs"] == {"save_file": "output.gif"}
    assert found["template"]["input"]["properties"]["size"]["enum"] == ["256*256", "128*128"]


ODD = """
import argparse
from dataclasses import dataclass

@dataclass
class Net:
    depth: int

parser = argparse.ArgumentParser()
parser.add_argument("words", nargs="+")
parser.add_argument("--depth", type=int, required=True)
parser.add_argument("--no-colour", action="store_false", dest="colour")
parser.add_argument("--mix", type=float, nargs=2, default=[0.5, 0.5])
args = parser.parse_args()
Net(args.depth)
"""


def test_a_script_without_a_main_guard_is_described_too(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    found = dry_run(tmp_path, tmp_path / "odd.py", "--depth", "3", "hello", "world")
    assert found["template"]["name"] == "odd"
    assert found["template"]["args"] == {"depth": 3}
    assert found["input"] == {"words": ["hello", "world"]}
    schema = found["template"]["input"]
    assert schema["required"] == ["words"]
    assert schema["properties"]["colour"] == {"type": "boolean", "default": True}
    assert schema["properties"]["mix"]["minItems"] == 2


def test_a_wrong_argument_is_argparse_s_complaint(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    answer = muster("run", "--dry-run", "odd.py", "--depth", "deep", "x", cwd=tmp_path)
    assert answer.returncode == 2
    assert "invalid int value: 'deep'" in answer.stderr


def test_a_script_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found")
    answer = muster("run", "--dry-run", "bad.py", cwd=tmp_path)
    assert answer.returncode == 2
    assert "No module named 'nowhere_to_be_found'" in answer.stderr


def test_a_template_gets_its_input_from_the_script(tmp_path: Path) -> None:
    from orchestrator.cli.template_files import read_template

    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "odd.yaml").write_text("name: odd\nscript: {path: ./odd.py, gang_args: [depth, mix]}\nargs: {depth: 2}")
    document = read_template(str(tmp_path / "odd.yaml"))
    assert document["script"]["path"] == str(tmp_path / "odd.py")
    assert set(document["input"]["properties"]) == {"words", "colour"}
