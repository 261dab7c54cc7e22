"""How a gang leaves Kubernetes: its job first, so that nobody makes its pods anew, then its pods, with our grace.

The garbage collector would give every pod the grace of its manifest; deleting them ourselves gives them ours. A pod
whose machine is lost never confirms its end: a while after its deadline it is struck off, and should it live on, its
incarnation is over. It knows jobs and pods as things that go; it must not know what they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.backends.kubeflow_judge import overdue
from orchestrator.backends.kubeflow_names import JOB_NAME, Json, job_of, leaving, name_of, path, uid_of
from orchestrator.backends.kubeflow_view import Watched
from orchestrator.backends.kubeflow_wall import Kube, Refused

STRUCK_OFF_AFTER = timedelta(seconds=60)
"""After the moment by which a pod had to be gone."""


class Leaving:
    """Repeating any of it is harmless."""

    def __init__(self, kube: Kube, namespace: str, jobs: Watched, pods: Watched) -> None:
        self._kube = kube
        self._namespace = namespace
        self._jobs = jobs
        self._pods = pods
        self._asked: set[str] = set()

    def found(self, name: str) -> tuple[Json | None, list[Json]]:
        """The job and its pods as the server holds them now."""
        try:
            job = self._kube.call("GET", path("pytorchjobs", self._namespace, name))
        except Refused as refused:
            if refused.status != 404:
                raise
            job = None
        query = {"labelSelector": f"{JOB_NAME}={name}"}
        return job, list(self._kube.call("GET", path("pods", self._namespace), query=query)["items"])

    def begin(self, name: str, job: Json | None, pods: Sequence[Json], grace_s: int) -> None:
        if job is None and not pods:
            self.forget(name)
            return
        self._asked.add(name)
        if job is not None:
            self._delete_job(job)
        for pod in pods:
            if not leaving(pod) or _grace_s(pod) > grace_s:
                self._delete_pod(pod, grace_s)
            elif overdue(pod, datetime.now(UTC), STRUCK_OFF_AFTER):
                self._delete_pod(pod, 0)

    def forget(self, name: str) -> None:
        """Nothing of it is left."""
        self._asked.discard(name)

    def is_under_way(self, name: str, grace_s: int) -> bool:
        """Whether all was asked for that can be, as far as the watches tell: nothing is gained by asking again."""
        job, pods = self.seen(name)
        now = datetime.now(UTC)
        return self.was_asked(name) and job is None and bool(pods) and all(_goes(pod, grace_s, now) for pod in pods)

    def seen(self, name: str) -> tuple[Json | None, list[Json]]:
        """The job and its pods as the watches tell, without a call; nothing unless both tell."""
        jobs, pods = self._jobs.peek(), self._pods.peek()
        if jobs is None or pods is None:
            return None, []
        job = next((job for job in jobs if name_of(job) == name), None)
        return job, [pod for pod in pods if job_of(pod) == name]

    def was_asked(self, name: str) -> bool:
        """By this process."""
        return name in self._asked

    def _delete_job(self, job: Json) -> None:
        """This very job: a later one of the same name is somebody else's."""
        options = {"preconditions": {"uid": uid_of(job)}, "propagationPolicy": "Background"}
        self._delete("pytorchjobs", job, options)
        self._jobs.forget(job)

    def _delete_pod(self, pod: Json, grace_s: int) -> None:
        options = {"preconditions": {"uid": uid_of(pod)}, "gracePeriodSeconds": grace_s}
        left = self._delete("pods", pod, options)
        if left is None or left["metadata"].get("deletionGracePeriodSeconds") == 0:
            self._pods.forget(pod)
        else:
            self._pods.absorb(left)

    def _delete(self, kind: str, thing: Json, options: Json) -> Json | None:
        """What is left of it; None: nothing, or not this one."""
        try:
            return self._kube.call("DELETE", path(kind, self._namespace, name_of(thing)), options)
        except Refused as refused:
            if refused.status in (404, 409):
                return None
            raise


def _goes(pod: Json, grace_s: int, now: datetime) -> bool:
    return leaving(pod) and _grace_s(pod) <= grace_s and not overdue(pod, now, STRUCK_OFF_AFTER)


def _grace_s(pod: Json) -> int:
    return int(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
