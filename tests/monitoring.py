"""deploy/components/monitoring as the tests read it: its dashboard, its alerts, the expressions in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "deploy" / "components" / "monitoring"
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$template": ".*"}
"""What Grafana puts into a query."""


def dashboard() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "muster.json").read_text()))


def panels() -> list[dict[str, Any]]:
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    return [one for group in rules()["groups"] for one in group["rules"]]


def rules() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "muster.rules.yaml").read_text()))


def expressions() -> dict[str, str]:
    """Every query by what it is for, as Prometheus gets it."""
    found = {
        f"panel {panel['title']!r}: {target['legendFormat']}": filled(target["expr"])
        for panel in panels()
        for target in panel["targets"]
    }
    return found | {f"alert {one['alert']}": one["expr"] for one in alerts()}


def filled(query: str) -> str:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def tool(name: str) -> str:
    """`promtool` or `prometheus`; skips without it, and says so."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT CHECKED: needs {name} on the PATH (Debian: apt-get install prometheus)")
    return found
