"""What holds up a gang that does not start, where only events tell: pods that cannot be made, volumes that do not come,
images on their way; and of one that started, what its last node said of the image.

It reads events of one job or pod at a time, seldom. It must not know the phases of a gang.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.backends.base import Observed
from orchestrator.backends.kubeflow_judge import is_creating, last_to_start
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
    "Pulling": "pulling",
}
_PULLED = "Pulled"
_TOOK = re.compile(r" in ([0-9][0-9a-zµ.]*)")
_SIZE = re.compile(r"Image size: ([0-9]{1,18}) bytes")


@dataclass(kw_only=True)
class _Known:
    since: float
    asked_at: float = 0.0
    reason: str | None = None
    detail: str | None = None
    started: datetime | None = None
    word: str | None = None
    """On the image of the node that started last, then."""


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

    def recall(self, seen: Observed, job: Json, pods: Sequence[Json]) -> Observed:
        """The same, with what was said of the image. Asked once, and only of gangs that were seen on their way."""
        known, last = self._known.get(uid_of(job)), last_to_start(pods)
        if known is None or seen.moments is None or seen.moments.started is None or last is None:
            return seen
        if known.started != seen.moments.started:
            known.started, known.word = seen.moments.started, self._word(last)
        return replace(seen, moments=replace(seen.moments, word=known.word))

    def _word(self, pod: Json) -> str | None:
        told = [event for event in self._events(pod) if event.get("reason") == _PULLED]
        return f"node {node_of(pod)}: {_pulled(str(max(told, key=_at).get('message', '')))}" if told else None

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
                what = "" if worst["reason"] == "Pulling" else f"{worst['reason']}: "
                return _REASONS[worst["reason"]], f"{who}: {what}{worst.get('message', '')}"[:800]
        return None, None

    def _events(self, subject: Json) -> list[Json]:
        query = {"fieldSelector": f"involvedObject.uid={uid_of(subject)}", "limit": 100}
        try:
            return list(self._kube.call("GET", path("events", self._namespace), query=query)["items"])
        except BackendError:
            return []  # a reason less; the phase is known all the same


def _newest(events: Iterable[Json]) -> Json | None:
    """None, too, where the last word is that the image came."""
    telling = [event for event in events if event.get("reason") in _REASONS or event.get("reason") == _PULLED]
    last = max(telling, key=lambda event: (_at(event), event["reason"] == _PULLED), default=None)
    return last if last is not None and last["reason"] != _PULLED else None


def _at(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _pulled(message: str) -> str:
    """What a kubelet says of an image that is there, in short."""
    if "already present" in message:
        return "the image was there"
    took, size = _TOOK.search(message), _SIZE.search(message)
    if took is None:
        return message[:200]
    return f"pulled in {took[1]}" + (f", {int(size[1]) / 1e9:.1f} GB" if size else "")


def _silent(seen: Observed) -> Observed:
    detail = "The training operator has said nothing of the PyTorchJob for a minute: does it run?"
    return replace(seen, reason="operator_silent", detail=detail)
