"""What two hundred namespaces of gangs cost a replica: threads, memory, calls, and how soon it has looked at all.

`python -m benchmarks.namespaces` writes results/namespaces.md; needs what tests/cluster/README.md names. Three minutes.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.kubeflow import Calls, counted
from benchmarks.results import Aim, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))
from ground.cluster import RBAC, Cluster, Namespace

from orchestrator.backends.places import Places
from orchestrator.place import places_of
from orchestrator.settings import MOST_GANG_NAMESPACES, Settings

MINUTE_S = 60.0
METHOD = f"""
etcd, kube-apiserver 1.20.2 and controller manager on this machine, with {MOST_GANG_NAMESPACES} namespaces of tenants
and one for all others, without gangs; one replica's places, made as the service makes them, in this process, with a
ServiceAccount that has exactly our Role in each. Then a survey every second for {MINUTE_S:g} s, one resync included.
Calls are counted where they leave; a watch counts once.
"""


def main() -> None:
    result = Result(name="namespaces", title="Two hundred namespaces", method=METHOD)
    with tempfile.TemporaryDirectory(prefix="muster-namespaces-") as name:
        cluster = Cluster(Path(name), operator=False, kubelet=False)
        cluster.start()
        try:
            with counted() as calls:
                _measure(result, cluster, calls, Path(name))
        finally:
            cluster.stop()
    result.write()


def _measure(result: Result, cluster: Cluster, calls: Calls, folder: Path) -> None:
    home = cluster.namespace()
    own = tuple(f"team-{number:03}" for number in range(MOST_GANG_NAMESPACES))
    for namespace in own:
        _admit(cluster, namespace, home)
    process = psutil.Process()
    before, threads = process.memory_info().rss, threading.active_count()
    calls.stage = "start"
    began = time.monotonic()
    places = places_of(
        Settings(
            folder=folder,
            backend="kubeflow",
            namespace=home.name,
            gang_namespaces=own,
            kubeconfig=home.kubeconfig,
        )
    )
    checked_s = time.monotonic() - began
    first = places.survey()
    first_s = time.monotonic() - began - checked_s
    grown, more = process.memory_info().rss - before, threading.active_count() - threads
    calls.stage = "minute"
    each_s, busy_s = _minute(places, process)
    _report(result, calls, (checked_s, first_s, each_s, busy_s), grown, more)
    result.aims = [
        Aim(
            what="namespaces that answered the first look",
            aim=str(len(own) + 1),
            measured=str(len(first.seen)),
            met=len(first.seen) == len(own) + 1,
        )
    ]
    places.close()


def _minute(places: Places, process: psutil.Process) -> tuple[list[float], float]:
    """Seconds of each survey, and of processor time in all."""
    used = sum(process.cpu_times()[:2])
    taken: list[float] = []
    until = time.monotonic() + MINUTE_S
    while time.monotonic() < until:
        began = time.monotonic()
        places.survey()
        taken.append(time.monotonic() - began)
        time.sleep(max(0.0, 1.0 - taken[-1]))
    return taken, sum(process.cpu_times()[:2]) - used


def _admit(cluster: Cluster, namespace: str, service: Namespace) -> None:
    cluster.api.create("namespaces", "", {"metadata": {"name": namespace}})
    binding = {
        "metadata": {"name": "muster"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "muster"},
        "subjects": [{"kind": "ServiceAccount", "name": "muster", "namespace": service.name}],
    }
    cluster.api.call("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", binding)


def _report(
    result: Result, calls: Calls, seconds: tuple[float, float, list[float], float], grown: int, threads: int
) -> None:
    checked_s, first_s, each_s, busy_s = seconds
    lists = sum(count for call, count in calls.of("minute") if call.startswith("LIST"))
    watches = sum(count for call, count in calls.of("minute") if call.startswith("WATCH"))
    middle = sorted(each_s)[len(each_s) // 2]
    figures = [
        ("start: each namespace asked once", f"{checked_s:.1f} s", "one after the other"),
        ("first look at all", f"{first_s:.1f} s", "lists and watches begin"),
        ("a look afterwards", f"{middle * 1000:.0f} ms", f"median of {len(each_s)}, from the watched views"),
        ("memory", f"{grown / 2**20:.0f} MiB", "more than before, after the first look"),
        ("threads", str(threads), "two per namespace, and those that look"),
        ("processor", f"{busy_s / MINUTE_S * 100:.1f} % of a core", "on average over the minute"),
        ("lists and watches", f"{lists} and {watches}", "within the minute"),
    ]
    result.tables = [("Figures", ("what", "measured", ""), figures)]
    result.samples = {"checked_s": checked_s, "first_s": first_s, "each_s": each_s, "busy_s": busy_s, "grown": grown}


if __name__ == "__main__":
    main()
