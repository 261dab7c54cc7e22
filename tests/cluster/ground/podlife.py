"""The life of one pod on a node: mounts, image, process, restarts, deletion with grace; its status as it says it."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .api import Api, Json, Refused
from .container import JOB_MARK, Container
from .operator import reference
from .volumes import Here, NotYet, mount

RETRY_S = 0.3
BACKOFF_S = (0.2, 3.0)
"""Of CrashLoopBackOff; a real kubelet takes 10 s to 300 s."""
MISSING_IMAGE = "missing"
"""What the name of an image contains that no registry has."""
LARGE_IMAGE = "large"
"""What the name of an image contains that takes until the test says that it was pulled."""


class PodLife:
    """Driven by tick(), from one thread at a time. `pod` is the newest that the API server said."""

    def __init__(self, api: Api, pod: Json, folder: Path, rendezvous_port: int) -> None:
        self.pod = pod
        self.look_again_at = 0.0
        self.pulled = threading.Event()
        self._api = api
        self._folder = folder
        self._port = rendezvous_port
        self._guard = threading.RLock()
        self._container: Container | None = None
        self._restarts = 0
        self._last: Json | None = None
        self._said: Json = {}
        self._over = False
        self._kill_at: float | None = None
        self._grace: int | None = None
        self._bound = ""
        self._oom = False

    @property
    def node(self) -> str:
        return str(self.pod["spec"].get("nodeName", "") or self._bound)

    def bind(self, node: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        meta = self.pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
        self._api.call("POST", path, body)
        self._bound = node

    def unschedulable(self, message: str) -> None:
        self.look_again_at = time.monotonic() + RETRY_S
        condition = self._condition("PodScheduled", "False") | {"reason": "Unschedulable", "message": message}
        if self._say({"phase": "Pending", "conditions": [condition]}):
            self._tell("FailedScheduling", message)

    def tick(self) -> None:
        with self._guard:
            if self.pod["metadata"].get("deletionTimestamp"):
                self._leave()
            elif self._container is not None:
                self._look()
            elif not self._over and time.monotonic() >= self.look_again_at:
                self._begin()

    def vanish(self) -> None:
        """The pod is no more in the API: nothing of it may run."""
        with self._guard:
            if self._container is not None:
                self._container.kill()
                self._container.ended()
            self._over = True

    def evict(self, reason: str, message: str) -> None:
        with self._guard:
            self._over = True
            if self._container is not None:
                self._container.kill()
                self._container = None
            self._say({"phase": "Failed", "reason": reason, "message": message, "containerStatuses": []})

    def oom_kill(self) -> None:
        with self._guard:
            assert self._container is not None, "the container does not run"
            self._oom = True
            self._container.kill()

    def log(self, previous: bool) -> bytes | None:
        file = self._folder / f"log-{self._restarts - (1 if previous else 0)}"
        return file.read_bytes() if file.exists() else None

    # towards running

    def _begin(self) -> None:
        spec = self.pod["spec"]["containers"][0]
        if MISSING_IMAGE in spec["image"]:
            self._image_is_missing(spec["image"])
            return
        if LARGE_IMAGE in spec["image"] and not self.pulled.is_set():
            if self._say(self._waiting("ContainerCreating")):
                self._tell("Pulling", f'Pulling image "{spec["image"]}"', kind="Normal")
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            mounts = mount(self._api, self.pod, self._folder)
        except NotYet as not_yet:
            self.look_again_at = time.monotonic() + RETRY_S
            if self._say(self._waiting("ContainerCreating")):
                self._tell("FailedMount", str(not_yet))
            return
        self._tell("Pulled", _pulled(spec["image"]), kind="Normal")
        self._container = self._started(spec, mounts)
        self._say(self._status("Running", {"running": {"startedAt": _when(self._container)}}, ready=True))

    def _started(self, spec: Json, mounts: dict[str, Path]) -> Container:
        meta = self.pod["metadata"]
        here = Here(mounts, self._port, host=meta["name"].endswith("-worker-0"))
        env = _image_environment() | here.environment(self._environment(spec))
        env[JOB_MARK] = meta.get("ownerReferences", [{"uid": ""}])[0]["uid"]
        command = [here.text(word) for word in [*spec.get("command", []), *spec.get("args", [])]]
        return Container(command, env, self._folder, self._folder / f"log-{self._restarts}", meta["uid"])

    def _environment(self, spec: Json) -> dict[str, str]:
        """The last of two entries with one name wins."""
        meta = self.pod["metadata"]
        fields = {
            "metadata.name": meta["name"],
            "metadata.namespace": meta["namespace"],
            "metadata.uid": meta["uid"],
            "spec.nodeName": self.node,
            "status.podIP": "127.0.0.1",
        }
        return {
            one["name"]: fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            if "valueFrom" in one
            else one.get("value", "").replace("$$(", "$(")
            for one in spec.get("env", [])
        }

    def _image_is_missing(self, image: str) -> None:
        self.look_again_at = time.monotonic() + RETRY_S
        first = not self._said
        reason = "ErrImagePull" if first else "ImagePullBackOff"
        message = f'failed to pull "{image}": not found' if first else f'Back-off pulling image "{image}"'
        if self._say(self._waiting(reason, message)):
            self._tell("Failed" if first else "BackOff", message)

    # while it runs

    def _look(self) -> None:
        assert self._container is not None
        code = self._container.ended()
        if code is None:
            return
        reason = "OOMKilled" if self._oom else "Completed" if code == 0 else "Error"
        ended: Json = {"exitCode": code, "reason": reason, "finishedAt": _now(), "startedAt": _when(self._container)}
        if code and self._spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = (self.log(False) or b"")[-2048:].decode(errors="replace")
        self._container, self._oom = None, False
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            self._over = True
            self._say(self._status("Failed" if code else "Succeeded", {"terminated": ended}, ready=False))
            return
        self._last = {"terminated": ended}
        wait_s = min(BACKOFF_S[1], BACKOFF_S[0] * 2**self._restarts)
        self._restarts += 1
        self.look_again_at = time.monotonic() + wait_s
        message = f"back-off {wait_s:g}s restarting failed container"
        self._say(self._status("Running", {"waiting": {"reason": "CrashLoopBackOff", "message": message}}, ready=False))

    # towards the end

    def _leave(self) -> None:
        """SIGTERM once; a shorter grace that comes later counts from when it came."""
        grace = int(self.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        if self._grace is None or grace < self._grace:
            if self._grace is None and self._container is not None:
                self._container.ask_to_end()
            self._grace = grace
            self._kill_at = min(self._kill_at or float("inf"), time.monotonic() + grace)
        if self._container is not None and self._container.ended() is None:
            if time.monotonic() < (self._kill_at or 0):
                return
            self._container.kill()
        self._container, self._over = None, True
        meta = self.pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        self._api.delete("pods", meta["namespace"], meta["name"], **body)

    # words

    @property
    def _spec(self) -> Json:
        spec: Json = self.pod["spec"]["containers"][0]
        return spec

    def _waiting(self, reason: str, message: str = "") -> Json:
        return self._status("Pending", {"waiting": {"reason": reason, "message": message}}, ready=False)

    def _status(self, phase: str, state: Json, *, ready: bool) -> Json:
        container = {
            "name": self._spec["name"],
            "image": self._spec["image"],
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": self._restarts,
            "state": {"waiting": None, "running": None, "terminated": None} | state,
            "lastState": self._last or {},
        }
        return {
            "phase": phase,
            "podIP": "127.0.0.1",
            "hostIP": "127.0.0.1",
            "conditions": [
                self._condition("PodScheduled", "True"),
                self._condition("Ready", "True" if ready else "False"),
            ],
            "containerStatuses": [container],
        }

    def _condition(self, kind: str, status: str) -> Json:
        """With the moment since which it is so: as the API server wrote it down, if it did."""
        told = [*self.pod["status"].get("conditions", []), *self._said.get("conditions", [])]
        before = next((one for one in told if one["type"] == kind and one["status"] == status), {})
        return {"type": kind, "status": status, "lastTransitionTime": before.get("lastTransitionTime") or _now()}

    def _say(self, status: Json) -> bool:
        """True if it is news."""
        if status == self._said:
            return False
        meta = self.pod["metadata"]
        try:
            self._api.patch("pods", meta["namespace"], meta["name"], {"status": status}, "/status")
        except Refused as refused:
            if refused.status != 404:
                raise
        self._said = status
        return True

    def _tell(self, reason: str, message: str, kind: str = "Warning") -> None:
        meta: dict[str, Any] = self.pod["metadata"]
        told = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}."},
            "involvedObject": reference(self.pod, "Pod"),
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet"},
            "firstTimestamp": _now(),
            "lastTimestamp": _now(),
            "count": 1,
        }
        self._api.create("events", meta["namespace"], told)


def _pulled(image: str) -> str:
    """A kubelet's own words."""
    if LARGE_IMAGE in image:
        took = "in 2m3.5s (2m3.5s including waiting)"
        return f'Successfully pulled image "{image}" {took}. Image size: 30123456789 bytes.'
    return f'Container image "{image}" already present on machine'


def _image_environment() -> dict[str, str]:
    """What the image of every pod brings: this Python, and nothing else of this process."""
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    image = {"PATH": path, "LANG": "C.UTF-8"}
    if "PYTHONPATH" in os.environ:
        image["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return image


def _when(container: Container) -> str:
    """It was started."""
    return datetime.fromtimestamp(container.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
