"""Dashboard and alerts: files that are current, panels that say what they show, alerts that say what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from monitoring import FOLDER, alerts, dashboard, expressions, panels, rules, tool
from promql import named, unknown

from orchestrator.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
UNITS = {"Bps", "bytes", "none", "ops", "percentunit", "reqps", "s", "short"}
"""Of Grafana's, those in use."""


def test_the_committed_files_are_the_generated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import build  # type: ignore[import-not-found]

    for path, text in build.written().items():
        assert path.read_text() == text, f"run {FOLDER.name}/build.py"
    sys.modules.pop("build"), sys.modules.pop("panels")


def test_the_operators_rule_is_the_plain_one_in_a_wrapping() -> None:
    rule = yaml.safe_load((FOLDER / "rule.yaml").read_text())
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == rules()


@pytest.mark.parametrize("panel", panels(), ids=lambda one: one["title"])
def test_every_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 10 and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"] and len({one["refId"] for one in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= named(target["expr"]).grouped | {"instance"}, target


def test_panels_lie_side_by_side_and_ids_are_unique() -> None:
    placed = dashboard()["panels"]
    assert len({one["id"] for one in placed}) == len(placed)
    taken: set[tuple[int, int]] = set()
    for one in placed:
        at = one["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, one["title"]
        taken |= cells


@pytest.mark.parametrize("alert", alerts(), ids=lambda one: one["alert"])
def test_every_alert_says_how_urgent_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    said = alert["annotations"]
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == f"docs/alerts.md#{alert['alert'].lower()}"
    for label in re.findall(r"\$labels\.(\w+)", " ".join(said.values())):
        assert label in named(alert["expr"]).grouped
    assert re.search(rf"^### {alert['alert']}\n\n\S", (DOCS / "alerts.md").read_text(), re.MULTILINE)


def test_the_page_has_no_alert_that_is_not_there() -> None:
    headings = re.findall(r"^### (\w+)$", (DOCS / "alerts.md").read_text(), re.MULTILINE)
    assert headings == [one["alert"] for one in alerts()]


def test_the_page_names_commands_and_settings_that_are_there() -> None:
    page = re.sub(r"\s+", " ", (DOCS / "alerts.md").read_text())
    for line in re.findall(r"`muster ([^`]+)`", page):
        command: click.Command = main
        for word in line.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, line
            command = command.commands[word]
        assert not isinstance(command, click.Group), line
    settings = (DOCS / "operate.md").read_text()
    for name in re.findall(r"`(MUSTER_\w+)`", page):
        assert f"`{name}`" in settings, name


# ------------------------------------------------------------------------------------------------------------- promtool


def promtool(*arguments: str, cwd: Path = FOLDER, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [tool("promtool"), *arguments]
    return subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, timeout=60)


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "muster.rules.yaml")
    assert done.returncode == 0 and f"{len(alerts())} rules found" in done.stdout, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_on_a_good_day() -> None:
    done = promtool("test", "rules", "muster.rules.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    scenarios = yaml.safe_load((FOLDER / "muster.rules.test.yaml").read_text())["tests"]
    asked = [(one["alertname"], bool(one.get("exp_alerts"))) for each in scenarios for one in each["alert_rule_test"]]
    for alert in alerts():
        assert (alert["alert"], True) in asked and (alert["alert"], False) in asked, alert["alert"]


def test_the_scenarios_notice_an_alert_that_is_gone(tmp_path: Path) -> None:
    maimed = rules()
    lost = [group["rules"].pop()["alert"] for group in maimed["groups"]]
    (tmp_path / "muster.rules.yaml").write_text(yaml.safe_dump(maimed))
    (tmp_path / "tests.yaml").write_text((FOLDER / "muster.rules.test.yaml").read_text())
    done = promtool("test", "rules", "tests.yaml", cwd=tmp_path)
    assert done.returncode != 0
    assert {name for name in lost if name in done.stdout + done.stderr} == set(lost)


# ------------------------------------------------------------------------------------------------- how names are read


def test_names_and_labels_are_read_out_of_an_expression() -> None:
    said = named('sum by (le, a) (rate(x_bucket{b=~"y{z}", c!="1"}[5m])) / on (a) up offset 5m > 1e3 or vector(0)')
    assert said.metrics == {"x_bucket", "up"}
    assert said.matched == {("x_bucket", "b"), ("x_bucket", "c")}
    assert said.grouped == {"le", "a"}


def test_what_is_not_exposed_is_found() -> None:
    exposed = {"x_total": {"a"}}
    assert unknown('sum by (a) (x_total{a="1"})', exposed) == []
    assert unknown('sum by (b) (x_total{c="1"}) + y', exposed) == [
        "no metric y",
        "no label c of x_total",
        "no label b to group by",
    ]


def test_every_query_names_something_of_ours() -> None:
    for what, query in expressions().items():
        assert any(name.startswith("muster_") for name in named(query).metrics), what


def test_kustomize_makes_what_operator_and_sidecar_look_for(tmp_path: Path) -> None:
    kubectl = tool("kubectl")
    here = Path(*[".."] * (len(tmp_path.resolve().parts) - 1)) / FOLDER.relative_to("/")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"components": [str(here)]}))
    built = subprocess.run([kubectl, "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    objects = {one["kind"]: one for one in yaml.safe_load_all(built.stdout)}
    assert objects.keys() == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert {one["metadata"]["namespace"] for one in objects.values()} == {"muster-system"}
    given = objects["ConfigMap"]
    assert given["metadata"]["name"] == "muster-dashboard"
    assert given["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert list(given["data"]) == ["muster.json"] and yaml.safe_load(given["data"]["muster.json"]) == dashboard()
