"""The names that job_templates writes and the backend reads: two rooms that do not know each other."""

from __future__ import annotations

from job_templates import gang, pytorchjob
from orchestrator.backends import kubeflow_names as read


def test_what_is_written_on_objects_is_what_is_read_from_them() -> None:
    assert (read.MANAGED_BY, read.INSTALLATION) == (gang.LABEL_MANAGED_BY, gang.LABEL_INSTALLATION)
    assert (read.GANG, read.MODE) == (gang.LABEL_GANG, gang.LABEL_MODE)
    assert (read.JOB_NAME, read.REPLICA_INDEX) == (gang.LABEL_JOB_NAME, gang.LABEL_REPLICA_INDEX)
    assert read.CONTAINER == gang.CONTAINER
    assert read.path("pytorchjobs", "team").startswith(f"/apis/{pytorchjob.API_VERSION}/")
    assert gang.MANAGED_BY == "muster"
