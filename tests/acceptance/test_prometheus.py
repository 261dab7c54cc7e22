"""A real Prometheus scrapes a real service with a real gang, and answers every query of dashboard and alerts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from monitoring import FOLDER, alerts, dashboard, expressions, panels, tool
from stage import Up, echo, until
from stage.services import free_port

pytestmark = pytest.mark.long
EMPTY = {
    "panel 'Failures': {{reason}}",
    "panel 'Retries': {{fault}}: {{reason}}",
    "panel 'Ends': {{reason}}",
    "panel 'Lost': breaks",
    "panel 'Open batches': {{state}}",
    "panel 'Open batches': idle",
    "panel 'Batch moves': {{move}}",
    "panel 'Webhook sends': {{outcome}}",
    "panel 'Errors': {{status}} {{route}}",
    "panel 'Loops: passes that failed': {{duty}}",
}
"""What a service shows nothing of to which nothing bad happened, and which has no batches and webhooks."""


@pytest.fixture(scope="module")
def prometheus(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FOLDER / "muster.rules.yaml")],
        "scrape_configs": [
            {
                "job_name": "muster",
                "authorization": {"credentials": up.token},
                "static_configs": [{"targets": [up.replica.url.removeprefix("http://")]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = [tool("prometheus"), "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as client:
                until(lambda: _up(client), f"Prometheus reaches the service: {(folder / 'log').read_text()}")
                yield client
        finally:
            process.terminate()
            process.wait(20)


def _up(client: httpx.Client) -> bool:
    """It says 503 until it is ready."""
    try:
        answer = client.get("/query", params={"query": "up == 1"})
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and bool(answer.json()["data"]["result"])


def ask(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    answer = client.get("/query", params={"query": query})
    assert answer.status_code == 200, (query, answer.text)
    assert answer.json()["status"] == "success" and not answer.json().get("warnings"), (query, answer.text)
    return list(answer.json()["data"]["result"])


def test_every_query_is_answered_and_those_of_what_happened_with_numbers(up: Up, prometheus: httpx.Client) -> None:
    up.client.apply_template(echo("shown", ranks=1, max=1))
    until(lambda: ask(prometheus, 'muster_pool_max_gangs{template="shown"}'), "the pool is seen")
    assert up.run("shown").succeeded and up.run("shown").succeeded
    until(lambda: ask(prometheus, 'muster_request_moves_total{move="succeed"} == 2'), "both successes are seen")
    waiting = [up.client.submit("shown", {"sleep_s": 120, "steps": 1200}, mode="warm").id for _ in range(2)]
    until(lambda: ask(prometheus, 'muster_queue_oldest_seconds{template="shown"}'), "one is seen to wait")
    empty = {
        what
        for what, query in expressions().items()
        if what.startswith("panel") and not [one for one in ask(prometheus, query) if one["value"][1] != "NaN"]
    }
    for request in waiting:
        up.client.cancel(request)
    assert empty <= EMPTY
    for alert in alerts():
        assert ask(prometheus, alert["expr"]) == [], alert["alert"]


def test_prometheus_evaluates_every_alert_and_none_fires(prometheus: httpx.Client) -> None:
    def looked() -> list[dict[str, Any]]:
        groups = prometheus.get("/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else []

    rules = until(looked, "every alert was evaluated")
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts()}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_the_variable_of_the_dashboard_lists_the_templates(up: Up, prometheus: httpx.Client) -> None:
    (of_template,) = (one for one in dashboard()["templating"]["list"] if one["name"] == "template")
    assert of_template["definition"] == "label_values(muster_pool_max_gangs, template)"
    found = prometheus.get("/label/template/values", params={"match[]": "muster_pool_max_gangs"}).json()["data"]
    assert "shown" in found
    chosen = {"$template": "shown", "$__rate_interval": "5m", "$__range": "1h"}
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in chosen.items():
                query = query.replace(variable, value)
            ask(prometheus, query)


def test_the_service_goes_and_prometheus_says_so(up: Up, prometheus: httpx.Client) -> None:
    (down,) = (one for one in alerts() if one["alert"] == "MusterDown")
    up.kill()
    try:
        until(lambda: ask(prometheus, down["expr"]), "its metrics are gone")
    finally:
        up.start()
