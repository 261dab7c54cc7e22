"""Steps of Kubeflow Pipelines against a real service: what they hand on, how they fail, die and are cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from stage import PATIENT, Up, until

REPOSITORY = Path(__file__).parents[2]
PIPELINES = REPOSITORY / "deploy" / "pipelines"
CHECKS = Path(__file__).parent / "stage" / "pipelines" / "kfp_checks.py"
HOOKS: dict[str, Any] = {"write": "drawn"}


class Step:
    """One run of a step, as the launcher of Kubeflow Pipelines starts it."""

    def __init__(self, service: Up, folder: Path, kind: str = "request", **parameters: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.answer = folder, folder / f"{uuid4().hex}.json"
        given = {"url": service.replica.url, "template": PATIENT, "run_id": "run", "task": folder.name, **parameters}
        artifact = {"name": "outputs", "uri": str(folder / "artifact"), "type": {"schemaTitle": "system.Artifact"}}
        name = {"request": "outputs", "batch": "results"}[kind]
        said = {
            "inputs": {"parameterValues": given},
            "outputs": {"outputFile": str(self.answer), "artifacts": {name: {"artifacts": [artifact]}}},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.client.pipeline", kind, "--executor-input", json.dumps(said)],
            env={**os.environ, "MUSTER_TOKEN": token_of(service), "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        _, words = self.process.communicate(timeout=60)
        return self.process.returncode, words

    def said(self) -> dict[str, Any]:
        return dict(json.loads(self.answer.read_text()))


@cache
def token_of(service: Up) -> str:
    """What docs/pipelines.md says that a step needs."""
    made = service.client.create_token(f"kfp-{uuid4().hex[:8]}", ["submit", "read"])
    assert made.token
    return made.token


def requests_of(service: Up, task: Path) -> list[Any]:
    """Those that carry the test's label, oldest first."""
    return list(service.client.iterate(labels={"test": task.name}))[::-1]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return tmp_path / uuid4().hex[:12]


def labels(task: Path) -> dict[str, str]:
    return {"test": task.name}


def test_a_step_hands_on_ids_result_and_files(service: Up, task: Path) -> None:
    step = Step(service, task, input={"text": "hi", "hooks": HOOKS}, labels=labels(task))
    code, words = step.end()
    assert code == 0, words
    (request,) = requests_of(service, task)
    given = step.said()["parameterValues"]
    assert given["request_id"] == request.id and given["result"]["text"] == "hi"
    gangs = {gang.id: gang.name for gang in service.client.gangs()}
    assert given["gang"] == gangs[request.placement.gang]
    (artifact,) = step.said()["artifacts"]["outputs"]["artifacts"]
    assert (task / "artifact" / "echo.txt").read_text() == "drawn"
    (file,) = artifact["metadata"]["files"]
    assert (file["name"], file["bytes"], len(file["sha256"])) == ("echo.txt", 5, 64)
    assert artifact["uri"] == str(task / "artifact") and request.id in artifact["metadata"]["muster_url"]


@pytest.mark.long
def test_files_may_stay_where_they_are(service: Up, task: Path) -> None:
    step = Step(service, task, input={"hooks": HOOKS}, labels=labels(task), copy_outputs=False)
    assert step.end()[0] == 0
    (artifact,) = step.said()["artifacts"]["outputs"]["artifacts"]
    assert artifact["uri"] == artifact["metadata"]["muster_url"] and not (task / "artifact").exists()


@pytest.mark.long
def test_a_failing_request_fails_the_step_with_its_cause_and_a_new_try_of_the_step_tries_it_again(
    service: Up, task: Path
) -> None:
    asked = {"input": {"hooks": {"raise_on_rank": 1}}, "labels": labels(task)}
    step = Step(service, task, **asked)
    code, words = step.end()
    (first,) = requests_of(service, task)
    assert code == 1 and first.id in words and "handler_error" in words and "rank 1" in words
    assert not step.answer.exists()
    assert Step(service, task, **asked).end()[0] == 1
    _, second = requests_of(service, task)
    assert second.retry_of == first.id


def test_a_step_that_dies_finds_its_request_again(service: Up, task: Path) -> None:
    asked = {"input": {"sleep_s": 2, "steps": 20}, "labels": labels(task)}
    step = Step(service, task, **asked)
    (request,) = until(lambda: requests_of(service, task), "the request is there")
    step.process.kill()
    step.end()
    again = Step(service, task, **asked)
    code, words = again.end()
    assert code == 0, words
    assert (
        [one.id for one in requests_of(service, task)]
        == [request.id]
        == [again.said()["parameterValues"]["request_id"]]
    )
    done = Step(service, task, **asked)
    assert done.end()[0] == 0 and done.said()["parameterValues"]["request_id"] == request.id


def test_sigterm_cancels_the_request_and_the_next_try_begins_anew(service: Up, task: Path) -> None:
    asked = {"input": {"sleep_s": 60, "steps": 600}, "labels": labels(task)}
    step = Step(service, task, **asked)
    (request,) = until(lambda: requests_of(service, task), "the request is there")
    service.running(request.id)
    step.process.send_signal(signal.SIGTERM)
    code, words = step.end()
    assert code == 143 and f"canceling {request.id}" in words
    assert service.done(request.id).status == "canceled" and not step.answer.exists()
    again = Step(service, task, **asked)
    first, second = until(lambda: len(found := requests_of(service, task)) == 2 and found, "it is asked for again")
    assert (first.id, second.retry_of) == (request.id, request.id)
    again.process.send_signal(signal.SIGTERM)
    assert again.end()[0] == 143


@pytest.mark.long
def test_a_step_that_is_told_nonsense_says_what_is_wrong(service: Up, task: Path) -> None:
    for parameters, word in (
        ({"run_id": ""}, "no_run_id"),
        ({"template": "nothing"}, "unknown_template"),
        ({"input": {"steps": -1}}, "/input/steps"),
        ({"url": "http://127.0.0.1:1"}, "unreachable"),
    ):
        code, words = Step(service, task, **parameters).end()
        assert code == 1 and word in words and "Traceback" not in words, words


@pytest.mark.long
def test_a_batch_hands_on_its_results_and_its_step_is_found_again(service: Up, task: Path) -> None:
    items = [{"custom_id": f"i-{n}", "input": {"text": f"t{n}"}} for n in range(3)]
    asked = {"items": items, "labels": labels(task)}
    step = Step(service, task, "batch", **asked)
    code, words = step.end()
    assert code == 0, words
    given = step.said()["parameterValues"]
    assert given["outcome"] == "all_succeeded" and given["counts"]["succeeded"] == 3
    lines = [json.loads(line) for line in (task / "artifact").read_text().splitlines()]
    assert sorted(line["custom_id"] for line in lines) == ["i-0", "i-1", "i-2"]
    again = Step(service, task, "batch", **asked)
    assert again.end()[0] == 0 and again.said()["parameterValues"]["batch_id"] == given["batch_id"]


@pytest.mark.long
def test_a_batch_that_succeeds_in_part_fails_the_step_unless_that_is_allowed(service: Up, task: Path) -> None:
    items = [{"custom_id": "good", "input": {}}, {"custom_id": "bad", "input": {"hooks": {"raise_on_rank": 0}}}]
    code, words = Step(service, task, "batch", items=items).end()
    assert code == 1 and "1 of 2 items succeeded" in words
    step = Step(service, task, "batch", items=items, allow_partial=True)
    assert step.end()[0] == 0 and step.said()["parameterValues"]["outcome"] == "partial"


@pytest.mark.long
def test_sigterm_cancels_a_batch(service: Up, task: Path) -> None:
    items = [{"custom_id": "long", "input": {"sleep_s": 60, "steps": 600}}]
    step = Step(service, task, "batch", items=items, labels=labels(task))
    (batch,) = until(lambda: _batches(service, task), "the batch is there")
    step.process.send_signal(signal.SIGTERM)
    assert step.end()[0] == 143
    until(lambda: service.client.batches.get(batch.id).status == "canceled", "it is canceled")


def _batches(service: Up, task: Path) -> list[Any]:
    return [one for one in service.client.batches.list().data if (one.labels or {}).get("test") == task.name]


# --------------------------------------------------------------------------------------------------------- with kfp


@pytest.fixture(scope="session")
def kfp() -> str:
    """A Python that has kfp and docker (the client), and not Muster."""
    python = os.environ.get("MUSTER_KFP_PYTHON")
    if not python:
        pytest.skip("NOT RUN: components with kfp; set MUSTER_KFP_PYTHON to a Python with `pip install kfp docker`")
    return python


def with_kfp(kfp: str, *arguments: str, **variables: str) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MUSTER_SERVICE_IMAGE")
    }
    done = subprocess.run(
        [kfp, str(CHECKS), *arguments],
        env={**environment, "PIPELINES": str(PIPELINES), **variables},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(path: Path) -> list[Any]:
    """Without what changes with the version of kfp."""
    found = list(yaml.safe_load_all(path.read_text()))
    found[0].pop("sdkVersion")
    return found


def test_the_committed_components_are_those_that_kfp_compiles(kfp: str, tmp_path: Path) -> None:
    with_kfp(kfp, "compile", str(tmp_path))
    for name in ("muster-request.yaml", "muster-batch.yaml"):
        assert documents(PIPELINES / name) == documents(tmp_path / name), "run deploy/pipelines/components.py"
    (example,) = documents(tmp_path / "example.yaml")
    loop = next(one for name, one in example["components"].items() if name.startswith("comp-for-loop"))
    assert loop["dag"]["tasks"]["muster-request"]["cachingOptions"] == {}


@pytest.fixture
def runner(service: Up, tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {
        "STEP_PYTHON": sys.executable,
        "STEP_PYTHONPATH": str(REPOSITORY),
        "MUSTER_TOKEN": token_of(service),
        "PIPELINE_ROOT": str(tmp_path / "root"),
    }


def gave(words: str) -> dict[str, Any]:
    (line,) = (line for line in words.splitlines() if line.startswith("GAVE "))
    return dict(json.loads(line.removeprefix("GAVE ")))


def test_kfps_own_runner_runs_the_request_and_reads_its_outputs(
    kfp: str, service: Up, task: Path, runner: dict[str, str]
) -> None:
    asked = {
        "template": PATIENT,
        "url": service.replica.url,
        "run_id": task.name,
        "input": {"text": "x", "hooks": HOOKS},
    }
    given = gave(with_kfp(kfp, "run", "request", json.dumps(asked), **runner))
    request = service.client.get(given["request_id"])
    assert request.succeeded and given["result"]["text"] == "x" and given["gang"]
    artifact = given["outputs"]
    assert Path(artifact["path"], "echo.txt").read_text() == "drawn"
    assert artifact["metadata"]["muster_request"] == request.id


def test_kfps_own_runner_runs_the_batch(kfp: str, service: Up, task: Path, runner: dict[str, str]) -> None:
    items = [{"custom_id": "a", "input": {"text": "x"}}]
    asked = {"template": PATIENT, "url": service.replica.url, "run_id": task.name, "items": items}
    given = gave(with_kfp(kfp, "run", "batch", json.dumps(asked), **runner))
    assert given["outcome"] == "all_succeeded" and given["counts"]["total"] == 1
    assert json.loads(Path(given["results"]["path"]).read_text())["custom_id"] == "a"


def test_requests_of_a_loop_are_requests_of_their_own(
    kfp: str, service: Up, task: Path, runner: dict[str, str]
) -> None:
    asked = {"template": PATIENT, "url": service.replica.url, "texts": ["a", "b"], "labels": labels(task)}
    with_kfp(kfp, "loop", json.dumps(asked), **runner)
    assert sorted(one.input["text"] for one in requests_of(service, task)) == ["a", "b"]
