"""What one worker counts, read back from its registry."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import urllib.request

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tests.builders import BUNDLE_ID
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.decision.decision import Decision, Reason, Route, decide, threshold_policy
from turnout.serving.observe import exposition
from turnout.serving.observe.catalog import METRICS, SECONDS_BUCKETS
from turnout.serving.observe.exposition import FOLDER_VARIABLE
from turnout.serving.observe.gathered import GatheredHistogram
from turnout.serving.observe.metrics import ServerMetrics, policy_label
from turnout.serving.router.prompt import Prompt
from turnout.serving.wire.route import Timings

TIMINGS = Timings(decode_ns=200_000, queue_ns=3_000_000, model_ns=900_000)


def decision(policy: str = "max_worse=0.01", p_match: float | None = 0.93) -> Decision:
    return Decision(Route.WEAK, "gpt-4o-mini", p_match, p_match, 0.75, policy, Reason.MODEL, None)


def value(metrics: ServerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"turnout_{name}", labels)


def test_registry_holds_the_catalogue_and_nothing_else():
    families = {family.name: family for family in ServerMetrics().registry.collect()}
    of_a_worker = [metric for metric in METRICS if metric.joined != "supervisor"]
    assert set(families) == {metric.full_name.removesuffix("_total") for metric in of_a_worker}
    for metric in of_a_worker:
        family = families[metric.full_name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_prometheus(metric):
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    unit = {"s": "_seconds", "bytes": "_bytes"}.get(metric.unit)
    assert unit is None or metric.name.removesuffix("_total").endswith(unit)
    assert metric.joined == "supervisor" or bool(metric.joined) == (metric.kind == "gauge")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    bounded = {"task"} if metric.name.startswith("promise_") else set()  # 20 names at most
    assert not {"tenant", "task", "session_id", "request_id", "model"} & (set(metric.labels) - bounded)


def test_decision_is_counted_with_its_time_by_stage(bundle: Bundle):
    metrics = ServerMetrics()
    made = decide(bundle, Prompt("hello"), bundle.manifest.policy(""))
    for _ in range(3):
        metrics.decided(made, BUNDLE_ID, TIMINGS)
    metrics.sample(queue_items=0)
    labels = {"route": "weak", "reason": "MODEL", "policy": "max_worse=0.01", "bundle": BUNDLE_ID, "stage": "FAST"}
    assert value(metrics, "decisions_total", **labels) == 3
    assert value(metrics, "stage_seconds_sum", stage="queue") == pytest.approx(9e-3)
    assert value(metrics, "stage_seconds_bucket", stage="model", le="0.001") == 3
    assert value(metrics, "stage_seconds_bucket", stage="model", le="0.0005") == 0
    assert value(metrics, "p_match_ratio_sum") == pytest.approx(3 * made.p_match)


def test_decision_without_the_model_has_no_p_match_and_no_waiting(bundle: Bundle):
    metrics = ServerMetrics()
    guarded = decide(bundle, Prompt("", images=1), bundle.manifest.policy(""))
    metrics.decided(guarded, BUNDLE_ID, TIMINGS)
    metrics.sample(queue_items=0)
    labels = {"route": "strong", "reason": "RULE", "policy": "max_worse=0.01", "bundle": BUNDLE_ID, "stage": "NONE"}
    assert value(metrics, "decisions_total", **labels) == 1
    assert value(metrics, "p_match_ratio_count") == value(metrics, "stage_seconds_count", stage="model") == 0
    assert value(metrics, "stage_seconds_count", stage="decode") == 1


def test_thresholds_of_callers_are_one_label():
    metrics = ServerMetrics()
    for number in range(50):
        metrics.decided(decision(threshold_policy(number / 100).name), BUNDLE_ID, TIMINGS)
    text = generate_latest(metrics.registry).decode()
    (line,) = [line for line in text.splitlines() if line.startswith("turnout_decisions_total{")]
    assert 'policy="threshold"' in line
    assert line.endswith(" 50.0")
    assert policy_label("threshold") == "threshold"
    assert policy_label("max_worse=0.01") == "max_worse=0.01"


def test_a_swapped_bundle_is_set_to_zero_and_may_come_back(bundle: Bundle):
    metrics = ServerMetrics()
    metrics.serves([bundle.manifest])
    assert value(metrics, "bundle_info", bundle=BUNDLE_ID) == 1
    assert value(metrics, "expected_weak_ratio", bundle=BUNDLE_ID, policy="max_worse=0.01") == 0.5
    metrics.serves([])
    assert value(metrics, "bundle_info", bundle=BUNDLE_ID) == 0
    metrics.serves([bundle.manifest])
    assert value(metrics, "bundle_info", bundle=BUNDLE_ID) == 1


def test_what_alerts_look_at_is_there_before_it_happens():
    metrics = ServerMetrics()
    assert value(metrics, "failures_total", code="INTERNAL") == 0
    assert value(metrics, "canary_events_total", event="rolled_back") == 0
    assert value(metrics, "reloads_total", kind="rules", result="refused") == 0


def test_events_and_levels():
    metrics = ServerMetrics()
    metrics.failed(grpc.StatusCode.INTERNAL)
    metrics.refused("tenant")
    metrics.cache(hit=True)
    metrics.cache(hit=False)
    metrics.shadow(agrees=False, abs_dp=0.03)
    metrics.shadow_dropped()
    metrics.canary("started", 0.05)
    metrics.reloaded("bundle", ok=True)
    metrics.began()
    metrics.began()
    metrics.answered("Route", "OK", 0.002)
    metrics.ready(is_ready=True)
    metrics.sample(queue_items=7)
    assert value(metrics, "failures_total", code="INTERNAL") == 1
    assert value(metrics, "refusals_total", cause="tenant") == 1
    assert value(metrics, "cache_lookups_total", result="hit") == value(metrics, "cache_lookups_total", result="miss")
    assert value(metrics, "shadow_decisions_total", agrees="false") == 1
    assert value(metrics, "shadow_difference_ratio_bucket", le="0.05") == 1
    assert value(metrics, "shadow_difference_ratio_bucket", le="0.02") == 0
    assert value(metrics, "shadow_dropped_total") == 1
    assert (value(metrics, "canary_events_total", event="started"), value(metrics, "canary_share_ratio")) == (1, 0.05)
    assert value(metrics, "reloads_total", kind="bundle", result="ok") == 1
    assert value(metrics, "rpcs_total", method="Route", code="OK") == 1
    assert value(metrics, "rpc_seconds_sum", method="Route") == 0.002
    assert (value(metrics, "rpcs_in_flight"), value(metrics, "queue_items")) == (1, 7)
    assert value(metrics, "worker_ready") == 1
    assert value(metrics, "worker_memory_bytes") > 10 << 20
    assert value(metrics, "worker_cpu_seconds_total") > 0


@given(st.lists(st.floats(0, 20), max_size=60), st.integers(1, 10))
def test_gathered_histogram_holds_what_the_librarys_own_does(values: list[float], flush_every: int):
    registry = CollectorRegistry()
    own, other = (Histogram(name, name, registry=registry, buckets=SECONDS_BUCKETS) for name in ("own", "other"))
    gathered = GatheredHistogram(own)
    for index, value in enumerate(values):
        gathered.observe(value)
        other.observe(value)
        if index % flush_every == 0:
            gathered.flush()
    gathered.flush()
    samples = {
        family.name: [(sample.name.removeprefix(family.name), sample.labels, sample.value) for sample in family.samples]
        for family in registry.collect()
    }
    assert len(samples["own"]) == len(samples["other"])
    for mine, theirs in zip(samples["own"], samples["other"], strict=True):
        assert mine[:2] == theirs[:2]
        if mine[0] != "_created":
            assert mine[2] == pytest.approx(theirs[2])


def test_folder_named_too_late_is_refused():
    code = (
        "import os, prometheus_client\n"
        f"os.environ[{FOLDER_VARIABLE!r}] = '.'\n"
        "from turnout.serving.observe.metrics import ServerMetrics\n"
        "ServerMetrics()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 1
    assert "MetricsMisplaced" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nX-Half"], ids=["nothing", "half a head"])
def test_callers_of_the_metrics_port_that_say_nothing_hold_no_thread(sent: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "SILENCE_S", 0.5)
    exposed = exposition.start_exposition("127.0.0.1:0", ServerMetrics())
    try:
        host, port = exposed.address.split(":")
        with contextlib.ExitStack() as opened:
            silent = [opened.enter_context(socket.create_connection((host, int(port)))) for _ in range(50)]
            for one in silent:
                one.sendall(sent)
                one.settimeout(60)
            with urllib.request.urlopen(exposed.url, timeout=60) as reply:
                assert b"turnout_" in reply.read()
            for one in silent:
                assert one.recv(1 << 16) == b"" or one.recv(1 << 16) == b""  # closed from the other side
    finally:
        exposed.close()
