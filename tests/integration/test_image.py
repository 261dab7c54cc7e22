"""Where gangs are pods a template needs an image, its own or the installation's, and hears so when it is registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replica import replica

from orchestrator.backends.base import LaunchSpec
from orchestrator.domain.template import Template
from orchestrator.errors import BackendError
from orchestrator.place import PyTorchJobs
from orchestrator.store.database import Database

ECHO = {"name": "echo", "handler": "inference.samples.echo:Echo"}


@pytest.mark.parametrize(
    ("settings", "change", "status"),
    [
        ({"backend": "kubeflow"}, {}, 422),
        ({"backend": "kubeflow"}, {"image": "echo:1"}, 200),
        ({"backend": "kubeflow", "image": "worker:1"}, {}, 200),
        ({"backend": "local"}, {}, 200),
    ],
)
def test_a_template_without_an_image_is_refused_where_nobody_names_one(
    database: Database, tmp_path: Path, settings: dict[str, Any], change: dict[str, Any], status: int
) -> None:
    with replica(database, tmp_path, **settings) as here:
        answer = here.caller().put("/v1/templates/echo", json=ECHO | change)
        assert answer.status_code == status, answer.text
        if status == 422:
            assert answer.json()["errors"][0]["pointer"] == "/image"


def image_of(of_the_installation: str | None, **change: Any) -> str:
    spec = LaunchSpec(
        gang="gng_1",
        name="m-s-echo",
        mode="serve",
        nodes=1,
        ranks_per_node=1,
        api_urls=("http://x",),
        token="t",
        template=Template.model_validate(ECHO | change).spec,
    )
    jobs = PyTorchJobs(namespace="gangs", installation="muster", image=of_the_installation)
    worker = jobs.job(spec)["spec"]["pytorchReplicaSpecs"]["Worker"]
    return str(worker["template"]["spec"]["containers"][0]["image"])


def test_the_image_of_the_installation_is_that_of_templates_without_one() -> None:
    assert image_of("worker:1") == "worker:1"
    assert image_of("worker:1", image="echo:1") == "echo:1"
    with pytest.raises(BackendError, match="no `image`"):
        image_of(None)
