"""What one rank decides for itself: its environment, its handler, whom it blames, when it ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.attempt import Attempt, Stop
from inference.environment import ConfigurationError, Environment
from inference.faults import Exit, Fault, InvalidInput, PeerFailed, root_cause
from inference.handler import Handler, load
from inference.run import _report
from inference.watch import AFTER_THE_CULPRIT_S, PEER_GRACE_S, judge
from inference.work import Work

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
MUSTER = {"MUSTER_API_URLS": "http://a/, https://b", "MUSTER_GANG": "gng_1", "MUSTER_TOKEN": "secret"}


def test_importing_the_package_for_a_handler_does_not_import_torch() -> None:
    program = "import inference, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_environment_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    environment = Environment.read(TORCHRUN | MUSTER | {"MUSTER_TOKEN_FILE": str(tmp_path / "token")})
    assert environment.urls == ("http://a", "https://b")
    assert environment.token == "from-file"
    assert (environment.rank, environment.world) == (1, 4)


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MUSTER_API_URLS", "MUSTER_GANG", "MUSTER_TOKEN"])
def test_what_is_missing_is_named(missing: str) -> None:
    variables = {name: value for name, value in (TORCHRUN | MUSTER).items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        Environment.read(variables)


def test_a_handler_is_found_by_module_and_by_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from inference import Handler\nclass Mine(Handler): pass\n")
    assert issubclass(load("inference.samples.echo:Echo", None), Handler)
    assert load(f"{tmp_path}/mine.py:Mine", None).__name__ == "Mine"


@pytest.mark.parametrize(
    "reference", ["nocolon", "inference.samples.echo:Nobody", "inference:Context", "/no/file.py:A"]
)
def test_a_wrong_handler_is_named(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="handler"):
        load(reference, None)


def _fault(error: BaseException, rank: int) -> Fault:
    return Fault.of(error, rank=rank, node="n", phase="run", step=1)


def test_the_rank_with_an_error_of_its_own_is_to_blame() -> None:
    silent = _fault(PeerFailed("stopped"), 0)
    waiting = _fault(RuntimeError("[gloo/transport/tcp/x.cc:1] Timed out waiting 2000ms"), 1)
    guilty = _fault(ValueError("mine"), 2)
    assert root_cause([silent, waiting, guilty]) is guilty
    assert root_cause([silent, waiting]) is waiting


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), "handler_error"),
        (SystemExit(2), "handler_error"),
        (MemoryError(), "oom"),
        (InvalidInput("x"), "invalid_input"),
        (RuntimeError("[/gloo/transport/tcp/pair.cc:5] Connection closed by peer"), "rank_failed"),
    ],
)
def test_errors_have_codes(error: BaseException, code: str) -> None:
    assert _fault(error, 0).code == code


def test_a_report_always_fits_between_the_ranks() -> None:
    assert len(_report(_fault(ValueError("\x00" * 100_000), 0))) < 16_380


def _attempt(**policy: float) -> Attempt:
    policy = {"timeout_s": 10.0, "no_progress_s": 20.0, "cancel_grace_s": 5.0} | policy
    return Attempt(
        Work(attempt="att_1", request="req_1", number=1, token="", input={}, output_prefix="", **policy)  # type: ignore[arg-type]
    )


def test_a_rank_ends_itself_only_after_the_grace() -> None:
    attempt = _attempt()
    assert judge(attempt, attempt.began + 14.9, waiting=False) is None
    sentence = judge(attempt, attempt.began + 15.1, waiting=False)
    assert sentence is not None
    assert sentence.exit is Exit.HARD_STOP


def test_a_rank_that_waits_for_another_lets_it_speak_first() -> None:
    attempt = _attempt()
    assert judge(attempt, attempt.began + 15.1, waiting=True) is None
    assert judge(attempt, attempt.began + 15.1 + AFTER_THE_CULPRIT_S, waiting=True) is not None


def test_a_cancel_that_no_step_answers_ends_the_rank() -> None:
    attempt = _attempt(timeout_s=1000.0)
    attempt.ask_to_stop(Stop.CANCEL)
    now = time.monotonic()
    assert judge(attempt, now + 4, waiting=False) is None
    sentence = judge(attempt, now + 6, waiting=False)
    assert sentence is not None
    assert "canceled" in sentence.message


def test_a_rank_that_waits_for_one_that_failed_has_seconds_however_long_the_grace_of_a_cancel() -> None:
    attempt = _attempt(timeout_s=1000.0, cancel_grace_s=600.0)
    attempt.peer_failed_at = now = time.monotonic()
    assert judge(attempt, now + PEER_GRACE_S + AFTER_THE_CULPRIT_S - 0.1, waiting=True) is None
    assert judge(attempt, now + PEER_GRACE_S + AFTER_THE_CULPRIT_S + 0.1, waiting=True) is not None
    assert judge(attempt, now + 10, waiting=False) is None


def test_a_failed_peer_and_a_standstill_end_the_rank_with_their_own_codes() -> None:
    attempt = _attempt(timeout_s=1000.0, no_progress_s=20.0)
    attempt.peer_failed_at = time.monotonic()
    failed = judge(attempt, time.monotonic() + 6, waiting=False)
    attempt.peer_failed_at = None
    attempt.progress.moved_at -= 21
    still = judge(attempt, time.monotonic(), waiting=False)
    assert failed is not None
    assert still is not None
    assert (failed.exit, still.exit) == (Exit.POISONED, Exit.NO_PROGRESS)


def test_a_rank_that_has_left_run_is_never_the_one_to_end() -> None:
    attempt = _attempt()
    attempt.at_end = True
    assert judge(attempt, attempt.began + 1000, waiting=True) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(5, "Input/output error"), "handler_error"),
        (MemoryError(), "oom"),
        (SystemExit(3), "handler_error"),
    ],
)
def test_an_error_is_told_by_its_code(error: BaseException, code: str) -> None:
    assert _fault(error, rank=1).code == code
