"""What a pod mounts, as folders of this machine, and its paths and names as this machine knows them.

A pod's command runs here without a mount or network namespace, so its mount paths are replaced by folders, and its
rendezvous, which the operator names `<job>-worker-0:<port>`, by a port of loopback that only this gang uses.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

from .api import Api, Json


class NotYet(Exception):
    """Something the pod mounts is not there; the message is the kubelet's."""


def mount(api: Api, pod: Json, folder: Path) -> dict[str, Path]:
    """Mount path -> folder. Raises NotYet."""
    namespace, folders = pod["metadata"]["namespace"], {}
    for volume in pod["spec"].get("volumes", []):
        folders[volume["name"]] = place = folder / "volumes" / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        if "secret" in volume:
            _write_secret(api, namespace, volume["secret"]["secretName"], volume["name"], place)
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            if api.get("persistentvolumeclaims", namespace, claim) is None:
                raise NotYet(f'persistentvolumeclaim "{claim}" not found')
    mounts = [one for container in pod["spec"]["containers"] for one in container.get("volumeMounts", [])]
    return {one["mountPath"]: folders[one["name"]] for one in mounts if one["name"] in folders}


def _write_secret(api: Api, namespace: str, name: str, volume: str, place: Path) -> None:
    secret = api.get("secrets", namespace, name)
    if secret is None:
        raise NotYet(f'MountVolume.SetUp failed for volume "{volume}" : secret "{name}" not found')
    for key, value in secret.get("data", {}).items():
        (place / key).write_bytes(base64.b64decode(value))
        os.chmod(place / key, 0o400)


class Here:
    """Texts of the pod, as they must read on this machine."""

    def __init__(self, mounts: dict[str, Path], rendezvous_port: int, host: bool) -> None:
        self._mounts = mounts
        self._paths = re.compile(rf"(^|=)({'|'.join(map(re.escape, sorted(mounts, key=len, reverse=True)))})(?=/|$)")
        self._port = rendezvous_port
        self._host = host

    def text(self, value: str) -> str:
        if self._mounts:
            value = self._paths.sub(lambda found: f"{found[1]}{self._mounts[found[2]]}", value)
        value = re.sub(r"[a-z0-9-]+-worker-0:\d+", f"127.0.0.1:{self._port}", value)
        return self._with_host(value)

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        """The pod's own names for devices and peers do not exist here."""
        told = {name: self.text(value) for name, value in given.items()}
        return told | {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "TMPDIR": self.text("/tmp")}

    def _with_host(self, value: str) -> str:
        """All nodes are 127.0.0.1 here: who keeps the rendezvous store is said, not found out by name."""
        if "join_timeout=" in value:
            return f"{value},is_host={int(self._host)}"
        return value
