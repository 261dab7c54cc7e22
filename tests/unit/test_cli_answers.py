"""What the commands that explain, change and complete answer, against the fake service."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from rest_fake import CANCELED, GANG, RUNNING, SUCCEEDED, TOKEN, FakeService, problem, serving
from terminal import on_terminal, piped

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import muster as commands
from orchestrator.cli.main import run
from orchestrator.domain.advice import CALLS


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def environ(service: FakeService, tmp_path: Path):
    with serving(service) as url:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        yield {**kept, "MUSTER_URL": url, "MUSTER_TOKEN": TOKEN, "MUSTER_HOME": str(tmp_path), "TERM": "xterm"}


@pytest.fixture
def muster(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name in ("MUSTER_URL", "MUSTER_TOKEN", "MUSTER_HOME"):
        monkeypatch.setenv(name, environ[name])

    def muster(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        return code, *capsys.readouterr()

    return muster


def test_explain_is_findings_then_what_can_be_done_and_harmless(muster, environ, service: FakeService) -> None:
    request_id = service.add(SUCCEEDED)
    code, out, _ = muster("explain", request_id)
    assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (0, ["cause", "next", "next"])
    assert "\x1b" not in out and out.splitlines()[1].endswith("muster logs --rank 2")
    _, seen = on_terminal(environ, "explain", request_id)
    for words in ("(request, failed)", "Traceback", "Last lines of rank 2", "read its log:  muster logs --rank 2"):
        assert words.encode() in seen
    assert b"\x1b" not in seen and b"\x07" not in seen and b"\\n" not in seen


def test_explain_knows_gangs_and_templates_by_their_form(muster, service: FakeService) -> None:
    for subject, path in ((GANG, f"/v1/gangs/{GANG}/explain"), ("digits", "/v1/pools/digits/explain")):
        assert muster("explain", subject)[0] == ExitCode.NOT_FOUND
        assert service.seen[-1].url.path == path


def test_get_answers_in_yaml_too(muster, service: FakeService) -> None:
    request_id = service.add(SUCCEEDED)
    code, out, _ = muster("get", request_id, "-o", "yaml")
    assert code == 0 and yaml.safe_load(out)["id"] == request_id


def test_a_cancel_waits_until_the_gang_has_stopped(muster, service: FakeService) -> None:
    canceling = {**RUNNING, "status": "canceling"}
    service.after_cancel = [canceling, canceling, CANCELED]
    assert muster("cancel", service.add(RUNNING))[1].endswith("\tcanceled\n")
    service.after_cancel = [canceling]
    assert muster("cancel", service.add(RUNNING), "--no-wait")[1].endswith("\tcanceling\n")


def test_several_are_only_canceled_on_a_terminal_after_a_yes(environ, service: FakeService) -> None:
    ids = [service.add(RUNNING), service.add(RUNNING)]
    code, _ = on_terminal(environ, "cancel", *ids, interrupt_after=b"Cancel 2 requests?")
    assert code == ExitCode.INTERRUPTED and not any("cancel" in one.url.path for one in service.seen)
    assert piped(environ, "cancel", *ids).returncode == 0


def test_a_pool_is_recycled_or_drained_in_one_call(muster, service: FakeService) -> None:
    assert muster("pool", "recycle", "digits")[:2] == (0, f"{GANG}\tdraining\n")
    code, out, err = muster("pool", "drain", "digits")
    assert (code, out) == (0, f"{GANG}\tdraining\n")
    assert "open it again: muster pool set digits --min 0 --max 1" in err
    changes = [one.url.path for one in service.seen if one.method != "GET"]
    assert changes == ["/v1/pools/digits/recycle", "/v1/pools/digits/drain"]


def test_an_ended_request_is_sent_again_as_a_new_one(muster, service: FakeService) -> None:
    old = service.add(SUCCEEDED)
    code, out, _ = muster("retry", old)
    assert code == 0 and out.strip() != old and service.requests[out.strip()]["fields"] == {"retry_of": old}


def test_only_what_has_ended_is_deleted(muster, environ, service: FakeService) -> None:
    ended, runs = service.add(SUCCEEDED), service.add(RUNNING)
    assert muster("rm", ended)[0] == 0 and ended not in service.requests
    code, _, err = muster("rm", runs)
    assert code == ExitCode.FAILED and "cancel it first" in err
    code, _ = on_terminal(environ, "rm", runs, interrupt_after=b"Delete 1 requests")
    assert code == ExitCode.INTERRUPTED and runs in service.requests


def test_a_validation_records_nothing_and_says_the_path(muster, service: FakeService) -> None:
    code, out, _ = muster("validate", "digits", "-i", "digit=3", "--mode", "warm")
    shown = dict(line.split("\t", 1) for line in out.splitlines())
    assert code == 0 and shown["placement"] == "warm: a warm gang is idle" and shown["input"] == '{"digit": 3}'
    assert not service.requests


def test_events_are_rows_or_lines_as_they_come(muster, service: FakeService) -> None:
    request_id = service.add(RUNNING, SUCCEEDED)
    assert muster("events", request_id)[1].split("\t")[:3] == ["1", "2026-01-01T00:00:00Z", "record"]
    assert muster("events", request_id, "-f", "--json")[1].count('"record"') == 1
    assert muster("events", request_id, "--after", "1")[1] == ""


def test_an_option_of_a_script_is_not_ours(muster, tmp_path: Path) -> None:
    code, out, _ = muster("run", "--nonsense", str(tmp_path / "a.py"), "--json")
    assert (code, out) == (ExitCode.USAGE, "")
    assert muster("run", "--json", "--nonsense", str(tmp_path / "a.py"))[1].startswith("{")


@pytest.mark.parametrize("code", ["unauthorized", "no_warm_pool", "idempotency_key_reused"])
def test_a_refusal_says_what_helps(muster, service: FakeService, code: str) -> None:
    service.answers = [problem(409, code, "detail")]
    assert CALLS[code] in muster("get", "req_1")[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script_that_asks_us(muster, shell: str) -> None:
    code, out, _ = muster("completion", shell)
    assert code == 0 and "_MUSTER_COMPLETE" in out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("muster ca", "cancel"),
        ("muster submit dig", "digits"),
        ("muster gang show gng_", GANG),
        ("muster pool set dig", "digits"),
        ("muster token revoke t", "tok_1"),
        ("muster template apply dig", "digits"),
    ],
)
def test_a_shell_completes_commands_names_and_ids(environ, words: str, offered: str) -> None:
    asked = {"_MUSTER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = piped({**environ, **asked})
    assert f"plain,{offered}" in done.stdout.decode().splitlines(), done


def test_a_completion_is_silent_where_no_service_answers(environ) -> None:
    asked = {"_MUSTER_COMPLETE": "bash_complete", "COMP_WORDS": "muster get r", "COMP_CWORD": "2"}
    done = piped({**environ, **asked, "MUSTER_URL": "http://127.0.0.1:9"})
    assert (done.stdout.strip(), done.stderr) == (b"", b"")


def test_a_watched_list_says_what_changed_and_outlives_a_service_that_is_away(environ, service: FakeService) -> None:
    service.answers = [problem(503, "unavailable", "the database does not answer") for _ in range(5)]
    request_id = service.add(RUNNING)
    code, seen = on_terminal(environ, "ls", "-w", "--json", interrupt_after=request_id.encode())
    assert code == ExitCode.INTERRUPTED and b"still trying" in seen and b"Traceback" not in seen


def test_the_page_knows_every_exit_code_and_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert [code for code in ExitCode if f"| {code.value} |" not in page] == []
    assert [name for name in commands.commands if f"`{name}" not in page] == []
