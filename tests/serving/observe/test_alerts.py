"""The shipped rules and dashboard: valid, about metrics that exist, and at work in a real Prometheus."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import yaml
from prometheus_client import generate_latest

import turnout.serving.observe
from tests.running import route
from tests.watching import debian_program, watched_server
from turnout.serving.observe import dashboard
from turnout.serving.observe.catalog import METRICS, SUPERVISOR_BEAT, WORKER_ENDS, markdown_table, series_names
from turnout.serving.observe.metrics import ServerMetrics

FOLDER = Path(turnout.serving.observe.__file__).parent
RULES = FOLDER / "alerts.yml"
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "operate" / "observe.md").read_text(encoding="utf-8")
METRIC = re.compile(r"(?<![:\w])turnout_\w+")
RECORD = re.compile(r"\b\w+:turnout_\w+:\w+\b")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: str, stdin: str = "") -> str:
    command = [debian_program("promtool"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=FOLDER, input=stdin)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_promtool_accepts_the_rules():
    assert f"{len(rules())} rules found" in promtool("check", "rules", "alerts.yml")


@pytest.mark.slow  # 64 hours of alerts, evaluated every minute
def test_promtool_finds_that_alerts_fire_when_they_should():
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_promtool_has_nothing_to_say_against_the_metrics():
    assert not promtool("check", "metrics", stdin=generate_latest(ServerMetrics().registry).decode())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_says_what_is_wrong_and_has_a_runbook_and_a_unit_test(alert: dict[str, Any]):
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert f"\n### {alert['alert']}\n" in PAGE
    assert alert["annotations"]["runbook"].endswith(f"observe.md#{alert['alert'].lower()}")
    assert alert["alert"] in (FOLDER / "alerts_test.yml").read_text()


def test_every_alert_that_the_page_explains_is_one_of_the_rules():
    explained = re.findall(r"^### (Turnout\w+)$", PAGE, re.MULTILINE)
    assert sorted(explained) == sorted(alert["alert"] for alert in alerts())


def test_rules_and_dashboard_use_only_metrics_that_exist():
    records = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [rule["expr"] for rule in rules()] + [
        query for panel in dashboard.PANELS for query in panel.queries.values()
    ]
    used = {name for expression in expressions for name in METRIC.findall(expression)}
    assert used <= series_names()
    assert {name for expression in expressions for name in RECORD.findall(expression)} <= records
    assert len(used) > 15


def test_readme_lists_every_metric():
    assert markdown_table() in PAGE


def test_dashboard_file_is_that_of_the_list_of_panels():
    assert json.loads(dashboard.PATH.read_bytes()) == dashboard.dashboard()


def test_dashboard_is_one_that_grafana_can_import():
    board = json.loads(dashboard.PATH.read_bytes())
    assert board["schemaVersion"] >= 36
    inputs = {f"${{{wanted['name']}}}" for wanted in board["__inputs"]}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"]["uid"] in inputs
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    variables = {variable["name"] for variable in board["templating"]["list"]}
    text = dashboard.PATH.read_text()
    assert set(re.findall(r"\$(\w+)", text)) - {"__rate_interval", "__range"} == variables


def test_queries_of_the_dashboard_are_promql(tmp_path: Path):
    queries = [query for panel in dashboard.PANELS for query in panel.queries.values()]
    filled = [query.replace("$__rate_interval", "5m").replace("$__range", "6h") for query in queries]
    recorded = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(filled)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(path))


class Prometheus:
    """The real one: `query` gives the results of an instant query, `get` the data of any API call."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Any:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", f"/api/v1/{path}")
            response = connection.getresponse()
            if response.status == http.client.SERVICE_UNAVAILABLE:
                raise ConnectionRefusedError("still starting")
            answer = json.loads(response.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return self.get(f"query?query={quote(expression)}")["result"]

    def until(self, is_so: Callable[[Prometheus], Any], timeout_s: float = 90) -> Any:
        """Return the first true answer; fails after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError):
                if found := is_so(self):
                    return found
            time.sleep(0.2)
        raise AssertionError("Prometheus did not get there in time")


@contextlib.contextmanager
def prometheus_watching(target: str, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped rules on one target, evaluated each second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "turnout", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        debian_program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Prometheus(port)
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
def test_real_prometheus_scrapes_a_real_server_and_fires_on_an_incident(bundle_folder: Path, tmp_path: Path):
    debian_program("prometheus")
    with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, url):
        target = url.removeprefix("http://").removesuffix("/metrics")
        with prometheus_watching(target, tmp_path) as prometheus:
            prometheus.until(lambda seen: seen.query("turnout_worker_ready == 1"))
            for _ in range(5):
                route(server.address, text="hello")
            counted = prometheus.until(lambda seen: seen.query('turnout_decisions_total{route="weak"} == 5'))
            assert counted[0]["metric"]["policy"] == "max_worse=0.01"
            (state,) = prometheus.get("targets")["activeTargets"]
            assert (state["health"], state["lastError"]) == ("up", "")
            assert not prometheus.query('ALERTS{alertstate="firing"}')
            described = {name for name in prometheus.get("metadata") if name.startswith("turnout_")}
            of_one_worker = [one for one in METRICS if one.name not in (WORKER_ENDS, SUPERVISOR_BEAT)]
            assert described == {metric.full_name.removesuffix("_total") for metric in of_one_worker}

            with contextlib.suppress(grpc.RpcError):
                route(server.address, text="not a number: 7")
            fired = prometheus.until(lambda seen: seen.query('ALERTS{alertstate="firing"}'))
            assert fired[0]["metric"]["alertname"] == "TurnoutIncidents"
            loaded = prometheus.get("rules")["groups"]
            assert all(rule["health"] == "ok" for group in loaded for rule in group["rules"])
