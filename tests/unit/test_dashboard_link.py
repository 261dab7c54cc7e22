"""The line in the menu of Kubeflow's dashboard: put in once, taken out, and nothing else of the menu touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/overlays/kubeflow/dashboard_link.py"
MENU: dict[str, Any] = {
    "menuLinks": [{"type": "item", "link": "/jupyter/", "text": "Notebooks", "icon": "book"}],
    "externalLinks": [{"link": "https://example.com", "text": "Émile", "icon": "x"}],
}
KUBECTL = """#!{python}
import json, pathlib, sys
state = pathlib.Path({state!r})
match sys.argv[1:]:
    case ["get", "configmap", name, "-n", namespace, *_]:
        held = json.loads(state.read_text())
        print(json.dumps(held) if (name, namespace) == (held["metadata"]["name"], "kubeflow") else "")
    case ["replace", "-f", "-"]:
        given = json.load(sys.stdin)
        if given["metadata"]["resourceVersion"] != json.loads(state.read_text())["metadata"]["resourceVersion"]:
            sys.exit("the object has been modified")
        given["metadata"]["resourceVersion"] += "1"
        state.write_text(json.dumps(given))
"""


class Dashboard:
    """Its ConfigMap behind a `kubectl` that knows two commands."""

    def __init__(self, folder: Path, name: str = "centraldashboard-config") -> None:
        self._state = folder / "state.json"
        held = {"metadata": {"name": name, "resourceVersion": "1"}, "data": {"links": json.dumps(MENU), "other": "x"}}
        self._state.write_text(json.dumps(held))
        kubectl = folder / "kubectl"
        kubectl.write_text(KUBECTL.format(python=sys.executable, state=str(self._state)))
        kubectl.chmod(0o755)
        self._path = f"{folder}:{os.environ['PATH']}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            env={"PATH": self._path},
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def links(self) -> dict[str, Any]:
        return dict(json.loads(json.loads(self._state.read_text())["data"]["links"]))

    @property
    def version(self) -> str:
        return str(json.loads(self._state.read_text())["metadata"]["resourceVersion"])


def test_the_link_is_added_once_however_often_it_runs(tmp_path: Path) -> None:
    dashboard = Dashboard(tmp_path)
    assert dashboard.run().stderr == "added\n"
    version = dashboard.version
    assert dashboard.run().stderr == "nothing to change\n"
    assert dashboard.version == version
    assert [one["link"] for one in dashboard.links["menuLinks"]] == ["/jupyter/", "/muster/"]


def test_nothing_else_of_the_menu_changes_and_removing_gives_back_what_was(tmp_path: Path) -> None:
    dashboard = Dashboard(tmp_path)
    dashboard.run()
    assert dashboard.links["externalLinks"] == MENU["externalLinks"]
    assert dashboard.run("--remove").stderr == "removed\n"
    assert dashboard.links == MENU
    assert dashboard.run("--remove").stderr == "nothing to change\n"


def test_the_newer_dashboard_has_another_name_for_it(tmp_path: Path) -> None:
    dashboard = Dashboard(tmp_path, name="dashboard-config")
    assert dashboard.run().returncode == 0
    assert len(dashboard.links["menuLinks"]) == 2


@pytest.mark.parametrize("arguments", [["--namespace", "elsewhere"]])
def test_without_a_dashboard_it_says_so(tmp_path: Path, arguments: list[str]) -> None:
    done = Dashboard(tmp_path).run(*arguments)
    assert done.returncode == 1
    assert "is the dashboard there?" in done.stderr
