#!/usr/bin/env python3
"""Writes muster.json, the Grafana dashboard, and rule.yaml, the alerts for the Prometheus operator.

Panels stand in panels.py, alerts in muster.rules.yaml. Needs PyYAML. A test holds both files to what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from panels import ROWS, Panel

HERE = Path(__file__).parent
DASHBOARD, RULES, RULE = HERE / "muster.json", HERE / "muster.rules.yaml", HERE / "rule.yaml"
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GENERATED = "# Generated from muster.rules.yaml by build.py.\n"


def dashboard() -> dict[str, Any]:
    return {
        "uid": "muster",
        "title": "Muster",
        "description": "Requests, gangs, batches and the service. docs/metrics.md explains the metrics.",
        "tags": ["muster"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_sources(), _templates()]},
        "panels": _placed(),
    }


def _sources() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}


def _templates() -> dict[str, Any]:
    query = "label_values(muster_pool_max_gangs, template)"
    return {
        "name": "template",
        "label": "Template",
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "templates"},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _placed() -> list[dict[str, Any]]:
    """Rows from top to bottom, panels from left to right."""
    placed: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        placed.append(
            {"id": len(placed) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place}
            | {"panels": []}
        )
        left, top, height = 0, top + 1, 4 if panels[0].kind == "stat" else 8
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            placed.append({"id": len(placed) + 1, "gridPos": place} | _drawn(panel))
            left += panel.width
        top += height
    return placed


def _drawn(panel: Panel) -> dict[str, Any]:
    stat = panel.kind == "stat"
    options = (
        {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
        if stat
        else {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
        | {"tooltip": {"mode": "multi", "sort": "desc"}}
    )
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            | {"range": not stat, "instant": stat}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _field(panel: Panel) -> dict[str, Any]:
    yellow, red = panel.thresholds or (None, None)
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.thresholds:
        steps += [{"color": "yellow", "value": yellow}, {"color": "red", "value": red}]
    field: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        field["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"group": "A", "mode": mode},
            "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
        }
    return field


def rule() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "muster", "namespace": "muster-system"},
        "spec": yaml.safe_load(RULES.read_text()),
    }


def written() -> dict[Path, str]:
    """What the files must hold."""
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1) + "\n",
        RULE: GENERATED + yaml.safe_dump(rule(), sort_keys=False, width=118),
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
