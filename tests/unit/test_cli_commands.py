"""Every command against the fake service, in this process: what it sends, what it prints where, how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import yaml
from rest_fake import (
    CANCELED,
    EXPIRED,
    FAILED,
    GANG,
    GIF,
    LOST,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TOKEN,
    FakeService,
    problem,
    serving,
)

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import run
from orchestrator.errors import BackendError


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    service = FakeService()
    with serving(service) as url:
        monkeypatch.setenv("MUSTER_URL", url)
        monkeypatch.setenv("MUSTER_TOKEN", TOKEN)
        monkeypatch.setenv("MUSTER_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        yield service


class Muster:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> int:
        code = run(arguments)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self) -> dict[str, object]:
        return json.loads(self.out)


@pytest.fixture
def muster(capsys: pytest.CaptureFixture[str], service: FakeService) -> Muster:
    return Muster(capsys)


def test_submit_prints_the_id_alone(muster: Muster, service: FakeService) -> None:
    code = muster(
        "submit", "digits", "-i", "digit=3", "-i", "text=7", "-i", "sizes=[1]", "--label", "a=b", "--mode", "warm",
        "--priority", "2", "--timeout", "1h", "--expire-queued", "5m", "--idempotency-key", "k",
    )  # fmt: skip
    assert (code, muster.out, muster.err) == (0, "req_" + "1".zfill(26) + "\n", "")
    (body,) = service.bodies("POST", "/v1/requests")
    assert body["input"] == {"digit": 3, "text": "7", "sizes": [1]} and body["labels"] == {"a": "b"}
    assert (body["mode"], body["priority"]) == ("warm", 2)
    assert (body["timeout_s"], body["expire_queued_after_s"]) == (3600, 300)
    assert muster("submit", "digits", "--idempotency-key", "k") == 0 and len(service.requests) == 1


def test_two_submits_are_two_requests(muster: Muster, service: FakeService) -> None:
    assert muster("submit", "digits") == muster("submit", "digits") == 0 and len(service.requests) == 2


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (SUCCEEDED, ExitCode.OK),
        (FAILED, ExitCode.FAILED),
        (LOST, ExitCode.INFRA),
        (CANCELED, ExitCode.CANCELED),
        (EXPIRED, ExitCode.EXPIRED),
    ],
)
def test_wait_ends_with_the_code_of_the_request(
    muster: Muster, service: FakeService, state: dict[str, object], code: int
) -> None:
    request_id = service.add(RUNNING, state)
    assert muster("wait", request_id) == code
    assert muster.out == f"{request_id}\t{state['status']}\n"
    service.script = [RUNNING, state]
    assert muster("submit", "digits", "--wait", "-q") == code


def test_wait_that_is_over_before_the_request_says_how_to_resume(muster: Muster, service: FakeService) -> None:
    request_id = service.add(RUNNING)
    assert muster("wait", request_id, "--timeout", "0s") == ExitCode.UNFINISHED
    assert f"muster wait {request_id}" in muster.err


def test_wait_for_several_ends_with_the_first_failure(muster: Muster, service: FakeService) -> None:
    ids = [service.add(SUCCEEDED), service.add(CANCELED), service.add(EXPIRED)]
    assert muster("wait", *ids, "--json") == ExitCode.CANCELED
    assert [one["id"] for one in muster.json()["data"]] == ids


def test_a_failure_is_told_with_its_rank_its_node_and_its_log(muster: Muster, service: FakeService) -> None:
    service.log = lambda rank: f"last words of rank {rank}\n"
    muster("wait", service.add(FAILED))
    for words in ("handler_error on rank 2, node n7, phase denoise", "no such digit", "last words of rank 2"):
        assert words in muster.err
    assert next(one for one in service.seen if one.url.path.endswith("logs")).url.params["tail"] == "40"


def test_submit_waits_and_downloads(muster: Muster, service: FakeService, tmp_path: Path) -> None:
    assert muster("submit", "digits", "-i", "digit=3", "-o", "pictures") == 0
    assert (tmp_path / "pictures" / "digit.gif").read_bytes() == GIF
    assert muster.out.startswith("req_") and muster.out.count("\n") == 1
    assert "saved pictures/digit.gif" in muster.err


def test_submit_follow_shows_the_log_on_stderr(
    muster: Muster, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.watching.LAST_LINES_AFTER_S", 0.0)
    service.log = lambda _: "step 1\nstep 2\n"
    assert muster("submit", "digits", "--follow") == 0
    assert muster.err.count("step 1\n") == 1 and "step" not in muster.out


def test_submit_in_json_is_one_document_or_lines_that_change(muster: Muster, service: FakeService) -> None:
    assert muster("submit", "digits", "--json") == 0 and muster.json()["status"] == "queued"
    service.script = [RUNNING, SUCCEEDED]
    assert muster("submit", "digits", "--json", "--wait") == 0 and muster.json()["status"] == "succeeded"
    assert muster("submit", "digits", "--json", "--follow") == 0
    assert [json.loads(line)["status"] for line in muster.out.splitlines()] == ["running", "succeeded"]


def test_input_comes_from_stdin_or_a_file(
    muster: Muster, service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in.json").write_text('{"digit": 4}')
    assert muster("submit", "digits", "--input-file", "in.json") == 0
    assert muster("submit", "digits", "--input-file", "in.json", "--stdin") == ExitCode.USAGE
    assert [one["input"] for one in service.bodies("POST", "/v1/requests")] == [{"digit": 4}]


def test_an_input_that_does_not_fit_is_told_by_its_place(muster: Muster) -> None:
    assert muster("submit", "digits", "-i", "digit=12", "--json") == ExitCode.USAGE
    assert muster.json()["errors"] and "/input/digit: 12 is more than 9" in muster.err


def test_a_submit_without_an_answer_names_the_key_to_repeat_it(
    muster: Muster, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.client.transport.FIRST_PAUSE_S", 0.0)
    service.answers = [problem(503, "unavailable", "no database") for _ in range(5)]
    assert muster("submit", "digits", "--idempotency-key", "k7") == ExitCode.UNREACHABLE
    assert "--idempotency-key k7" in muster.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "digits", "--wait", "soon"),
        ("submit", "digits", "--timeout", "5"),
        ("submit", "digits", "--label", "x"),
        ("submit", "digits", "-i", "x"),
        ("submit", "digits", "-i", "x=@/dev/zero"),
        ("submit", "digits", "--idempotency-key", ""),
        ("schedule", "create", "n", "digits", "--cron", "@daily", "--batch", "ten.jsonl"),
        ("batch", "submit", "digits", "lines.jsonl", "--idempotency-key", " "),
        ("submit", "digits", "--input-file", "missing.json"),
        ("submit", "digits", "--token", "secret"),
        ("--token", "secret", "ls"),
        ("--url", "http://me:secret@host", "ls"),
        ("logs", "req_1", "--rank", "x"),
        ("pool", "set", "digits"),
        ("template", "apply", "missing.yaml"),
        ("nonsense",),
        ("get",),
        (),
    ],
)
def test_a_wrong_command_line_sends_nothing(muster: Muster, service: FakeService, arguments: tuple[str, ...]) -> None:
    assert muster(*arguments) == ExitCode.USAGE
    assert muster.err and not any(one.method == "POST" for one in service.seen)
    assert "Traceback" not in muster.err


def test_lists_are_columns_in_a_pipe_and_one_document_in_json(muster: Muster, service: FakeService) -> None:
    ids = [service.add(state) for state in (SUCCEEDED, FAILED, QUEUED)]
    assert muster("ls") == 0
    rows = [line.split("\t") for line in muster.out.splitlines()]
    assert [row[0] for row in rows] == ids[::-1] and {len(row) for row in rows} == {6}
    assert rows[0][1:] == ["queued", "digits", "", "2026-01-01T00:00:00Z", "position 2 of 5"]
    assert muster("ls", "--json") == 0 and [one["id"] for one in muster.json()["data"]] == ids[::-1]


def test_ls_asks_for_what_was_named(muster: Muster, service: FakeService) -> None:
    assert muster("ls", "-s", "open,cancelled", "--template", "digits", "-n", "2") == 0
    params = service.seen[-1].url.params
    assert params["status"] == "queued,assigned,running,canceling,canceled" and params["template"] == "digits"
    assert params["limit"] == "2"


def test_ls_filters_by_time_and_label(muster: Muster, service: FakeService) -> None:
    new = [service.add(SUCCEEDED, created_at="2999-01-01T00:00:00Z", labels={"team": "ads"}) for _ in range(2)]
    service.add(SUCCEEDED)
    for given in (["--since", "1d"], ["--since", "2026-02-01T00:00:00+02:00"], ["--label", "team=ads"]):
        assert muster("ls", *given) == 0
        assert [line.split("\t")[0] for line in muster.out.splitlines()] == new[::-1], given
    for wrong in (["--since", "yesterday"], ["--since", "2026-02-01"], ["--label", "team"]):
        assert muster("ls", *wrong) == ExitCode.USAGE


def test_get_shows_what_is_known(muster: Muster, service: FakeService) -> None:
    request_id = service.add(FAILED, input={"digit": 3})
    assert muster("get", request_id) == 0
    shown = dict(line.split("\t", 1) for line in muster.out.splitlines())
    assert shown["status"] == "failed" and shown["error rank"] == "2" and shown["input"] == '{"digit": 3}'
    assert muster("get", request_id, "--json") == 0 and muster.json()["something_new"] == 1


def test_cancel_prints_the_status(muster: Muster, service: FakeService) -> None:
    request_id = service.add(RUNNING)
    assert muster("cancel", request_id) == 0 and muster.out == f"{request_id}\tcanceled\n"


def test_logs_are_printed_as_they_came_into_a_pipe(muster: Muster, service: FakeService) -> None:
    service.log = lambda rank: f"rank {rank} \x1b[31mred\x1b[0m"
    request_id = service.add(RUNNING)
    assert muster("logs", request_id, "--rank", "1,3", "-n", "7") == 0
    assert muster.out == "rank 1,3 \x1b[31mred\x1b[0m\n"
    assert dict(service.seen[-1].url.params) == {"rank": "1,3", "tail": "7"}
    assert muster("logs", request_id, "--json") == 0 and muster.json()["data"] == ["rank 0 \x1b[31mred\x1b[0m"]


def test_logs_follow_prints_every_line_once_over_a_break(muster: Muster, service: FakeService) -> None:
    service.log = lambda rank: f"a {rank}\nb\nhalf a line"
    assert muster("logs", "-f", service.add(RUNNING, SUCCEEDED), "-n", "3", "--rank", "0,2") == 0
    assert muster.out == "[r0] a 0,2\n[r0] b\n[r0] half a line\n" and "still trying" in muster.err
    assert muster("logs", "-f", service.add(SUCCEEDED), "--json") == 0
    assert json.loads(muster.out.splitlines()[0]) == {"rank": 0, "at": "2026-01-01T00:00:00Z", "line": "a 0"}


def test_a_log_with_timestamps_is_that_of_an_ended_request_or_is_followed(muster: Muster, service: FakeService) -> None:
    assert muster("logs", service.add(SUCCEEDED), "--timestamps", "--since", "5m") == 0
    assert muster.out == "2026-01-01T00:00:00Z hello\n" and "since" in service.seen[-1].url.params
    assert muster("logs", service.add(RUNNING), "--timestamps") == ExitCode.USAGE


def test_download_saves_under_safe_names(muster: Muster, service: FakeService, tmp_path: Path) -> None:
    service.outputs = {"../a.gif": b"one", ".._a.gif": b"two", "a\x1b[0m.gif": b"three"}
    assert muster("download", service.add(SUCCEEDED), "-o", "out") == 0
    saved = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert saved == {"_._a.gif": b"one", "_._a-2.gif": b"two", "a_[0m.gif": b"three"}
    assert muster.out.splitlines() == ["out/_._a.gif", "out/_._a-2.gif", "out/a_[0m.gif"]


def test_download_of_an_unknown_name_lists_the_known(muster: Muster, service: FakeService) -> None:
    assert muster("download", service.add(SUCCEEDED), "--name", "x") == ExitCode.NOT_FOUND
    assert "digit.gif" in muster.err


def test_a_broken_download_is_a_failure_of_machines(muster: Muster, service: FakeService, tmp_path: Path) -> None:
    service.promised["digit.gif"] = {"sha256": "0" * 64}
    assert muster("download", service.add(SUCCEEDED)) == ExitCode.INFRA
    assert "sha256" in muster.err and not (tmp_path / "digit.gif").exists()


def test_templates_pools_gangs_and_tokens(muster: Muster, service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nhandler: a.b:C\nranks_per_node: 2\n")
    for arguments, out in (
        (("template", "apply", "mine.yaml", "digits"), "mine\t1\ndigits\t1\n"),
        (("template", "ls"), "digits\t1\t1x4\tinference.samples.digits.handler:Digits\nmine\t1\t1x2\ta.b:C\n"),
        (("template", "rm", "mine"), ""),
        (("pool", "ls"), "digits\tdigits\t0\t1\t10m\t\t1 idle\t\n"),
        (("gang", "ls", "-s", "idle,busy"), f"{GANG}\tidle\tdigits v1\tserve\t1/1\t\t\t\n"),
        (("gang", "drain", GANG), f"{GANG}\tdraining\n"),
        (("gang", "logs", GANG), "hello\n"),
        (("token", "create", "ci", "--scope", "submit,read"), "mst_secret\n"),
        (("token", "ls"), "tok_1\tci\t2026-01-01T00:00:00Z\tnever\tread\n"),
        (("token", "revoke", "tok_1"), ""),
    ):
        assert (muster(*arguments), muster.out) == (0, out), muster.err
    assert muster("template", "show", "digits") == 0 and "ranks_per_node: 4" in muster.out
    (tmp_path / "shown.yaml").write_text(muster.out)
    assert muster("template", "apply", "shown.yaml") == 0
    assert muster("gang", "show", GANG) == 0 and muster.out.endswith("0\tn1\t7\t\tyes\t\n")
    assert muster("pool", "set", "digits", "--min", "1", "--idle-timeout", "5m") == 0
    assert service.bodies("PATCH", "/v1/pools/digits") == [{"min": 1, "idle_timeout_s": 300.0}]


@pytest.mark.parametrize(
    "arguments",
    [
        "template ls", "template show digits", "template apply digits", "template rm digits", "pool ls",
        "pool show digits", "pool set digits --max 2", "gang ls", f"gang show {GANG}", f"gang drain {GANG}",
        f"gang logs {GANG}", "token ls", "token create ci", "token revoke tok_1", "doctor", "ls",
        "get X", "logs X", "wait X", "cancel X", "download X", "submit digits", "--json ls",
    ],
)  # fmt: skip
def test_every_command_answers_in_json(muster: Muster, service: FakeService, arguments: str) -> None:
    service.script = [SUCCEEDED]
    words = arguments.replace("X", service.add()).split()
    assert muster(*words, *([] if "--json" in words else ["--json"])) == 0
    assert isinstance(muster.json(), dict)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(400, "bad_request", "d"), ExitCode.USAGE),
        (problem(401, "unauthorized", "d"), ExitCode.UNAUTHORIZED),
        (problem(403, "forbidden", "d"), ExitCode.UNAUTHORIZED),
        (problem(404, "not_found", "d"), ExitCode.NOT_FOUND),
        (problem(409, "no_warm_pool", "d"), ExitCode.FAILED),
        (problem(422, "invalid_input", "d"), ExitCode.USAGE),
        (problem(500, "internal", "d"), ExitCode.INFRA),
        (httpx.Response(200, content=b"<html>"), ExitCode.UNREACHABLE),
        (httpx.Response(302, headers={"location": "/login"}), ExitCode.UNREACHABLE),
    ],
)
def test_what_the_service_refuses_is_an_exit_code_and_a_document(
    muster: Muster, service: FakeService, answer: httpx.Response, code: int
) -> None:
    service.answers = [answer]
    assert muster("get", "req_1", "--json") == code
    assert muster.json()["code"] and muster.err.startswith("muster: ") and len(muster.err.splitlines()) <= 2


def test_a_service_that_is_not_there_is_unreachable(muster: Muster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.client.transport.FIRST_PAUSE_S", 0.0)
    assert muster("ls", "--url", "http://127.0.0.1:9") == ExitCode.UNREACHABLE
    monkeypatch.delenv("MUSTER_URL")
    assert muster("ls") == ExitCode.UNREACHABLE and "muster up" in muster.err


def test_doctor_finds_what_is_wrong(muster: Muster, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    assert muster("doctor") == 0
    assert {line.split("\t")[0] for line in muster.out.splitlines()} == {
        "service", "database", "token", "version", "pools",
        "local file", "home", "postgres", "torch", "disk", "shared memory",
    }  # fmt: skip
    service.ready = False
    assert muster("doctor") == ExitCode.UNREACHABLE and "database down" in muster.out
    service.ready = True
    monkeypatch.setenv("MUSTER_TOKEN", "wrong")
    assert muster("doctor") == ExitCode.UNAUTHORIZED and "token\tfail" in muster.out
    assert muster("doctor", "--url", "http://127.0.0.1:9") == ExitCode.UNREACHABLE
    assert "torch\tok" in muster.out, "the machine is looked at even when the service is away"


def test_doctor_says_for_each_namespace_of_gangs_whether_any_can_be_launched_there(
    muster: Muster, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = BackendError("The namespace team-a does not let Muster in", code="namespace_gone")
    monkeypatch.setattr("orchestrator.place.inspect", lambda settings: iter([("shared", None), ("team-a", shut)]))
    monkeypatch.setenv("MUSTER_BACKEND", "kubeflow")
    monkeypatch.setenv("MUSTER_NAMESPACE", "shared")
    assert muster("doctor", "--json") == ExitCode.INFRA
    found = {one["found"]: one for one in muster.json()["data"] if one["check"] == "namespace"}
    assert found["shared takes gangs of all other tenants"]["level"] == "ok"
    bad = found["The namespace team-a does not let Muster in"]
    assert (bad["level"], bad["remedy"].split(",")[0]) == ("fail", "deploy/team.sh team-a")


def test_doctor_warns_of_a_token_that_others_can_read(muster: Muster, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "local.json").write_text("{}")
    (tmp_path / "home" / "local.json").chmod(0o644)
    muster("doctor", "--json")
    (found,) = [one for one in muster.json()["data"] if one["check"] == "local file"]
    assert found["level"] == "warn" and found["remedy"].startswith("chmod 600")


def test_migrate_needs_a_database(muster: Muster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSTER_DATABASE_URL", raising=False)
    assert muster("migrate") == ExitCode.USAGE and "MUSTER_DATABASE_URL" in muster.err


def test_render_prints_what_a_shipped_template_becomes_on_kubernetes(muster: Muster, service: FakeService) -> None:
    assert muster("template", "render", "wan21-t2v-14b-2x8", "--mode", "serve", "--namespace", "team-a") == 0
    job, secret, budget = yaml.safe_load_all(muster.out)
    assert (job["kind"], secret["kind"], budget["kind"]) == ("PyTorchJob", "Secret", "PodDisruptionBudget")
    assert {one["metadata"]["namespace"] for one in (job, secret, budget)} == {"team-a"}
    assert not service.requests


def test_render_of_a_batch_gang_has_no_disruption_budget(muster: Muster) -> None:
    assert muster("template", "render", "echo", "--image", "echo:1", "--mode", "batch", "--json") == 0
    assert [one["kind"] for one in muster.json()["data"]] == ["PyTorchJob", "Secret"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nhandler: a:B\n", "no `image`"),
        ("name: x\nhandler: a:B\nimage: i\npod: {host_path: /}\n", "/pod/host_path"),
        (
            "name: x\nhandler: a:B\nimage: i\nranks_per_node: 3\ngeometry: [{product: [8], equals: world}]\n",
            "/geometry",
        ),
    ],
)
def test_render_refuses_what_could_not_run_and_says_where(muster: Muster, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    assert muster("template", "render", "t.yaml") == ExitCode.USAGE
    assert said in muster.err and not muster.out
