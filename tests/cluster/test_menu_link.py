"""The line in the dashboard's menu, by the real kubectl on a real API server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from ground.cluster import Cluster

pytestmark = pytest.mark.cluster
SCRIPT = Path(__file__).parents[2] / "deploy/overlays/kubeflow/dashboard_link.py"
MENU = {"menuLinks": [{"type": "item", "link": "/jupyter/", "text": "Notebooks"}], "quickLinks": [{"text": "é"}]}


class Dashboard:
    """A namespace with the dashboard's ConfigMap."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self._cluster, self._name, self._folder = cluster, name, folder
        self.namespace = f"kubeflow-{uuid4().hex[:6]}"
        self.kubectl = shutil.which("kubectl")
        cluster.api.create("namespaces", "", {"metadata": {"name": self.namespace}})
        held = {"metadata": {"name": name}, "data": {"links": json.dumps(MENU), "settings": "{}"}}
        cluster.api.create("configmaps", self.namespace, held)

    def run(self, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": path + os.environ["PATH"],
            "HOME": str(self._folder),
            "KUBECONFIG": str(self._cluster.folder / "admin.kubeconfig"),
        }
        command = [sys.executable, str(SCRIPT), "--namespace", self.namespace, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    @property
    def held(self) -> dict[str, Any]:
        return dict(self._cluster.api.get("configmaps", self.namespace, self._name) or {})

    @property
    def menu(self) -> dict[str, Any]:
        return dict(json.loads(self.held["data"]["links"]))

    def change(self, text: str) -> str:
        """A shell line by which somebody else changes the menu."""
        patch = json.dumps({"data": {"settings": text}})
        return f"{self.kubectl} patch configmap {self._name} -n {self.namespace} --type=merge -p '{patch}' >&2"


@pytest.fixture(params=["centraldashboard-config", "dashboard-config"])
def dashboard(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Dashboard]:
    if shutil.which("kubectl") is None:
        pytest.skip("NOT CHECKED: the menu link needs kubectl on the PATH")
    yield Dashboard(cluster, tmp_path, request.param)


def test_it_is_put_in_once_and_taken_out_again(dashboard: Dashboard) -> None:
    before = dashboard.held
    for words in ("added", "nothing to change"):
        done = dashboard.run()
        assert (done.returncode, done.stderr) == (0, f"{words}\n")
        assert [one["link"] for one in dashboard.menu["menuLinks"]] == ["/jupyter/", "/muster/"]
    assert dashboard.run("--remove").stderr == "removed\n"
    assert dashboard.menu == MENU
    assert dashboard.run("--remove").stderr == "nothing to change\n"
    assert dashboard.held["data"]["settings"] == before["data"]["settings"]
    assert dashboard.held["metadata"]["uid"] == before["metadata"]["uid"]


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(dashboard: Dashboard, tmp_path: Path) -> None:
    between = tmp_path / "bin" / "kubectl"
    between.parent.mkdir()
    between.write_text(
        f'#!/bin/sh\n[ "$1" = replace ] && {dashboard.change("theirs")}\nexec {dashboard.kubectl} "$@"\n'
    )
    between.chmod(0o755)
    done = dashboard.run(path=f"{between.parent}:")
    assert done.returncode == 1
    assert "has been modified" in done.stderr
    assert dashboard.held["data"]["settings"] == "theirs"
    assert dashboard.menu == MENU
    assert dashboard.run().stderr == "added\n"
