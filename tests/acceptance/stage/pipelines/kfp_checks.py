"""Runs in an environment with kfp, without Muster: compiles the components, and runs them as kfp's local runner does.

Of that runner only the container engine is replaced: what it would start in an image, it starts with STEP_PYTHON here.
It makes the input of the executor, resolves placeholders and reads outputs by itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from kfp import components, dsl, local
from kfp.local import docker_task_handler, status


class Here(docker_task_handler.DockerTaskHandler):
    def run(self):
        assert self.full_command[0] == "python", self.full_command
        environment = {**os.environ, "PYTHONPATH": os.environ["STEP_PYTHONPATH"]}
        done = subprocess.run([os.environ["STEP_PYTHON"], *self.full_command[1:]], env=environment, timeout=120)
        return status.Status.SUCCESS if done.returncode == 0 else status.Status.FAILURE


def compiled(folder: str) -> None:
    """The components and the example, anew."""
    sys.path.insert(0, os.environ["PIPELINES"])
    import components as ours
    import example
    from kfp import compiler

    ours.write(Path(folder))
    compiler.Compiler().compile(example.digits, str(Path(folder) / "example.yaml"))


def prepared(kind: str):
    """The component, as users load it; and the runner."""
    from kfp.local import task_dispatcher

    task_dispatcher.docker_task_handler.DockerTaskHandler = Here
    local.init(runner=local.DockerRunner(), pipeline_root=os.environ["PIPELINE_ROOT"], raise_on_error=False)
    return components.load_component_from_file(f"{os.environ['PIPELINES']}/muster-{kind}.yaml")


def run(kind: str, given: str) -> None:
    """One component; prints what it gave."""
    show(prepared(kind)(**json.loads(given)).outputs)


def loop(given: str) -> None:
    """Requests in a ParallelFor, each with its own digit in its input, and the run's ID from the runner."""
    draw, parameters = prepared("request"), json.loads(given)

    @dsl.pipeline(name="drawn")
    def drawn() -> list:
        with dsl.ParallelFor(parameters.pop("texts")) as text:
            task = draw(input={"text": text}, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **parameters)
            task.set_caching_options(False)
        return dsl.Collected(task.outputs["request_id"])

    show(drawn().outputs)


def show(outputs) -> None:
    shown = {
        name: {"path": value.path, "uri": value.uri, "metadata": value.metadata, "type": type(value).__name__}
        if isinstance(value, dsl.Artifact)
        else value
        for name, value in outputs.items()
    }
    print("GAVE " + json.dumps(shown))


if __name__ == "__main__":
    {"compile": compiled, "run": run, "loop": loop}[sys.argv[1]](*sys.argv[2:])
