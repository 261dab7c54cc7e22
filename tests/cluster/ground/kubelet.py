"""Plays the scheduler and the kubelets: a pod gets a node, its mounts, its process, its status, its end.

Nodes are objects of the API server whose kubelet is this one. A test may lose a node, evict a pod, or let the nodes
have too few GPUs.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from .api import Api, Json, Refused
from .container import MARK, marked
from .control_plane import free_port
from .loghatch import LogHatch
from .mirror import Mirror
from .podlife import PodLife

NODES = 4
TICK_S = 0.05
WORKERS = 8


class Kubelet:
    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._folder = folder
        self._changed: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._pods = Mirror(api, "pods", self._changed.put)
        self._lives: dict[str, PodLife] = {}
        self._ports: dict[str, int] = {}
        self._lost: set[str] = set()
        self._zombies: list[PodLife] = []
        self._placing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._hatch = LogHatch(folder, self._log_of)
        self.nodes = [f"node-{number}" for number in range(NODES)]
        self.defects: list[str] = []

    def start(self) -> None:
        self._hatch.start()
        for name in self.nodes:
            self._join(name)
        self._pods.start()
        self._thread.start()

    def stop(self) -> None:
        """Nothing of any pod runs afterwards."""
        self._over.set()
        self._pods.stop()
        self._thread.join(timeout=20)
        for uid in list(self._lives):
            self._lives.pop(uid).vanish()
        self._hatch.stop()

    def lose_node(self, node: str) -> None:
        """Nobody hears of it any more; what runs there runs on, until find_node()."""
        self._lost.add(node)

    def find_node(self, node: str) -> None:
        """It comes back, and ends what it should not run any more."""
        self._lost.discard(node)
        while self._zombies:
            self._zombies.pop().vanish()

    def set_gpus(self, per_node: int) -> None:
        """What each node has to give."""
        for name in self.nodes:
            self._api.patch(
                "nodes", "", name, {"status": {"allocatable": {"nvidia.com/gpu": str(per_node)}}}, "/status"
            )

    def evict(self, namespace: str, name: str) -> None:
        """As a node does that runs out of memory or disk."""
        self._of(namespace, name).evict("Evicted", "The node was low on resource: memory.")

    def oom_kill(self, namespace: str, name: str) -> None:
        """As the kernel does to a container over its memory limit."""
        self._of(namespace, name).oom_kill()

    def finish_pull(self, namespace: str, name: str) -> None:
        """The large image of a pod is there at last."""
        self._of(namespace, name).pulled.set()

    def node_of(self, namespace: str, name: str) -> str:
        pod = self._pods.get(namespace, name)
        return pod["spec"].get("nodeName", "") if pod else ""

    def log(self, namespace: str, name: str) -> str:
        """What the pod's container wrote so far."""
        return (self._log_of(namespace, name, False) or b"").decode(errors="replace")

    def processes(self, uid: str) -> list[int]:
        """Of one pod."""
        return [process.pid for process in marked(MARK, uid)]

    def _of(self, namespace: str, name: str) -> PodLife:
        pod = self._pods.get(namespace, name)
        assert pod is not None, f"no pod {name}"
        return self._lives[pod["metadata"]["uid"]]

    def _join(self, name: str) -> None:
        labels = {"kubernetes.io/hostname": name}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        status = {
            "capacity": {"cpu": "64", "memory": "512Gi", "pods": "200", "nvidia.com/gpu": "8"},
            "allocatable": {"cpu": "64", "memory": "512Gi", "pods": "200", "nvidia.com/gpu": "8"},
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._hatch.port}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a stand-in"}],
        }
        self._api.create("nodes", "", node)
        self._api.patch("nodes", "", name, {"status": status}, "/status")

    def _run(self) -> None:
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="kubelet") as workers:
            while not self._over.is_set():
                self._take_in()
                list(workers.map(self._tick, list(self._lives.values())))
                self._over.wait(TICK_S)

    def _take_in(self) -> None:
        while True:
            try:
                pod = self._changed.get_nowait()
            except queue.Empty:
                return
            uid, meta = pod["metadata"]["uid"], pod["metadata"]
            now = self._pods.get(meta["namespace"], meta["name"])
            if now is None or now["metadata"]["uid"] != uid:
                life = self._lives.pop(uid, None)
                if life is not None and life.node in self._lost:
                    self._zombies.append(life)
                elif life is not None:
                    life.vanish()
            elif uid in self._lives:
                self._lives[uid].pod = now
            else:
                self._lives[uid] = PodLife(self._api, now, self._folder / "pods" / uid, self._port(now))

    def _tick(self, life: PodLife) -> None:
        if life.node in self._lost:
            return
        try:
            if life.node:
                life.tick()
                return
            with self._placing:
                self._schedule(life)
        except (Refused, httpx.HTTPError, RuntimeError):
            pass  # gone meanwhile, or the API server is away: the next tick looks again
        except Exception as error:
            self.defects.append(f"{life.pod['metadata']['name']}: {error!r}")

    def _schedule(self, life: PodLife) -> None:
        """The first node with room and without a pod of the same gang, where the pod asks for that."""
        if life.pod["metadata"].get("deletionTimestamp") or time.monotonic() < life.look_again_at:
            return
        nodes = self._api.list("nodes")
        why = [reason for node in nodes if (reason := self._against(life.pod, node))]
        fitting = [node["metadata"]["name"] for node in nodes if not self._against(life.pod, node)]
        if not fitting:
            life.unschedulable(f"0/{len(nodes)} nodes are available: {len(why)} {why[0]}.")
            return
        life.bind(min(fitting, key=lambda name: len(self._on(name))))

    def _against(self, pod: Json, node: Json) -> str:
        name = node["metadata"]["name"]
        if name in self._lost:
            return "node(s) had taint {node.kubernetes.io/unreachable: }"
        wants = {**pod["spec"].get("nodeSelector", {})}
        if any(node["metadata"]["labels"].get(key) != value for key, value in wants.items()):
            return "node(s) didn't match Pod's node affinity/selector"
        terms = pod["spec"].get("affinity", {}).get("podAntiAffinity", {})
        for term in terms.get("requiredDuringSchedulingIgnoredDuringExecution", []):
            wanted = term["labelSelector"]["matchLabels"].items()
            others = (other["metadata"]["labels"] for other in self._on(name))
            if any(all(labels.get(key) == value for key, value in wanted) for labels in others):
                return "node(s) didn't match pod anti-affinity rules"
        taken = sum(_gpus(other) for other in self._on(name))
        if _gpus(pod) and taken + _gpus(pod) > int(node["status"]["allocatable"].get("nvidia.com/gpu", "0")):
            return "Insufficient nvidia.com/gpu"
        return ""

    def _on(self, node: str) -> list[Json]:
        live = (life for life in self._lives.values() if life.node == node)
        return [life.pod for life in live if life.pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def _port(self, pod: Json) -> int:
        """One port per gang for its rendezvous."""
        owners = pod["metadata"].get("ownerReferences") or [pod["metadata"]]
        return self._ports.setdefault(owners[0]["uid"], free_port())

    def _log_of(self, namespace: str, name: str, previous: bool) -> bytes | None:
        pod = self._pods.get(namespace, name)
        life = self._lives.get(pod["metadata"]["uid"]) if pod else None
        return life.log(previous) if life else None


def _gpus(pod: Json) -> int:
    containers = pod["spec"]["containers"]
    return sum(int(one.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", "0")) for one in containers)
