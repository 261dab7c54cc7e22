"""Whom a gang waits for, and how a neighbour's death is read."""

import signal
import sys
from pathlib import Path

import pytest

from inference import words
from inference.kin import death_of
from inference.stacks import ALL_BYTES, Stack, culprit, shown

AWAY = Stack(rank=1, node="a", place="model.py:1", step=4)
WAITS = Stack(rank=0, node="a", place="model.py:9", step=4, waits=True)
ALSO_WAITS = Stack(rank=2, node="b", place="model.py:9", step=4, waits=True)
DEAF = Stack(rank=3, node="b", deaf=True)


@pytest.mark.parametrize(
    ("stacks", "rank"),
    [
        ([WAITS, AWAY, ALSO_WAITS], 1),
        ([WAITS, AWAY, ALSO_WAITS, DEAF], 3),
        ([WAITS, ALSO_WAITS, Stack(rank=3, node="b", place="other.py:1", step=5, waits=True)], 3),
        ([WAITS, ALSO_WAITS], 0),
    ],
    ids=["in no collective", "cannot speak", "in another collective", "all alike"],
)
def test_the_rank_that_the_others_wait_for_is_named(stacks: list[Stack], rank: int) -> None:
    assert culprit(stacks).rank == rank


def test_a_rank_whose_gpu_is_busy_waits_for_others_wherever_python_is() -> None:
    mine = Stack.of_main_thread(rank=0, node="a", phase="run", step=4, gpu_busy=True)
    idle = Stack.of_main_thread(rank=1, node="a", phase="run", step=4)
    assert (mine.waits, idle.waits) == (True, False)
    assert culprit([mine, idle]).rank == 1


def test_a_report_of_many_stacks_is_bounded_and_names_every_rank() -> None:
    told = shown([Stack(rank=rank, node="n", text="x" * 6000) for rank in range(512)])
    assert len(told) == 512
    assert sum(len(one["stack"]) for one in told) <= ALL_BYTES


def test_a_rank_that_said_why_is_not_mourned() -> None:
    assert death_of(1, 86 << 8, None) is None


def test_a_death_is_read_from_its_status_or_from_its_last_words() -> None:
    crash = "Fatal Python error: Segmentation fault\n\nCurrent thread:\n  File ..."
    for status in (signal.SIGSEGV.value, None):
        death = death_of(1, status, crash)
        assert death is not None
        assert (death.type, death.stack) == ("SIGSEGV", crash)
    killed, left, unknown = death_of(1, signal.SIGKILL.value, ""), death_of(1, 7 << 8, ""), death_of(1, None, "")
    assert killed is not None
    assert "memory" in killed.message
    assert left is not None
    assert "exit code 7" in left.message
    assert unknown is not None
    assert "without a word" in unknown.message


def test_the_stacks_of_a_process_that_keeps_the_interpreter_lock_are_written(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import ctypes, sys; from pathlib import Path; from inference.words import LastWords\n"
        "words = LastWords(Path(sys.argv[1]), 3); words.arm(0.2)\n"
        "def stuck(): ctypes.PyDLL(None).usleep(900_000)\n"
        "stuck(); import os; print(os.getpid(), flush=True); os._exit(9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert ran.returncode == 9, ran.stderr
    said = words.read(tmp_path, 3, int(ran.stdout))
    assert said is not None
    assert "in stuck" in said
