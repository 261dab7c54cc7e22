"""The Kubeflow backend: a gang is a PyTorchJob of one namespace; the training operator makes its pods.

It knows jobs, pods, and in which order things are made and removed. It must not know manifests (they are given to it),
Postgres, or requests. What it does with what goes wrong: docs/backends.md.

Launch is: the job, under a name that is never used twice; then its Secret, which its pods wait for; then its disruption
budget. A process that dies in between, or a call whose answer is lost, is healed by the next launch() of the same gang:
what is there is adopted, what is missing is made. Both belong to the job and go with it.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from orchestrator.backends.base import LOG_TAIL_BYTES, Failed, Launched, LaunchSpec, Observed, Phase, Story
from orchestrator.backends.kubeflow_events import Obstacles
from orchestrator.backends.kubeflow_judge import judge, to_blame
from orchestrator.backends.kubeflow_leaving import Leaving
from orchestrator.backends.kubeflow_names import (
    CONTAINER,
    GANG,
    INSTALLATION,
    JOB_NAME,
    JOBS,
    MANAGED_BY,
    Json,
    job_of,
    labels_of,
    name_of,
    nodes_of,
    path,
    place_name,
    uid_of,
)
from orchestrator.backends.kubeflow_shut import let_in
from orchestrator.backends.kubeflow_telling import Telling
from orchestrator.backends.kubeflow_view import Watched
from orchestrator.backends.kubeflow_wall import Kube, Refused
from orchestrator.backends.local_torchrun import root_cause, words_of_ranks
from orchestrator.errors import BackendError

log = logging.getLogger("muster.kubeflow")

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_SHORTEST_LOG_LINE = 8  # bytes; how many lines to ask for, to have enough of them


class Manifests(Protocol):
    """Makes the objects of a gang, as plain dicts. Raises BackendError "rejected" for what can be no gang."""

    def job(self, spec: LaunchSpec) -> Json: ...

    def token_secret(self, spec: LaunchSpec, owner_uid: str) -> Json: ...

    def disruption_budget(self, spec: LaunchSpec, owner_uid: str) -> Json | None: ...


class KubeflowBackend:
    """Of one namespace. Watches begin with the first question."""

    def __init__(
        self,
        manifests: Manifests,
        *,
        namespace: str,
        installation: str,
        kube: Kube,
        resync: timedelta = timedelta(seconds=60),
    ) -> None:
        """`kube` may be that of other namespaces, too."""
        self.name = place_name(namespace, installation)
        self._manifests = manifests
        self._namespace = namespace
        self._kube = kube
        self._ours = f"{MANAGED_BY}=muster,{INSTALLATION}={installation}"
        self._installation = installation
        self._jobs = Watched(self._kube, path("pytorchjobs", namespace), self._ours, resync)
        self._pods = Watched(self._kube, path("pods", namespace), f"{self._ours},{JOB_NAME}", resync)
        self._leaving = Leaving(self._kube, namespace, self._jobs, self._pods)
        self._obstacles = Obstacles(self._kube, namespace)
        self._telling = Telling(self._kube, namespace, self._jobs)
        self._causes: dict[str, Failed | None] = {}  # UID of the job -> who failed first
        self._budget_version: str | None = None
        self._guard = threading.Lock()
        self._watching = False

    def check(self) -> None:
        """Whether gangs can be run here at all. Raises BackendError that says what to do."""
        try:
            served = self._kube.call("GET", JOBS)
        except Refused as refused:
            if refused.status != 404:
                raise
            served = {"resources": []}
        if not any(kind["name"] == "pytorchjobs" for kind in served["resources"]):
            words = "This cluster serves no PyTorchJobs: install the Kubeflow training operator v1 (docs/kubeflow.md)."
            raise BackendError(words, code="no_pytorchjobs")
        with let_in(self._kube, self._namespace):
            self._kube.call("GET", path("pytorchjobs", self._namespace), query={"limit": 1})

    def launch(self, spec: LaunchSpec) -> Launched:
        if not _NAME.fullmatch(spec.name):
            words = f"{spec.name!r} cannot name a gang: use a letter and up to 39 of a-z, 0-9 and -."
            raise BackendError(words, code="bad_name")
        with let_in(self._kube, self._namespace):
            return self._launch(spec)

    def rehearse(self, spec: LaunchSpec) -> None:
        """The server's word on the job: schema, webhooks, policies. Pods are judged when they are made."""
        job = self._manifests.job(spec)
        try:
            with let_in(self._kube, self._namespace):
                self._kube.call("POST", path("pytorchjobs", self._namespace), job, {"dryRun": "All"})
        except Refused as refused:
            if "does not support dry run" not in refused.message:
                raise

    def observe(self) -> tuple[Observed, ...]:
        self._begin_to_watch()
        with let_in(self._kube, self._namespace):
            return self._observe()

    def look(self, name: str) -> Observed | None:
        """From the watches while they show something of it; only its absence is asked for."""
        if not _NAME.fullmatch(name):
            return None
        job, pods = self._leaving.seen(name)
        if not job and not pods:
            with let_in(self._kube, self._namespace):
                job, pods = self._leaving.found(name)
        job = job if job is not None and self._is_ours(job) else None
        if not job and not pods:
            self._leaving.forget(name)
            return None
        return self._observed(name, job, pods)

    def stop(self, name: str, grace: timedelta) -> None:
        grace_s = max(1, math.ceil(grace.total_seconds()))
        if not _NAME.fullmatch(name) or self._leaving.is_under_way(name, grace_s):
            return
        with let_in(self._kube, self._namespace):
            job, pods = self._leaving.found(name)
            if job is None or self._is_ours(job):
                self._leaving.begin(name, job, pods, grace_s)

    def logs(self, name: str, *, node: int = 0, tail_bytes: int = LOG_TAIL_BYTES) -> str:
        unknown = BackendError(f"No gang {name!r} with a node {node} runs here; see observe().", code="not_found")
        if not _NAME.fullmatch(name) or node < 0:
            raise unknown
        asked = {"container": CONTAINER, "tailLines": max(1, tail_bytes // _SHORTEST_LOG_LINE)}
        try:
            pod = path("pods", self._namespace, f"{name}-worker-{node}")
            return self._kube.read(f"{pod}/log", asked, tail_bytes).decode(errors="replace")
        except Refused as refused:
            if refused.status == 400:  # its container has not begun to write
                return ""
            if refused.status != 404:
                raise
        job = self._job(name)
        if job is None or not self._is_ours(job) or node >= nodes_of(job):
            raise unknown
        return ""  # the operator has not made the pod yet

    def tell(self, story: Story) -> None:
        self._begin_to_watch()
        self._telling.tell(story)

    def close(self) -> None:
        with self._guard:
            watching, self._watching = self._watching, False
        if watching:
            self._jobs.close()
            self._pods.close()
        self._kube.close()

    # launching

    def _launch(self, spec: LaunchSpec) -> Launched:
        job = self._manifests.job(spec)
        try:
            made, adopted = self._kube.call("POST", path("pytorchjobs", self._namespace), job), False
        except Refused as refused:
            if refused.code != "conflict":
                raise
            made, adopted = self._adopted(spec), True
        self._jobs.absorb(made)
        self._make_belongings(spec, uid_of(made))
        return Launched(ref=uid_of(made), adopted=adopted)

    def _adopted(self, spec: LaunchSpec) -> Json:
        """What has the name, if it is the same gang's."""
        found = self._job(spec.name)
        if found is None:
            words = f"{spec.name} was there and is gone; it is tried again."
            raise BackendError(words, code="backend_unavailable")
        if not self._is_ours(found) or labels_of(found).get(GANG) != spec.gang:
            owner = labels_of(found).get(GANG) or "somebody else"
            raise BackendError(f"The name {spec.name} belongs to {owner}.", code="name_taken")
        return found

    def _make_belongings(self, spec: LaunchSpec, owner_uid: str) -> None:
        """A Secret that is there holds an earlier token of the gang, which is as good."""
        self._make("/api/v1", "secrets", self._manifests.token_secret(spec, owner_uid))
        budget = self._manifests.disruption_budget(spec, owner_uid)
        if budget is not None:
            version = self._policy_version()
            self._make(f"/apis/{version}", "poddisruptionbudgets", {**budget, "apiVersion": version})

    def _make(self, group: str, kind: str, body: Json) -> None:
        try:
            self._kube.call("POST", f"{group}/namespaces/{self._namespace}/{kind}", body)
        except Refused as refused:
            if refused.code != "conflict":
                raise

    def _policy_version(self) -> str:
        """policy/v1, or v1beta1 before Kubernetes 1.21."""
        if self._budget_version is None:
            told = self._kube.call("GET", "/apis/policy")
            offered = [version["groupVersion"] for version in told["versions"]]
            self._budget_version = "policy/v1" if "policy/v1" in offered else str(offered[0])
        return self._budget_version

    # looking

    def _observe(self) -> tuple[Observed, ...]:
        jobs = {name_of(job): job for job in self._jobs.all()}
        pods: dict[str, list[Json]] = {}
        for pod in self._pods.all():
            pods.setdefault(job_of(pod), []).append(pod)
        self._remember_only({uid_of(job) for job in jobs.values()})
        for name in pods.keys() - jobs.keys():
            if not self._leaving.was_asked(name) and (job := self._job(name)) is not None:
                jobs[name] = job  # the watch of pods is ahead of that of jobs
        return tuple(self._observed(name, jobs.get(name), pods.get(name, [])) for name in sorted({*jobs, *pods}))

    def _begin_to_watch(self) -> None:
        with self._guard:
            if not self._watching:
                self._watching = True
                self._jobs.start()
                self._pods.start()

    def _remember_only(self, jobs: set[str]) -> None:
        """By UID."""
        self._causes = {uid: cause for uid, cause in self._causes.items() if uid in jobs}
        self._obstacles.remember_only(jobs)

    def _job(self, name: str) -> Json | None:
        try:
            return self._kube.call("GET", path("pytorchjobs", self._namespace, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def _is_ours(self, job: Json) -> bool:
        labels: Mapping[str, str] = labels_of(job)
        return labels.get(MANAGED_BY) == "muster" and labels.get(INSTALLATION) == self._installation

    def _observed(self, name: str, job: Json | None, pods: list[Json]) -> Observed:
        seen = judge(name, job, pods, stopped=self._leaving.was_asked(name), now=datetime.now(UTC))
        match seen.phase:
            case Phase.PENDING if job is not None and seen.reason in (None, "no_pods"):
                return self._obstacles.explain(seen, job, pods)
            case Phase.RUNNING if job is not None:
                return self._obstacles.recall(seen, job, pods)
            case Phase.FAILED if seen.reason not in ("stopping", "deleted"):
                return replace(seen, failed=self._cause(name, job, pods))
        return seen

    def _cause(self, name: str, job: Json | None, pods: list[Json]) -> Failed | None:
        """Who failed first, from the log of the pod to blame; read once."""
        blame = to_blame(job, pods)
        if job is None or blame is None:
            return None
        if uid_of(job) not in self._causes:
            try:
                words = self.logs(name, node=blame.node)
            except BackendError as error:
                log.warning("no log of %s: %s", name, error.message, extra={"action": "logs_refused", "job": name})
                words = ""
            found = root_cause(words)
            told = Failed(node=blame.node, rank=found[0], words=words_of_ranks(words)) if found else None
            self._causes[uid_of(job)] = told
        return self._causes[uid_of(job)]
