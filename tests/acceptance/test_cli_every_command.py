"""Every command of the installed `muster`, against a real service with a real gang: exit code, --json, pipe, terminal.

The commands are discovered from the command line itself: one without rows here fails the first test. What cannot be had
cheaply from a real service (a service that is away, a token without a scope) comes from tests/unit.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import click
import pytest
from stage import QUAD, Up, echo, until
from terminal import ESCAPE, on_terminal, piped

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import muster

UNKNOWN = "req_" + "0" * 26
NO_GANG = "gng_" + "0" * 26
NO_BATCH = "bat_" + "0" * 26
NO_HOOK = "whk_" + "0" * 26
LINES = "lines"
"""A template for batches: each starts a gang of its own, and one rank is enough of one."""


def commands(group: click.Group = muster, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that does something, by its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


class Scene:
    """What the rows speak of. Things that a command uses up are made anew for each row."""

    def __init__(self, service: Up, folder: Path) -> None:
        self.service = service
        self.folder = folder
        service.client.apply_template(echo(LINES, ranks=1))
        (folder / "echo.yaml").write_text(json.dumps(echo("every", ranks=1)))
        lines = [json.dumps({"custom_id": f"i-{n}", "input": {"text": "item"}}) for n in (1, 2)]
        (folder / "lines.jsonl").write_text("\n".join(lines))
        (folder / "input.json").write_text('{"text": "from a file"}')
        (folder / "model.py").write_text(SCRIPT)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "LC_", "LANG"))}
        self.environ = {
            **kept,
            "MUSTER_URL": service.replica.url,
            "MUSTER_TOKEN": service.token,
            "MUSTER_HOME": str(folder / "home"),
            "TERM": "xterm",
        }

    def around(self, row: Row) -> dict[str, str]:
        """The environment of a row."""
        return {**self.environ, **({"MUSTER_DATABASE_URL": self.service.database_url()} if row.database else {})}

    @cached_property
    def done(self) -> str:
        """A request that succeeded, with an output and a log."""
        return self.service.run(QUAD, {"hooks": {"write": "x" * 100, "print": "spoken"}}).id

    @cached_property
    def failed(self) -> str:
        return self.service.run(QUAD, {"hooks": {"raise_on_rank": 1, "print": "last words of"}}).id

    @cached_property
    def batch(self) -> str:
        """A batch of two items."""
        words = piped(self.environ, "batch", "submit", LINES, "lines.jsonl", cwd=self.folder).stdout.decode()
        return words.strip()

    def open(self) -> str:
        """A request that runs until somebody cancels it."""
        request_id = self.service.client.submit(QUAD, {"sleep_s": 30, "steps": 300}).id
        self.service.running(request_id)
        return request_id

    def gang(self) -> str:
        return self.service.idle_gang(QUAD).id

    def spare(self) -> str:
        """A gang that may go."""
        self.service.client.apply_template(echo("spare", ranks=1))
        self.service.run("spare")
        return self.service.idle_gang("spare").id

    def template(self) -> str:
        """A template that nobody uses."""
        self.service.client.apply_template(echo("unused", ranks=1))
        return "unused"

    def unheard(self) -> str:
        """A name that no schedule has."""
        return f"s-{secrets.token_hex(6)}"

    def schedule(self) -> str:
        """A schedule that fires on leap days."""
        runs = {"request": {"template": QUAD, "input": {"text": "hi"}}}
        return self.service.client.schedules.create(self.unheard(), "0 2 29 2 *", runs).name

    def token(self) -> str:
        return self.service.client.create_token("rows", ["read"]).id


SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, default=1)
if __name__ == "__main__":
    parser.parse_args()
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One use of a command: what is given to it and how it must end."""

    given: Callable[[Scene], list[str]] = field(default=lambda _: [])
    code: int = ExitCode.OK
    answer: str = "document"
    """Of --json: `document`, `listing`, `lines`, or `none` where a command answers nothing by itself."""
    database: bool = False
    """It goes past the service, with MUSTER_DATABASE_URL."""
    terminal: bool = True
    """Also on a terminal."""


def ok(*words: str, given: Callable[[Scene], list[str]] | None = None, **more: Any) -> Row:
    return Row(given=given or (lambda _: [*words]), **more)


def refused(code: int, *words: str, given: Callable[[Scene], list[str]] | None = None) -> Row:
    return Row(given=given or (lambda _: [*words]), code=code)


NO_SUCH = ExitCode.NOT_FOUND
USAGE = ExitCode.USAGE

ROWS: dict[str, tuple[Row, ...]] = {
    "submit": (
        ok(QUAD, "-i", "text=hi"),
        ok(QUAD, "-i", "text=hi", "--wait", "60s"),
        ok(QUAD, "--input-file", "input.json", "--follow", answer="lines"),
        Row(given=lambda _: [QUAD, "-i", 'hooks={"raise_on_rank": 1}', "--wait", "60s"], code=ExitCode.FAILED),
        refused(NO_SUCH, "no-such-template"),
        refused(USAGE, QUAD, "-i", "steps=-1"),
        refused(USAGE, QUAD, "--input-file", "/dev/zero"),
    ),
    "run": (ok("--dry-run", "model.py", "--depth", "2"), refused(USAGE, "nothing.py")),
    "validate": (ok(QUAD, "-i", "text=hi"), refused(USAGE, QUAD, "-i", "steps=-1"), refused(NO_SUCH, "no-such")),
    "events": (ok(given=lambda s: [s.done], answer="listing"), refused(NO_SUCH, UNKNOWN)),
    "retry": (ok(given=lambda s: [s.done]), refused(NO_SUCH, UNKNOWN)),
    "rm": (
        ok(given=lambda s: [s.service.run(QUAD).id, "--yes"], answer="listing"),
        refused(ExitCode.FAILED, given=lambda s: [s.open(), "--yes"]),
        refused(NO_SUCH, UNKNOWN, "--yes"),
    ),
    "get": (ok(given=lambda s: [s.done]), ok(given=lambda s: [s.failed, "-o", "yaml"]), refused(NO_SUCH, UNKNOWN)),
    "ls": (ok("-s", "succeeded", "-n", "3", answer="listing"), refused(USAGE, "-s", "sleeping")),
    "explain": (
        ok(given=lambda s: [s.done]),
        ok(given=lambda s: [s.failed]),
        ok(given=lambda s: [s.gang()]),
        ok(QUAD),
        refused(NO_SUCH, UNKNOWN),
        refused(NO_SUCH, NO_GANG),
        refused(NO_SUCH, "no-such-template"),
    ),
    "wait": (
        ok(given=lambda s: [s.done]),
        Row(given=lambda s: [s.failed], code=ExitCode.FAILED),
        Row(given=lambda s: [s.open(), "--timeout", "0s"], code=ExitCode.UNFINISHED),
        refused(NO_SUCH, UNKNOWN),
    ),
    "logs": (ok(given=lambda s: [s.done, "--rank", "all"], answer="listing"), refused(NO_SUCH, UNKNOWN)),
    "cancel": (ok(given=lambda s: [s.open(), "--yes"]), refused(NO_SUCH, UNKNOWN)),
    "download": (ok(given=lambda s: [s.done, "-o", "saved"], answer="listing"), refused(NO_SUCH, UNKNOWN)),
    "batch submit": (
        ok(LINES, "lines.jsonl"),
        refused(NO_SUCH, "no-such", "lines.jsonl"),
        refused(USAGE, LINES, "none"),
    ),
    "batch status": (ok(given=lambda s: [s.batch]), refused(NO_SUCH, NO_BATCH)),
    "batch ls": (ok(answer="listing"), refused(USAGE, "-s", "sleeping")),
    "batch items": (ok(given=lambda s: [s.batch], answer="listing"), refused(NO_SUCH, NO_BATCH)),
    "batch results": (ok(given=lambda s: [s.batch], answer="lines"), refused(NO_SUCH, NO_BATCH)),
    "batch errors": (ok(given=lambda s: [s.batch], answer="lines"), refused(NO_SUCH, NO_BATCH)),
    "batch download": (ok("-o", "all", given=lambda s: [s.batch], answer="listing"), refused(NO_SUCH, NO_BATCH)),
    "batch cancel": (refused(NO_SUCH, NO_BATCH),),
    "batch pause": (refused(NO_SUCH, NO_BATCH),),
    "batch resume": (refused(NO_SUCH, NO_BATCH),),
    "batch retry": (refused(NO_SUCH, NO_BATCH, "one"),),
    "batch rm": (refused(NO_SUCH, NO_BATCH, "--yes"),),
    "template ls": (ok(answer="listing"),),
    "template show": (ok(QUAD), refused(NO_SUCH, "no-such-template")),
    "template apply": (ok("echo.yaml"), refused(USAGE, "nothing.yaml"), refused(USAGE, "/dev/zero")),
    "template render": (ok("digits", "--image", "muster:1"), refused(USAGE, "nothing.yaml")),
    "template rm": (ok(given=lambda s: [s.template()], answer="listing"), refused(NO_SUCH, "no-such-template")),
    "pool ls": (ok(answer="listing"),),
    "pool show": (ok(QUAD), refused(NO_SUCH, "no-such-template")),
    "pool set": (ok(QUAD, "--max", "1"), refused(USAGE, QUAD), refused(NO_SUCH, "no-such-template", "--max", "1")),
    "pool recycle": (
        ok(given=lambda s: [s.spare() and "spare"], answer="listing"),
        refused(NO_SUCH, "no-such-template"),
    ),
    "pool drain": (ok(given=lambda s: [s.template()], answer="listing"), refused(NO_SUCH, "no-such-template")),
    "gang ls": (ok(answer="listing"),),
    "gang show": (ok(given=lambda s: [s.gang()]), refused(NO_SUCH, NO_GANG)),
    "gang drain": (ok(given=lambda s: [s.spare()], answer="listing"), refused(NO_SUCH, NO_GANG)),
    "gang logs": (ok(given=lambda s: [s.gang()], answer="listing"), refused(NO_SUCH, NO_GANG)),
    "dev": (
        ok("echo.yaml", "-i", "text=hi", "--ranks", "1", terminal=False),
        Row(given=lambda _: ["nothing.yaml"], code=USAGE),
    ),
    "up": (refused(USAGE, "--port", "99999"),),
    "serve": (refused(USAGE),),
    "migrate": (ok(database=True), refused(USAGE)),
    "open": (ok("--no-browser"), refused(USAGE, "--sideways")),
    "doctor": (ok(answer="listing"), refused(ExitCode.UNREACHABLE, "--url", "http://127.0.0.1:9")),
    "completion": (ok("bash"), ok("zsh"), ok("fish"), refused(USAGE, "tcsh")),
    "tenant ls": (ok(answer="listing", database=True), refused(USAGE)),
    "tenant set": (ok("default", "--weight", "1", database=True), refused(USAGE, "default", "--weight", "0")),
    "webhook create": (refused(USAGE, "not-a-url"),),
    "webhook ls": (ok(answer="listing"),),
    "webhook rm": (refused(NO_SUCH, NO_HOOK),),
    "webhook rotate": (refused(NO_SUCH, NO_HOOK),),
    "webhook secret": (ok(), refused(USAGE, "--overlap", "long")),
    "webhook enable": (refused(NO_SUCH, NO_HOOK),),
    "webhook test": (refused(NO_SUCH, NO_HOOK),),
    "webhook deliveries": (refused(NO_SUCH, NO_HOOK),),
    "webhook replay": (refused(NO_SUCH, NO_HOOK, "msg_" + "0" * 26),),
    "schedule create": (
        ok(given=lambda s: [s.unheard(), QUAD, "--cron", "0 2 29 2 *", "-i", "text=hi"]),
        refused(NO_SUCH, "nightly", "no-such-template", "--cron", "@daily"),
        refused(USAGE, "nightly", QUAD, "--cron", "R * * * *"),
        refused(USAGE, "nightly", QUAD),
    ),
    "schedule edit": (
        ok(given=lambda s: [s.schedule(), "--cron", "@yearly", "-i", "text=other"]),
        refused(NO_SUCH, "no-such", "--cron", "@daily"),
        refused(USAGE, given=lambda s: [s.schedule(), "--cron", "R * * * *"]),
        refused(USAGE, given=lambda s: [s.schedule()]),
    ),
    "schedule ls": (ok(answer="listing"),),
    "schedule show": (ok(given=lambda s: [s.schedule()]), refused(NO_SUCH, "no-such")),
    "schedule fires": (ok(given=lambda s: [s.schedule()], answer="listing"), refused(NO_SUCH, "no-such")),
    "schedule trigger": (ok(given=lambda s: [s.schedule()]), refused(NO_SUCH, "no-such")),
    "schedule pause": (ok(given=lambda s: [s.schedule()]), refused(NO_SUCH, "no-such")),
    "schedule resume": (ok(given=lambda s: [s.schedule()]), refused(NO_SUCH, "no-such")),
    "schedule rm": (ok(given=lambda s: [s.schedule()], answer="listing"), refused(NO_SUCH, "no-such")),
    "token create": (ok("made"), refused(USAGE, "made", "--scope", "everything")),
    "token ls": (ok(answer="listing"),),
    "token revoke": (ok(given=lambda s: [s.token()], answer="listing"), refused(NO_SUCH, "tok_" + "0" * 26)),
}
CASES = [
    pytest.param(name, row, id=f"{name} {number}") for name, rows in ROWS.items() for number, row in enumerate(rows)
]


EVERY_DAY = ("submit", "get", "ls", "wait", "logs", "cancel", "explain", "batch submit", "gang ls")
"""Commands that `make test` runs in all three ways."""
ALSO_IN_JSON = (
    *("template apply", "pool ls", "gang show", "batch status", "schedule create", "webhook create", "token create"),
    *("retry", "validate", "events", "download", "rm", "open", "doctor", "run", "dev", "tenant ls"),
)
"""One of each group, and what is used less: `make test` runs their first row with --json."""


def in_short(cases: list[Any], names: Collection[str]) -> list[Any]:
    """The cases; all but the first of each of these names are left to `make test-long`."""
    brief = {f"{name} 0" for name in names}
    return [
        case if case.id in brief else pytest.param(*case.values, id=case.id, marks=pytest.mark.long) for case in cases
    ]


@pytest.fixture(scope="module")
def scene(service: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(service, tmp_path_factory.mktemp("cli"))
    yield scene
    _tidy(service)


@pytest.fixture(autouse=True)
def tidy(service: Up) -> Iterator[None]:
    """No row leaves work for the next one."""
    yield
    _tidy(service)


def _tidy(service: Up) -> None:
    still = [one.id for one in service.client.list(status=("queued", "assigned", "running", "canceling")).data]
    for request_id in still:
        service.client.cancel(request_id)
        service.done(request_id)


def test_every_command_has_rows_here() -> None:
    assert {" ".join(words) for words in commands()} == set(ROWS)


def test_every_command_can_fail_here_but_those_that_only_list() -> None:
    never = {name for name, rows in ROWS.items() if all(row.code == ExitCode.OK for row in rows)}
    assert never == {"template ls", "pool ls", "gang ls", "token ls", "webhook ls", "schedule ls"}


@pytest.mark.parametrize(("name", "row"), in_short(CASES, EVERY_DAY))
def test_in_a_pipe_data_goes_to_stdout_and_words_to_stderr(scene: Scene, name: str, row: Row) -> None:
    done = piped(scene.around(row), *name.split(), *row.given(scene), cwd=scene.folder)
    assert done.returncode == row.code, done.stderr.decode()
    assert b"\r" not in done.stdout + done.stderr and b"\x1b" not in done.stdout + done.stderr
    assert b"Traceback (most recent call last)" not in done.stderr or row.code == ExitCode.FAILED
    if row.code in (USAGE, NO_SUCH):
        assert done.stderr and not done.stdout


@pytest.mark.parametrize(("name", "row"), in_short(CASES, (*EVERY_DAY, *ALSO_IN_JSON)))
def test_in_json_both_success_and_failure_are_documents(scene: Scene, name: str, row: Row) -> None:
    done = piped(scene.around(row), *name.split(), "--json", *row.given(scene), cwd=scene.folder)
    assert done.returncode == row.code, done.stderr.decode()
    if row.answer == "lines":
        assert all("id" in json.dumps(json.loads(line)) for line in done.stdout.splitlines())
        return
    said = json.loads(done.stdout)
    if row.code in (USAGE, NO_SUCH):
        assert said["code"] and said["detail"], "a problem document"
    elif row.answer == "listing" or name == "doctor":
        assert isinstance(said["data"], list)
    else:
        assert isinstance(said, dict) and said


@pytest.mark.parametrize(("name", "row"), in_short([case for case in CASES if case.values[1].terminal], EVERY_DAY))
def test_on_a_terminal_the_exit_code_is_the_same_and_the_cursor_comes_back(scene: Scene, name: str, row: Row) -> None:
    code, seen = on_terminal(scene.around(row), *name.split(), *row.given(scene), columns=100, cwd=scene.folder)
    assert code == row.code, seen.decode(errors="replace")
    assert seen.endswith((b"\n", b"\x1b[?25h"))
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h")
    assert b"\x1b" not in ESCAPE.sub(b"", seen)


# -------------------------------------------------------------------------------------------------- odd inputs, Ctrl-C


ODD_FILES = ("missing", "folder", "fifo", "/dev/zero", "large", "not utf-8")


@pytest.mark.parametrize(
    ("option", "kind"),
    [*product(("--input-file", "-i"), ODD_FILES), ("--input-file", "not json")],  # as -i KEY=@FILE any text is text
)
def test_a_file_that_cannot_be_an_input_is_refused_before_anything_is_sent(
    scene: Scene, kind: str, option: str, tmp_path: Path
) -> None:
    path = _odd(tmp_path / "odd", kind)
    given = [option, str(path)] if option == "--input-file" else ["-i", f"text=@{path}"]
    before = _newest(scene)
    done = piped(scene.environ, "submit", QUAD, *given)
    assert done.returncode == USAGE, done.stderr
    assert str(path).encode() in done.stderr and b"Traceback" not in done.stderr
    assert _newest(scene) == before


def _odd(path: Path, kind: str) -> Path:
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "large":
            path.write_bytes(b" " * (2 << 20))
        case "not utf-8":
            path.write_bytes(b"\xff\xfe")
        case "not json":
            path.write_text("{")
        case "/dev/zero":
            return Path("/dev/zero")
    return path


def _newest(scene: Scene) -> str | None:
    return next((one.id for one in scene.service.client.list(limit=1).data), None)


def test_ctrl_c_detaches_from_a_real_request_which_goes_on(scene: Scene) -> None:
    request_id = scene.open()
    code, seen = on_terminal(scene.environ, "wait", request_id, interrupt_after=b"echo ", columns=200)
    assert code == ExitCode.INTERRUPTED
    assert f"resume:  muster wait {request_id}".encode() in seen
    assert f"cancel:  muster cancel {request_id}".encode() in seen
    assert scene.service.client.get(request_id).status == "running"


def test_a_real_failure_shows_the_last_lines_of_the_rank_that_caused_it(scene: Scene) -> None:
    def told() -> bytes | None:
        seen = piped(scene.environ, "wait", scene.failed).stderr
        return seen if b"last words of 1" in seen else None

    seen = until(told, "the log of rank 1 has arrived")
    assert b"handler_error on rank 1" in seen and b"--- last 40 log lines of rank 1 ---" in seen


def test_a_shell_completes_ids_and_names_of_the_real_service(scene: Scene) -> None:
    asked = {"_MUSTER_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    for words, expected in ((f"muster get {scene.done[:10]}", scene.done), ("muster submit qu", QUAD)):
        done = piped({**scene.environ, **asked, "COMP_WORDS": words})
        assert f"plain,{expected}" in done.stdout.decode().splitlines(), done
