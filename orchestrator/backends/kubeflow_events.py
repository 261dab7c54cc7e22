"""What holds up a gang that does not start, where only events tell: pods that cannot be made, volumes that do not come.

It reads events of one job or pod at a time, seldom. It must not know the phases of a gang.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from orchestrator.backends.base import Observed
from orchestrator.backends.kubeflow_judge import is_creating
from orchestrator.backends.kubeflow_names import Json, node_of, nodes_of, path, uid_of
from orchestrator.backends.kubeflow_wall import Kube
from orchestrator.errors import BackendError

FIRST_ASKED_AFTER_S = 2.0
ASKED_AGAIN_AFTER_S = 5.0

_REASONS = {
    "FailedCreatePod": "create_pod",
    "FailedCreateService": "create_service",
    "FailedMount": "mount",
    "FailedAttachVolume": "mount",
    "FailedCreatePodSandBox": "sandbox",
}


@dataclass(kw_only=True)
class _Known:
    since: float
    asked_at: float = 0.0
    reason: str | None = None
    detail: str | None = None


class Obstacles:
    """Remembers what was told, so that many looks cost few questions."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._known: dict[str, _Known] = {}

    def explain(self, seen: Observed, job: Json, pods: Sequence[Json]) -> Observed:
        """The same, with what events say, if they say something."""
        known = self._known.setdefault(uid_of(job), _Known(since=time.monotonic()))
        now = time.monotonic()
        if now - known.since > FIRST_ASKED_AFTER_S and now - known.asked_at > ASKED_AGAIN_AFTER_S:
            known.asked_at = now
            known.reason, known.detail = self._ask(job, pods)
        if known.reason is not None:
            return replace(seen, reason=known.reason, detail=known.detail)
        return seen if job.get("status") or now - known.since < 60 else _silent(seen)

    def remember_only(self, jobs: set[str]) -> None:
        """By UID."""
        self._known = {uid: known for uid, known in self._known.items() if uid in jobs}

    def _ask(self, job: Json, pods: Sequence[Json]) -> tuple[str | None, str | None]:
        creating = [pod for pod in pods if is_creating(pod)]
        subjects = [job] if len(pods) < nodes_of(job) else creating
        for subject in subjects[:2]:
            worst = _newest(self._events(subject))
            if worst is not None:
                who = "The operator" if subject is job else f"node {node_of(subject)}"
                return _REASONS[worst["reason"]], f"{who}: {worst['reason']}: {worst.get('message', '')}"[:800]
        return None, None

    def _events(self, subject: Json) -> list[Json]:
        query = {"fieldSelector": f"involvedObject.uid={uid_of(subject)}", "limit": 100}
        try:
            return list(self._kube.call("GET", path("events", self._namespace), query=query)["items"])
        except BackendError:
            return []  # a reason less; the phase is known all the same


def _newest(events: Iterable[Json]) -> Json | None:
    telling = [event for event in events if event.get("reason") in _REASONS]
    return max(telling, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)


def _silent(seen: Observed) -> Observed:
    detail = "The training operator has said nothing of the PyTorchJob for a minute: does it run?"
    return replace(seen, reason="operator_silent", detail=detail)
