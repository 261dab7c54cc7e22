"""Plays the Kubeflow training operator v1 for Worker-only PyTorchJobs, as the real one was seen to behave.

Level-triggered like the real one: a job's key is queued whenever it, a pod or a service of it changes, and one pass
compares all there is. What the real operator does to Master replicas, PodGroups and HPAs is not played: a job that
asks for it fails the test.
"""

from __future__ import annotations

import queue
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx

from .api import Api, Json, Refused, label, owner_of
from .mirror import Mirror

JOB_NAME, INDEX = "training.kubeflow.org/job-name", "training.kubeflow.org/replica-index"
PORT = 23456  # the operator's default, appended where the container names none
BACKOFF_S = (0.5, 60.0)
"""Of a job whose pass failed; the real one goes up to 1000 s."""


class Operator:
    """While it runs. `pause()` plays an operator that is down; pods run on."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._due: queue.Queue[tuple[str, str]] = queue.Queue()
        self._queued: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        self._failures: dict[tuple[str, str], int] = {}
        self._running = threading.Event()
        self._running.set()
        self._over = threading.Event()
        self._jobs = Mirror(api, "pytorchjobs", lambda job: self._queue(job, job["metadata"]["name"]))
        self._pods = Mirror(api, "pods", lambda pod: self._queue(pod, label(pod, JOB_NAME)))
        self._services = Mirror(api, "services", lambda service: self._queue(service, label(service, JOB_NAME)))
        self._thread = threading.Thread(target=self._work, name="operator", daemon=True)
        self.defects: list[str] = []

    def start(self) -> None:
        for mirror in (self._jobs, self._pods, self._services):
            mirror.start()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._running.set()
        for mirror in (self._jobs, self._pods, self._services):
            mirror.stop()
        self._thread.join(timeout=10)

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def _queue(self, thing: Json, job: str) -> None:
        key = (thing["metadata"].get("namespace", ""), job)
        with self._guard:
            if job and key not in self._queued:
                self._queued.add(key)
                self._due.put(key)

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                key = self._due.get(timeout=0.2)
            except queue.Empty:
                continue
            self._running.wait()
            with self._guard:
                self._queued.discard(key)
            self._pass(key)

    def _pass(self, key: tuple[str, str]) -> None:
        job = self._jobs.get(*key)
        if job is None or job["metadata"].get("deletionTimestamp") or self._over.is_set():
            return
        try:
            _Pass(self._api, job, self._pods.all(), self._services.all()).run()
            self._failures.pop(key, None)
        except Refused as refused:
            failed = self._failures[key] = self._failures.get(key, 0) + 1
            # A conflict or a stale mirror heals with the next event; everything else is tried again, ever later.
            wait_s = 0.05 if refused.status in (404, 409) else min(BACKOFF_S[1], BACKOFF_S[0] * 2**failed)
            self._later(key, wait_s)
        except (httpx.HTTPError, RuntimeError):
            self._later(key, 0.5)
        except Exception as error:
            self.defects.append(f"{key}: {error!r}")

    def _later(self, key: tuple[str, str], wait_s: float) -> None:
        timer = threading.Timer(wait_s, self._queue, [{"metadata": {"namespace": key[0]}}, key[1]])
        timer.daemon = True
        timer.start()


class _Pass:
    """One comparison of what a job asks for with what there is."""

    def __init__(self, api: Api, job: Json, pods: list[Json], services: list[Json]) -> None:
        self._api = api
        self._job = job
        self._meta = job["metadata"]
        self._spec = job["spec"]
        assert set(self._spec["pytorchReplicaSpecs"]) == {"Worker"}, "only Worker replicas are played"
        assert not self._spec.get("elasticPolicy", {}).get("metrics"), "no HPA is played"
        self._worker = self._spec["pytorchReplicaSpecs"]["Worker"]
        self._policy = self._worker.get("restartPolicy", "OnFailure")
        assert self._policy in ("Always", "OnFailure", "Never"), f"restartPolicy {self._policy} is not played"
        self._pods = [pod for pod in pods if owner_of(pod) == self._meta["uid"]]
        self._services = {one["metadata"]["name"]: one for one in services if owner_of(one) == self._meta["uid"]}
        self._before = job.get("status") or {}
        self._status: Json = {**self._before, "conditions": [dict(c) for c in self._before.get("conditions", [])]}

    def run(self) -> None:
        if self._spec.get("managedBy") == "kueue.x-k8s.io/multikueue":
            return
        if self._is("Succeeded") or self._is("Failed"):
            self._clean()
            self._expire()
            return
        self._set("Created", "PyTorchJobCreated", "PyTorchJob is created.")
        if self._spec["runPolicy"].get("suspend"):
            self._suspend()
        else:
            self._resume()
            self._make_whole()
            self._count()
        self._write()

    # pods and services

    def _make_whole(self) -> None:
        """Pods first, then services. A pod that failed under Always or OnFailure is deleted, to be made anew."""
        for index in range(self._worker.get("replicas", 1)):
            pod = self._pod(index)
            if pod is None:
                self._create("pods", "Pod", self._new_pod(index))
            elif pod["status"].get("phase") == "Failed" and self._policy != "Never":
                self._delete("pods", pod)
        for index in range(self._worker.get("replicas", 1)):
            if f"{self._meta['name']}-worker-{index}" not in self._services:
                self._create("services", "Service", self._new_service(index))

    def _pod(self, index: int) -> Json | None:
        return next((pod for pod in self._pods if label(pod, INDEX) == str(index)), None)

    def _create(self, kind: str, word: str, body: Json) -> None:
        try:
            made = self._api.create(kind, self._meta["namespace"], body)
        except Refused as refused:
            if refused.status == 409:
                raise  # the mirror is behind, or a leftover of an older job has the name
            self._tell("Warning", f"FailedCreate{word}", f"Error creating: {refused.message}")
            raise
        if kind == "pods":
            self._pods.append(made)
        self._tell("Normal", f"SuccessfulCreate{word}", f"Created {word.lower()}: {body['metadata']['name']}")

    def _delete(self, kind: str, thing: Json) -> None:
        name, uid = thing["metadata"]["name"], thing["metadata"]["uid"]
        self._api.delete(kind, self._meta["namespace"], name, preconditions={"uid": uid})
        if kind == "pods":
            self._tell("Normal", "SuccessfulDeletePod", f"Deleted pod: {name}")

    def _metadata(self, index: int) -> Json:
        labels = {
            JOB_NAME: self._meta["name"],
            "training.kubeflow.org/operator-name": "pytorchjob-controller",
            "training.kubeflow.org/replica-type": "worker",
            INDEX: str(index),
        }
        if index == 0:
            labels["training.kubeflow.org/job-role"] = "master"
        return {
            "name": f"{self._meta['name']}-worker-{index}",
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "kubeflow.org/v1",
                    "kind": "PyTorchJob",
                    "name": self._meta["name"],
                    "uid": self._meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }

    def _new_pod(self, index: int) -> Json:
        template = self._worker["template"]
        given, mine = template.get("metadata", {}), self._metadata(index)
        mine["labels"] = {**given.get("labels", {}), **mine["labels"]}
        mine["annotations"] = given.get("annotations", {})
        containers = [
            {**container, "env": [*container.get("env", []), *self._environment(container)]}
            for container in template["spec"]["containers"]
        ]
        restart = "Never" if self._policy == "Never" else self._policy
        spec = {**template["spec"], "containers": containers, "restartPolicy": restart}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": mine, "spec": spec}

    def _environment(self, container: Json) -> list[Json]:
        elastic = self._spec.get("elasticPolicy")
        replicas = self._worker.get("replicas", 1)
        env = {"PYTHONUNBUFFERED": "1", "PET_NPROC_PER_NODE": self._spec.get("nprocPerNode", "auto")}
        if elastic is None:
            env["PET_NNODES"] = str(replicas)
        else:
            port = elastic.get("rdzvPort", PORT)
            env |= {
                "PET_RDZV_ENDPOINT": f"{self._meta['name']}-worker-0:{port}",
                "PET_RDZV_BACKEND": elastic.get("rdzvBackend", "c10d"),
                "PET_NNODES": f"{elastic.get('minReplicas', replicas)}:{elastic.get('maxReplicas', replicas)}",
                "PET_RDZV_ID": elastic.get("rdzvId", ""),
                "PET_MAX_RESTARTS": str(elastic.get("maxRestarts", 0)),
                "PET_RDZV_CONF": ",".join(f"{one['key']}={one['value']}" for one in elastic.get("rdzvConf", [])),
            }
        return [{"name": name, "value": value} for name, value in env.items() if value]

    def _new_service(self, index: int) -> Json:
        meta = self._metadata(index)
        ports = [
            {"name": port["name"], "port": port["containerPort"]}
            for container in self._worker["template"]["spec"]["containers"]
            for port in [*container.get("ports", []), {"name": "pytorchjob-port", "containerPort": PORT}]
        ]
        meta["labels"].pop("training.kubeflow.org/job-role", None)
        spec = {"clusterIP": "None", "selector": meta["labels"], "ports": ports}
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}

    # status

    def _count(self) -> None:
        phases = [pod["status"].get("phase") for pod in self._pods]
        active, succeeded, failed = (phases.count(phase) for phase in ("Running", "Succeeded", "Failed"))
        self._status["replicaStatuses"] = {"Worker": {"active": active, "succeeded": succeeded, "failed": failed}}
        self._status.setdefault("startTime", _now())
        name, replicas = self._meta["name"], self._worker.get("replicas", 1)
        if active:
            self._set("Running", "PyTorchJobRunning", f"PyTorchJob {name} is running.")
        enough = 1 if self._spec.get("elasticPolicy") else replicas
        if succeeded >= enough:
            self._finish("Succeeded", "PyTorchJobSucceeded", f"PyTorchJob {name} successfully completed.")
        if failed and self._policy == "Never":
            message = f"PyTorchJob {name} is failed because {failed} Worker replica(s) failed."
            self._finish("Failed", "PyTorchJobFailed", message)
        elif failed:
            self._set("Restarting", "PyTorchJobRestarting", f"{failed} Worker replica(s) failed.")

    def _finish(self, kind: str, reason: str, message: str) -> None:
        self._set("Running", reason, message, "False")
        self._set(kind, reason, message)
        self._status["completionTime"] = _now()
        self._tell("Normal" if kind == "Succeeded" else "Warning", reason, message)

    def _suspend(self) -> None:
        for pod in self._pods:
            self._delete("pods", pod)
        for service in self._services.values():
            self._delete("services", service)
        self._set("Running", "PyTorchJobSuspended", "suspended", "False")
        self._set("Suspended", "PyTorchJobSuspended", f"PyTorchJob {self._meta['name']} is suspended.")
        self._status["replicaStatuses"] = {"Worker": {}}

    def _resume(self) -> None:
        if self._is("Suspended"):
            self._set("Suspended", "PyTorchJobResumed", f"PyTorchJob {self._meta['name']} is resumed.", "False")
            self._status["startTime"] = _now()

    def _is(self, kind: str) -> bool:
        return any(one["type"] == kind and one["status"] == "True" for one in self._status["conditions"])

    def _set(self, kind: str, reason: str, message: str, status: str = "True") -> None:
        """After Failed nothing changes any more; Running and Restarting replace each other."""
        conditions = self._status["conditions"]
        mine = next((one for one in conditions if one["type"] == kind), None)
        if self._is("Failed") or (mine and (mine["status"], mine["reason"]) == (status, reason)):
            return
        if mine is None and status == "False":
            return
        rival = {"Running": "Restarting", "Restarting": "Running"}.get(kind)
        fresh = {"type": kind, "status": status, "reason": reason, "message": message}
        stamp = {"lastUpdateTime": _now(), "lastTransitionTime": _now()}
        self._status["conditions"] = [c for c in conditions if c["type"] not in (kind, rival)] + [{**fresh, **stamp}]

    def _write(self) -> None:
        if self._status != self._before:
            body = {"metadata": {"resourceVersion": self._meta["resourceVersion"]}, "status": self._status}
            self._api.patch("pytorchjobs", self._meta["namespace"], self._meta["name"], body, "/status")

    # after the end

    def _clean(self) -> None:
        match self._spec["runPolicy"].get("cleanPodPolicy", "None"):
            case "Running":
                doomed = [pod for pod in self._pods if pod["status"].get("phase") in ("Running", "Pending")]
            case "All":
                doomed = self._pods
            case _:
                doomed = []
        for pod in doomed:
            if not pod["metadata"].get("deletionTimestamp"):
                self._delete("pods", pod)
            service = self._services.get(pod["metadata"]["name"])
            if service is not None:
                self._delete("services", service)

    def _expire(self) -> None:
        ttl, ended = self._spec["runPolicy"].get("ttlSecondsAfterFinished"), self._status.get("completionTime")
        if ttl is None or ended is None:
            return
        age_s = time.time() - datetime.fromisoformat(ended).timestamp()
        if age_s >= ttl:
            self._delete("pytorchjobs", self._job)

    def _tell(self, kind: str, reason: str, message: str) -> None:
        told = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{self._meta['name']}."},
            "involvedObject": reference(self._job, "PyTorchJob", "kubeflow.org/v1"),
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "pytorchjob-controller"},
            "firstTimestamp": _now(),
            "lastTimestamp": _now(),
            "count": 1,
        }
        self._api.create("events", self._meta["namespace"], told)


def reference(thing: Json, kind: str, version: str = "v1") -> dict[str, Any]:
    meta = thing["metadata"]
    return {
        "apiVersion": version,
        "kind": kind,
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
