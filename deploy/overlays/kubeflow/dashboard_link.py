#!/usr/bin/env python3
"""Puts Muster into the menu of Kubeflow's dashboard, or takes it out with --remove. Repeating it changes nothing.

The dashboard keeps its whole menu as one JSON text in a ConfigMap, so no kustomize patch can add a line. Speaks through
`kubectl`, as whoever runs it; a change by somebody else at the same moment is refused by its resourceVersion.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

LINK = {"type": "item", "link": "/muster/", "text": "Muster", "icon": "view-carousel"}
NAMES = ("centraldashboard-config", "dashboard-config")  # up to Kubeflow 26.03; from dashboard 2.0 on
KEY = "links"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--remove", action="store_true", help="take it out")
    parser.add_argument("--namespace", default="kubeflow")
    asked = parser.parse_args()
    found = find(asked.namespace)
    if found is None:
        return say(f"no ConfigMap {' or '.join(NAMES)} in {asked.namespace}: is the dashboard there?", 1)
    before = json.loads(found["data"][KEY])
    after = without(before) if asked.remove else with_link(before)
    if after == before:
        return say("nothing to change")
    found["data"][KEY] = json.dumps(after, indent=2, ensure_ascii=False)
    kubectl("replace", "-f", "-", text=json.dumps(found))
    return say("removed" if asked.remove else "added")


def find(namespace: str) -> dict[str, Any] | None:
    """The dashboard's ConfigMap that has a menu."""
    for name in NAMES:
        answer = kubectl("get", "configmap", name, "-n", namespace, "--ignore-not-found", "-o", "json")
        if answer.strip() and KEY in json.loads(answer).get("data", {}):
            return dict(json.loads(answer))
    return None


def with_link(links: dict[str, Any]) -> dict[str, Any]:
    """The menu with our line, in the place it has or at the end."""
    menu = links.get("menuLinks") or []
    if any(one.get("link") == LINK["link"] for one in menu):
        return {**links, "menuLinks": [LINK if one.get("link") == LINK["link"] else one for one in menu]}
    return {**links, "menuLinks": [*menu, LINK]}


def without(links: dict[str, Any]) -> dict[str, Any]:
    """The menu as it is without our line."""
    menu = links.get("menuLinks") or []
    return {**links, "menuLinks": [one for one in menu if one.get("link") != LINK["link"]]}


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Its standard output. Ends the program with its words where it fails."""
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        sys.exit(f"kubectl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def say(words: str, code: int = 0) -> int:
    sys.stderr.write(f"{words}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
