"""`muster` as a process: terminals, pipes, locales, signals, closed output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rest_fake import COLD, FAILED, RUNNING, SUCCEEDED, TOKEN, FakeService, serving
from terminal import ESCAPE, MUSTER, on_terminal, piped

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.fixture
def service():
    return FakeService([COLD, RUNNING, SUCCEEDED])


@pytest.fixture
def environ(service: FakeService, tmp_path: Path):
    with serving(service) as url:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "LC_", "LANG"))}
        yield {**kept, "MUSTER_URL": url, "MUSTER_TOKEN": TOKEN, "MUSTER_HOME": str(tmp_path), "TERM": "xterm"}


def test_a_pipe_gets_lines_and_never_a_carriage_return(environ: dict[str, str], service: FakeService) -> None:
    done = piped(environ, "submit", "digits", "-i", "digit=3", "--wait")
    assert done.returncode == 0 and re.fullmatch(rb"req_\d{26}\n", done.stdout)
    assert b"\r" not in done.stderr and b"\x1b" not in done.stderr
    words = [line.split(b" ", 1)[1] for line in done.stderr.splitlines()]
    assert [word.split()[0] for word in words] == [b"cold", b"denoise", b"succeeded"]


def test_a_terminal_gets_one_line_that_is_redrawn(environ: dict[str, str]) -> None:
    code, seen = on_terminal(environ, "submit", "digits", "-i", "digit=3", "--wait", columns=120)
    assert code == 0
    assert b"denoise 17/30 56% eta 0:03 (warm, gang gng_" in seen and b"\r\x1b[2K" in seen
    assert seen.rstrip().splitlines()[-1].endswith(b"succeeded (queued 0.10 s, ran 1.20 s)")
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h") == 1, "the cursor comes back"


def test_ctrl_c_leaves_and_says_how_to_come_back(environ: dict[str, str], service: FakeService) -> None:
    service.script = [RUNNING]
    code, seen = on_terminal(environ, "submit", "digits", "--wait", interrupt_after=b"17/30")
    assert code == 130
    assert b"Detached; req_" in seen and b"muster wait req_" in seen and b"muster cancel req_" in seen
    assert b"\x1b[?25h" in seen and b"Traceback" not in seen
    assert not any(one.url.path.endswith("/cancel") for one in service.seen)


def test_ctrl_c_anywhere_else_is_quiet(environ: dict[str, str], service: FakeService) -> None:
    request_id = service.add(RUNNING)
    code, seen = on_terminal(environ, "logs", "-f", request_id, interrupt_after=b"hello")
    assert code == 130 and b"Traceback" not in seen


def test_a_submit_on_a_terminal_names_the_next_commands(environ: dict[str, str]) -> None:
    _, seen = on_terminal(environ, "submit", "digits")
    assert all(word in seen for word in (b"muster wait req_", b"muster logs -f", b"muster download", b"muster cancel"))


def test_what_the_service_says_cannot_command_the_terminal(environ: dict[str, str], service: FakeService) -> None:
    service.log = lambda _: f"{HOSTILE}log\n"
    error = {**FAILED["error"], "message": f"{HOSTILE}error", "node": HOSTILE}
    failed = service.add({**FAILED, "error": error}, template=HOSTILE, result={HOSTILE: HOSTILE})
    service.outputs = {f"{HOSTILE}.gif": b"x"}
    for arguments in (["ls"], ["get", failed], ["get", failed, "--json"], ["wait", failed], ["logs", failed]):
        _, seen = on_terminal(environ, *arguments)
        plain = ESCAPE.sub(b"", seen) if b"\x1b[2J" not in seen else seen
        assert b"\x1b" not in plain and b"\x07" not in plain and "\u202e".encode() not in plain, arguments
        assert b"u202e" in plain, arguments


def test_no_color_is_honoured(environ: dict[str, str]) -> None:
    assert b"\x1b[32m" in on_terminal(environ, "doctor")[1]
    assert b"\x1b" not in on_terminal({**environ, "NO_COLOR": "1"}, "doctor")[1]


@pytest.mark.parametrize(
    "extra",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"TERM": "dumb"},
        {"TZ": "Asia/Kathmandu"},
        {"FORCE_COLOR": "1"},
    ],
    ids=lambda extra: " ".join(f"{name}={value}" for name, value in extra.items()),
)
def test_odd_surroundings_change_nothing_that_matters(
    environ: dict[str, str], service: FakeService, extra: dict[str, str]
) -> None:
    request_id = service.add({**RUNNING, "phase": "東京"})
    code, seen = on_terminal({**environ, **extra}, "ls")
    assert code == 0 and request_id.encode() in seen.replace(b"\r\n", b"")
    done = piped({**environ, **extra}, "ls")
    assert (
        done.returncode == 0 and done.stdout.split(b"\t")[4] == b"2026-01-01T00:00:00Z" and b"\x1b" not in done.stdout
    )


def test_without_home_it_still_works(environ: dict[str, str]) -> None:
    without = {name: value for name, value in environ.items() if name not in ("HOME", "MUSTER_HOME", "TERM")}
    assert piped(without, "ls").returncode == 0


def test_a_reader_that_goes_away_is_no_error(environ: dict[str, str], service: FakeService) -> None:
    for _ in range(3):
        service.add({**RUNNING, "phase": "x" * 200_000})
    command = subprocess.Popen([*MUSTER, "ls", "--json"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None and command.stderr is not None
    command.stdout.read(10)
    command.stdout.close()
    assert command.wait(30) == 141 and command.stderr.read() == b""
    command.stderr.close()


def test_closed_output_from_the_start_is_no_error(environ: dict[str, str]) -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *MUSTER, "ls"], env=environ, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_told_in_one_line(environ: dict[str, str], service: FakeService) -> None:
    service.add(RUNNING)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*MUSTER, "ls"], env=environ, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_stdin_is_an_input(environ: dict[str, str], service: FakeService) -> None:
    assert piped(environ, "submit", "digits", "--stdin", input=b'{"digit": 5}').returncode == 0
    assert service.bodies("POST", "/v1/requests")[0]["input"] == {"digit": 5}
    assert piped(environ, "submit", "digits", "--stdin", input=b"\xff").returncode == 2


def test_help_is_quick_and_loads_no_client(environ: dict[str, str]) -> None:
    code = "import sys, time; from orchestrator.cli.main import run; run(['--help'])"
    code += "; print([*sys.modules]); print(time.process_time())"  # of the CPU: however many others want it
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    *_, modules, cpu_s = done.stdout.splitlines()
    assert float(cpu_s) < 1, "0.1 s on a quiet machine"
    assert not any(f"'{name}'" in modules for name in ("httpx", "rich", "yaml", "sqlalchemy", "fastapi", "torch"))


def test_the_client_does_not_pull_the_server_in() -> None:
    code = "import sys, orchestrator.client; print([*sys.modules])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    rooms = ("store", "api", "loops", "backends", "domain", "service")
    assert not any(f"'orchestrator.{room}'" in modules for room in rooms)
    assert not any(f"'{name}'" in modules for name in ("yaml", "sqlalchemy", "fastapi", "pydantic", "rich", "pygments"))


def test_what_needs_the_database_alone_does_not_wait_for_the_service() -> None:
    code = "import sys, orchestrator.service.offline; print([*sys.modules])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(f"'{name}'" in modules for name in ("fastapi", "uvicorn", "jinja2", "orchestrator.loops"))


def test_the_version_is_told(environ: dict[str, str]) -> None:
    assert re.fullmatch(rb"muster \d+\.\d+\.\d+\n", piped(environ, "--version").stdout)


def _commands() -> list[tuple[str, ...]]:
    from orchestrator.cli.main import muster

    found: list[tuple[str, ...]] = []
    for name, command in muster.commands.items():
        nested = getattr(command, "commands", None)
        found += [(name, inner) for inner in nested] if nested else [(name,)]
    return found


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.cli.main import run

    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--json" in out and "--token" not in out and "Example" in out
