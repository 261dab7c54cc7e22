"""What a PyTorchJob and its pods say about a gang. Pure: documents in, an Observed out.

The pods are believed before the job: its Running means "at least one pod runs", stays true when half the gang is gone,
and after Failed nothing in it changes any more. Nothing here is proof of life; heartbeats are.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from orchestrator.backends.base import Moments, Observed, Phase
from orchestrator.backends.kubeflow_names import CONTAINER, GANG, MODE, Json, labels_of, leaving, node_of, nodes_of

CRASHES = 4
"""So often the container of a serve gang may be restarted in place before its back-off counts as the gang's end. Less
would end gangs that only waited for a peer on another node."""
LOST_AFTER = timedelta(seconds=30)
"""After the moment by which a pod had to be gone. Clocks may be a little apart."""


@dataclass(frozen=True, kw_only=True)
class Blame:
    """Why a pod is to blame for the end of its gang."""

    node: int
    reason: str
    detail: str
    killed: bool
    at: str


def judge(name: str, job: Json | None, pods: Sequence[Json], *, stopped: bool, now: datetime) -> Observed:
    """At least one of job and pods exists. `stopped`: we asked for its end."""
    source = job or pods[0]
    staying = [pod for pod in pods if not leaving(pod)]
    running = sum(runs(pod) for pod in pods)
    phase, reason, detail = _verdict(job, pods, staying, running)
    if stopped:
        reason, detail = "stopping", "It was asked to end."
    elif job is None or leaving(job):
        phase, reason, detail = Phase.FAILED, "deleted", "Its PyTorchJob was deleted, and not by Muster."
    elif lost := [pod for pod in pods if overdue(pod, now, LOST_AFTER)]:
        phase, reason = Phase.FAILED, "machine_lost"
        detail = f"The machine of node {node_of(lost[0])} does not confirm the end of its pod."
    return Observed(
        gang=labels_of(source).get(GANG, ""),
        name=name,
        phase=phase,
        reason=reason,
        detail=detail,
        nodes_running=running,
        moments=_moments(job, staying),
    )


def to_blame(job: Json | None, pods: Sequence[Json]) -> Blame | None:
    """The pod that brought the gang down. Who was killed drags the others down, so the killed come first."""
    serves = labels_of(job or pods[0]).get(MODE) == "serve"
    found = [blame for pod in pods if not leaving(pod) and (blame := _crash_loop(pod) if serves else _end(pod))]
    return min(found, key=lambda blame: (not blame.killed, blame.at)) if found else None


def overdue(pod: Json, now: datetime, patience: timedelta) -> bool:
    """Whether the pod had to be gone so long ago: no pod is made in its place while it is there."""
    deadline = pod["metadata"].get("deletionTimestamp")
    return deadline is not None and now > datetime.fromisoformat(deadline) + patience


def runs(pod: Json) -> bool:
    """Whether the container with the ranks runs."""
    return "running" in _state(pod)


def is_creating(pod: Json) -> bool:
    """Scheduled, and its container not yet made: what holds that up is only told in events."""
    return _waiting(pod).get("reason") == "ContainerCreating"


Verdict = tuple[Phase, str | None, str | None]


def _verdict(job: Json | None, pods: Sequence[Json], staying: Sequence[Json], running: int) -> Verdict:
    nodes = nodes_of(job) if job is not None else len(pods)
    serves = labels_of(job or pods[0]).get(MODE) == "serve"
    if blame := to_blame(job, pods):
        return Phase.FAILED, blame.reason, blame.detail
    if job is not None and (ended := condition(job, "Failed")):
        return Phase.FAILED, "job_failed", _sentence(ended.get("message", "The PyTorchJob failed."))
    succeeded = sum(_phase(pod) == "Succeeded" for pod in pods)
    if (job is not None and condition(job, "Succeeded")) or (not serves and succeeded >= nodes > 0):
        return Phase.SUCCEEDED, None, None
    if running + succeeded >= nodes:
        return Phase.RUNNING, None, None
    return Phase.PENDING, *_obstacle(job, staying, nodes)


def condition(job: Json, kind: str) -> Json | None:
    """The condition if it is true; an absent one and a false one mean the same."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def _end(pod: Json) -> Blame | None:
    """How a pod of a batch gang failed, if it did."""
    if _phase(pod) != "Failed":
        return None
    who, status = f"The agent of node {node_of(pod)}", pod["status"]
    ended = _state(pod).get("terminated") or {}
    blame = partial(Blame, node=node_of(pod), at=str(ended.get("finishedAt", "")))
    code = ended.get("exitCode")
    if status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost, ...: the node's words, not the container's
        why = _sentence(f"{who} was ended: {status['reason']}, {status.get('message', '')}")
        return blame(reason=_snake(status["reason"]), detail=why, killed=True)
    if ended.get("reason") == "OOMKilled":
        return blame(reason="out_of_memory", detail=f"{who} ran out of memory (OOMKilled).", killed=True)
    if code is not None and code > 128:
        return blame(reason="agent_lost", detail=_killed(who, code), killed=True)
    if code is None:
        return blame(reason="agent_lost", detail=f"{who} is gone and left no exit code.", killed=True)
    return blame(reason="exit_code", detail=f"{who} ended with exit code {code}.", killed=False)


def _killed(who: str, code: int) -> str:
    name = f"signal {code - 128}"
    with suppress(ValueError):
        name = signal.Signals(code - 128).name
    hint = "; often that means the machine ran out of memory" if name == "SIGKILL" else ""
    return f"{who} was killed by {name} (exit code {code}){hint}."


def _crash_loop(pod: Json) -> Blame | None:
    """A serve gang whose container ends again and again: Kubernetes would restart it for ever, ever later."""
    status = _container(pod)
    if _waiting(pod).get("reason") != "CrashLoopBackOff" or status.get("restartCount", 0) < CRASHES:
        return None
    ended = (status.get("lastState") or {}).get("terminated") or {}
    code, times = ended.get("exitCode"), status["restartCount"]
    last = "ran out of memory" if ended.get("reason") == "OOMKilled" else f"ended with exit code {code}"
    detail = f"The agent of node {node_of(pod)} {last}, the last of {times} times in a row."
    at = str(ended.get("finishedAt", ""))
    return Blame(node=node_of(pod), reason="crash_loop", detail=detail, killed=False, at=at)


def _obstacle(job: Json | None, pods: Sequence[Json], nodes: int) -> tuple[str | None, str | None]:
    """What a gang that does not run yet waits for, as far as job and pods say it."""
    if job is not None and (suspended := condition(job, "Suspended")):
        return "suspended", _sentence(f"The PyTorchJob is suspended: {suspended.get('message', '')}")
    for pod in sorted(pods, key=node_of):
        if found := _held_up(pod):
            return found
    if len(pods) < nodes:
        return "no_pods", f"{len(pods)} of {nodes} pods were made so far."
    return None, None


def _held_up(pod: Json) -> tuple[str, str] | None:
    who = f"node {node_of(pod)}"
    for one in pod["status"].get("conditions") or []:
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return "unschedulable", _sentence(f"No machine has room for {who}: {one.get('message', '')}")
    waiting = _waiting(pod)
    match waiting.get("reason"):
        case "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull":
            return "image_pull", _sentence(f"The image of {who} does not come: {waiting.get('message', '')}")
        case "CrashLoopBackOff":
            return "restarting", _sentence(f"The container of {who} ended and is restarted later: {_code_of(pod)}")
        case "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" as reason:
            return _snake(reason), _sentence(f"The container of {who} cannot be made: {waiting.get('message', '')}")
    return None


def _moments(job: Json | None, staying: Sequence[Json]) -> Moments | None:
    """None without a job, or where a server leaves out when something came to be."""
    made = _moment((job or {}).get("metadata", {}).get("creationTimestamp"))
    if job is None or made is None:
        return None
    placed = [pod for pod in staying if _is_placed(pod)]
    if len(placed) < nodes_of(job):
        return Moments(made=made)
    scheduled = [_moment(_placing(pod).get("lastTransitionTime")) for pod in placed]
    known = [moment for moment in scheduled if moment is not None]
    if len(known) < len(placed):
        return None
    begun = [moment for pod in placed if (moment := _began(pod)) is not None]
    return Moments(made=made, scheduled=max(known), started=max(begun) if len(begun) == len(placed) else None)


def last_to_start(pods: Sequence[Json]) -> Json | None:
    """The pod whose container began to run last."""
    begun = [(moment, pod) for pod in pods if (moment := _began(pod)) is not None]
    return max(begun, key=lambda one: one[0])[1] if begun else None


def _placing(pod: Json) -> Json:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "PodScheduled"), {})


def _is_placed(pod: Json) -> bool:
    return _placing(pod).get("status") == "True"


def _began(pod: Json) -> datetime | None:
    """Of the container with the ranks: of its last life, if it is not between two."""
    state = _state(pod)
    return _moment((state.get("running") or state.get("terminated") or {}).get("startedAt"))


def _moment(said: str | None) -> datetime | None:
    return datetime.fromisoformat(said) if said else None


def _code_of(pod: Json) -> str:
    ended = (_container(pod).get("lastState") or {}).get("terminated") or {}
    return f"exit code {ended.get('exitCode')}"


def _phase(pod: Json) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _container(pod: Json) -> Json:
    statuses: list[Json] = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one["name"] == CONTAINER), {})


def _state(pod: Json) -> dict[str, Any]:
    return {key: value for key, value in (_container(pod).get("state") or {}).items() if value is not None}


def _waiting(pod: Json) -> Json:
    return _state(pod).get("waiting") or {}


def _snake(word: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word).strip("_")


def _sentence(words: str) -> str:
    return words.strip().rstrip(".,: ")[:800] + "."
