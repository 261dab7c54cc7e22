"""`muster dev`: real gangs, no service."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HANDLER = """
from inference import Handler

class Counter(Handler):
    def setup(self, ctx):
        self.calls = 0

    def run(self, ctx, input):
        self.calls += 1
        if ctx.rank == 0:
            ctx.output("note.txt").write_text("hello")
        return {"n": input.get("n"), "size": ctx.args["size"], **({"calls": self.calls} if input.get("tell") else {})}
"""


def dev(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    (folder / "counter.py").write_text(HANDLER)
    command = [sys.executable, "-m", "orchestrator.cli.main", "dev", "./counter.py:Counter", "-a", "size=3", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.long
def test_a_handler_runs_without_a_service(tmp_path: Path) -> None:
    answer = dev(tmp_path, "-i", "n=7", "-o", "out", "--ranks", "2")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {"n": 7, "size": 3}
    assert (tmp_path / "out" / "note.txt").read_text() == "hello"


@pytest.mark.long
def test_parity_finds_what_a_warm_gang_answers_otherwise(tmp_path: Path) -> None:
    answer = dev(tmp_path, "--parity", "-i", "tell=true")
    assert answer.returncode == 1, answer.stderr
    assert "result\tDIFFERENT\t/calls: warm 2, fresh 1" in answer.stdout
    assert "note.txt\tequal\tsame bytes" in answer.stdout
