#!/usr/bin/env python3
"""Steps of Kubeflow Pipelines that run a request or a batch of Muster. docs/pipelines.md says how to use them.

Needs kfp, in an environment of its own: kfp holds the Kubernetes client below the version that Muster needs. Run this
to write muster-request.yaml and muster-batch.yaml; MUSTER_SERVICE_IMAGE names your image of the service. All that
happens in the step is in that image (`python -m orchestrator.client.pipeline`).
"""

import argparse
import os
from pathlib import Path

from kfp import compiler, dsl

HERE = Path(__file__).parent
IMAGE = os.environ.get("MUSTER_SERVICE_IMAGE", "registry.example.com/muster/service:0.1.0")
STEP = ["python", "-m", "orchestrator.client.pipeline"]
EXECUTOR_INPUT = "{{$}}"
"""What the launcher of Kubeflow Pipelines replaces by all that it knows of the step, as JSON."""


@dsl.container_component
def muster_request(
    template: str,
    run_id: str,
    request_id: dsl.OutputPath(str),
    gang: dsl.OutputPath(str),
    result: dsl.OutputPath(dict),
    outputs: dsl.Output[dsl.Artifact],
    input: dict = {},
    task: str = "request",
    url: str = "http://muster.muster-system:8380",
    mode: str = "auto",
    priority: int = 0,
    timeout_s: float = 0.0,
    labels: dict = {},
    copy_outputs: bool = True,
):
    """Runs one request of a Muster template and hands on what it gave.

    Args:
        template: Name of the template.
        run_id: dsl.PIPELINE_JOB_ID_PLACEHOLDER. With `task` it is the idempotency key.
        input: The input of the request.
        task: Tells apart steps of one run that ask for the same.
        url: Where the service is. Its token is MUSTER_TOKEN of the pod.
        mode: auto, warm or batch.
        priority: Minutes by which it goes ahead of others.
        timeout_s: Of one attempt; 0 is the template's.
        labels: Labels of the request.
        copy_outputs: Whether its files are copied into the artifact; else the artifact names where they are.
        request_id: ID of the request.
        gang: The gang that it ran on; on Kubeflow the name of a PyTorchJob.
        result: What the handler returned.
        outputs: A folder with the files of the request; its metadata lists them with size and sha256.
    """
    return dsl.ContainerSpec(image=IMAGE, command=STEP, args=["request", "--executor-input", EXECUTOR_INPUT])


@dsl.container_component
def muster_batch(
    template: str,
    run_id: str,
    batch_id: dsl.OutputPath(str),
    outcome: dsl.OutputPath(str),
    counts: dsl.OutputPath(dict),
    results: dsl.Output[dsl.Artifact],
    items: list = [],
    storage_url: str = "",
    task: str = "batch",
    url: str = "http://muster.muster-system:8380",
    max_parallel: int = 0,
    max_failed: str = "",
    priority: int = 0,
    labels: dict = {},
    allow_partial: bool = False,
):
    """Runs a batch of a Muster template and hands on its results as JSON lines.

    Args:
        template: Name of the template.
        run_id: dsl.PIPELINE_JOB_ID_PLACEHOLDER. With `task` it is the idempotency key.
        items: The lines of the batch, each with `custom_id` and `input`.
        storage_url: Instead of items: where the service finds the lines (MUSTER_BATCH_URLS must allow it).
        task: Tells apart steps of one run that ask for the same.
        url: Where the service is. Its token is MUSTER_TOKEN of the pod.
        max_parallel: Gangs at a time; 0 is the template's.
        max_failed: A number or a share as 10%; above it the batch stops.
        priority: Minutes by which it goes ahead of others.
        labels: Labels of the batch.
        allow_partial: Whether the step is good although some items did not succeed.
        batch_id: ID of the batch.
        outcome: all_succeeded, partial or none_succeeded.
        counts: Items by state.
        results: A file of JSON lines, one for each item that succeeded.
    """
    return dsl.ContainerSpec(image=IMAGE, command=STEP, args=["batch", "--executor-input", EXECUTOR_INPUT])


COMPONENTS = {"muster-request.yaml": muster_request, "muster-batch.yaml": muster_batch}


def write(folder: Path) -> None:
    """The compiled components."""
    for name, component in COMPONENTS.items():
        compiler.Compiler().compile(component, str(folder / name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write the compiled components")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    write(parser.parse_args().folder)
