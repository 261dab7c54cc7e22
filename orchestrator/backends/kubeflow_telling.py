"""What gangs do, said where `kubectl describe` and the dashboard look: annotations and events of the job.

Annotations say what is so now, events what happened. Nothing reads them back to decide anything; a heartbeat in them
would conflict with the operator's own writes. It knows stories and jobs; it must not know where the stories come from.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from datetime import UTC, datetime

from orchestrator.backends.base import Story
from orchestrator.backends.kubeflow_names import Json, name_of, path, uid_of
from orchestrator.backends.kubeflow_view import Watched
from orchestrator.backends.kubeflow_wall import Kube, Refused
from orchestrator.errors import BackendError

log = logging.getLogger("muster.kubeflow")

STATE, REQUEST, SERVED = "muster/state", "muster/request", "muster/served"
STATE_EVERY_S = 5.0
FIGURES_EVERY_S = 60.0
"""How often one gang's annotations change, where its state does, and where only its request or count does."""
WRITES_PER_S = 5.0
"""Of all gangs together. Who comes too late is told at the next pass."""
MOST_REMEMBERED = 10_000

_MOVES = {
    "launching": ("GangLaunched", "Its PyTorchJob was made."),
    "loading": ("GangLoading", "Rank 0 said hello; the handler is set up."),
    "ready": ("GangReady", "All its ranks are ready for work."),
    "draining": ("GangDraining", "It takes no new work."),
    "gone": ("GangEnded", "It is not wanted any more."),
}


class Telling:
    """Writes what differs from what the job shows."""

    def __init__(self, kube: Kube, namespace: str, jobs: Watched) -> None:
        self._kube = kube
        self._namespace = namespace
        self._jobs = jobs
        self._told_at: dict[str, float] = {}
        self._events: dict[str, None] = {}  # names of those that are there, oldest first
        self._writes: deque[float] = deque(maxlen=int(WRITES_PER_S))

    def tell(self, story: Story) -> None:
        try:
            job = next((job for job in self._jobs.peek() or () if name_of(job) == story.name), None)
            if job is not None:
                self._happened(story, job)
                self._is_so(story, job)
        except BackendError as error:  # nobody depends on it, and the next pass tells again
            said = {"action": "tell_refused", "job": story.name}
            log.info("not told of %s: %s", story.name, error.message, extra=said)

    def _is_so(self, story: Story, job: Json) -> None:
        shown = job["metadata"].get("annotations") or {}
        wanted = {STATE: story.state, SERVED: str(story.served), REQUEST: story.serving}
        differs = {key: value for key, value in wanted.items() if shown.get(key) != value}
        every_s = STATE_EVERY_S if _stage(str(shown.get(STATE))) != _stage(story.state) else FIGURES_EVERY_S
        now = time.monotonic()
        if story.state == "gone" or not differs or now - self._told_at.get(story.name, -every_s) < every_s:
            return
        if self._may_write():
            self._told_at[story.name] = now
            body = {"metadata": {"uid": uid_of(job), "annotations": differs}}
            self._jobs.absorb(self._kube.call("PATCH", path("pytorchjobs", self._namespace, story.name), body))

    def _happened(self, story: Story, job: Json) -> None:
        """One event per stage and incarnation; replicas give it the same name, so it is there once."""
        stage = _stage(story.state)
        name = f"{story.name}.{stage}-{story.incarnation}"
        if stage not in _MOVES or name in self._events or not self._may_write():
            return
        try:
            self._kube.call("POST", path("events", self._namespace), _event(name, stage, story, job, self._namespace))
        except Refused as refused:
            if refused.status != 409:
                raise
        self._events[name] = None
        for remembered in (self._events, self._told_at):
            while len(remembered) > MOST_REMEMBERED:
                del remembered[next(iter(remembered))]

    def _may_write(self) -> bool:
        now = time.monotonic()
        if len(self._writes) == self._writes.maxlen and now - self._writes[0] < 1.0:
            return False
        self._writes.append(now)
        return True


def _stage(state: str) -> str:
    """Busy and idle come and go with every request: in events they are one stage."""
    return "ready" if state in ("idle", "busy") else state


def _event(name: str, stage: str, story: Story, job: Json, namespace: str) -> Json:
    reason, words = _MOVES[stage]
    message = f"{words} {story.why}" if story.why and stage in ("draining", "gone") else words
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "name": story.name,
            "namespace": namespace,
            "uid": uid_of(job),
        },
        "type": "Warning" if story.went_wrong else "Normal",
        "reason": reason,
        "message": message[:1024],
        "source": {"component": "muster"},
        "reportingComponent": "muster",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
