"""What Kubeflow Pipelines says to a step is read as it is meant, and told what it can read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client.pipeline import key_of
from orchestrator.client.pipeline_words import Step
from orchestrator.errors import Invalid


def said(tmp_path: Path, uri: str = "minio://mlpipeline/a/outputs", **parameters: Any) -> str:
    outputs = {
        "outputFile": str(tmp_path / "deep" / "output_metadata.json"),
        "artifacts": {"outputs": {"artifacts": [{"name": "outputs", "uri": uri, "type": {}}]}},
    }
    return json.dumps({"inputs": {"parameterValues": parameters}, "outputs": outputs})


def test_whole_numbers_are_whole_and_references_within_values_are_resolved(tmp_path: Path) -> None:
    item = "{{$.inputs.parameters['loop-item']}}"
    step = Step.read(
        said(
            tmp_path,
            **{
                "loop-item": 3.0,
                "input": {"digit": item, "name": f"d-{item}", "deep": [1.5, {"n": 2.0}]},
                "run_id": "r",
            },
        )
    )
    assert step.parameters["input"] == {"digit": 3, "name": "d-3", "deep": [1.5, {"n": 2}]}
    assert isinstance(step.parameters["input"]["digit"], int)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://mlpipeline/a", "/minio/mlpipeline/a"),
        ("s3://b/a", "/s3/b/a"),
        ("gs://b/a", "/gcs/b/a"),
        ("/local/a", "/local/a"),
    ],
)
def test_files_go_where_the_launcher_looks_for_them(tmp_path: Path, uri: str, path: str) -> None:
    assert Step.read(said(tmp_path, uri)).path("outputs") == Path(path)


def test_the_answer_is_an_executor_output(tmp_path: Path) -> None:
    step = Step.read(said(tmp_path))
    step.give(request_id="req_1", result={"a": 1})
    step.describe("outputs", {"files": []})
    step.write()
    artifact = {"name": "outputs", "uri": "minio://mlpipeline/a/outputs", "metadata": {"files": []}}
    assert json.loads(step.answer.read_text()) == {
        "parameterValues": {"request_id": "req_1", "result": {"a": 1}},
        "artifacts": {"outputs": {"artifacts": [artifact]}},
    }


@pytest.mark.parametrize("text", ["", "{{$}}", "[]", "{}", '{"outputs": {}}', '{"outputs": 3}'])
def test_what_is_no_executor_input_is_refused_with_what_to_pass(text: str) -> None:
    with pytest.raises(Invalid, match=re.escape("pass '{{$}}'")):
        Step.read(text)


def test_the_key_is_of_the_run_the_task_and_what_is_asked_for() -> None:
    given = {"run_id": "r", "task": "t", "template": "digits"}
    key = key_of(given, {"input": {"a": 1, "b": 2}})
    assert key == key_of(given, {"input": {"b": 2, "a": 1}})
    for other in ({"run_id": "r2"}, {"task": "u"}, {"template": "x"}):
        assert key_of({**given, **other}, {"input": {"a": 1, "b": 2}}) != key
    assert key_of(given, {"input": {"a": 2}}) != key


@pytest.mark.parametrize("run", [None, "", "{{$.pipeline_job_uuid}}"])
def test_without_a_run_there_is_no_key(run: str | None) -> None:
    with pytest.raises(Invalid, match="PIPELINE_JOB_ID_PLACEHOLDER"):
        key_of({"run_id": run, "task": "t"}, {})
