"""The view of a running server, and the arithmetic under it."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.builders import BUNDLE_ID
from tests.watching import watched_server
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.cli.overview import histogram_quantile, overview
from turnout.serving.cli.scrape import NotScraped, Series, Snapshot, scrape
from turnout.serving.cli.top import show_top
from turnout.serving.decision.decision import decide
from turnout.serving.observe.catalog import SECONDS_BUCKETS
from turnout.serving.observe.exposition import start_exposition
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.router.prompt import Prompt
from turnout.serving.wire.route import Timings

TIMINGS = Timings(1000, 1000, 1000)


def snapshot(metrics: ServerMetrics, at_s: float) -> Snapshot:
    families = metrics.registry.collect()
    series = [Series(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    return Snapshot(at_s, None, tuple(series))


def cumulative(values: list[float]) -> dict[str, float]:
    bounds = [*SECONDS_BUCKETS, math.inf]
    return {("+Inf" if math.isinf(bound) else str(bound)): sum(v <= bound for v in values) for bound in bounds}


@given(st.lists(st.floats(1e-5, 4.9), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], q: float):
    estimate = histogram_quantile(q, cumulative(values))
    true = float(np.quantile(values, q, method="inverted_cdf"))
    index = int(np.searchsorted(SECONDS_BUCKETS, true))
    low = SECONDS_BUCKETS[index - 1] if index else 0.0
    assert estimate is not None
    assert low - 1e-9 <= estimate <= SECONDS_BUCKETS[index] + 1e-9


def test_quantile_is_interpolated_as_prometheus_does():
    counts = {"0.1": 50.0, "0.2": 100.0, "+Inf": 100.0}
    assert histogram_quantile(0.5, counts) == pytest.approx(0.1)
    assert histogram_quantile(0.75, counts) == pytest.approx(0.15)
    assert histogram_quantile(0.25, counts) == pytest.approx(0.05)
    assert histogram_quantile(0.5, {"0.1": 0.0, "+Inf": 4.0}) == 0.1
    assert histogram_quantile(0.5, {"0.1": 0.0, "+Inf": 0.0}) is None
    assert histogram_quantile(0.5, {}) is None


def test_overview_is_of_the_time_between_two_scrapes(bundle: Bundle):
    metrics = ServerMetrics()
    weak, guarded = (
        decide(bundle, prompt, bundle.manifest.policy("")) for prompt in (Prompt("hello"), Prompt("", images=1))
    )
    for _ in range(50):
        metrics.decided(guarded, BUNDLE_ID, TIMINGS)
    before = snapshot(metrics, 100.0)
    for _ in range(6):
        metrics.began()
        metrics.decided(weak, BUNDLE_ID, TIMINGS)
        metrics.answered("Route", "OK", 0.004)
    metrics.decided(guarded, BUNDLE_ID, TIMINGS)
    metrics.decided(guarded, BUNDLE_ID, TIMINGS)
    metrics.refused("tenant")
    metrics.cache(hit=True)
    metrics.serves([bundle.manifest])
    metrics.sample(queue_items=3)
    seen = overview(before, snapshot(metrics, 104.0))
    assert (seen.seconds, seen.requests_per_s, seen.weak_share, seen.fast_share) == (4.0, 2.0, 0.75, 1.0)
    assert seen.by_reason == {"MODEL": 1.5, "RULE": 0.5}
    assert seen.p50_ms is not None
    assert 2.5 < seen.p50_ms < 5
    assert (seen.refusals_per_s, seen.failures_per_s, seen.cache_hit_share) == ({"tenant": 0.25}, {}, 1.0)
    assert (seen.queue_items, seen.in_flight, seen.bundles) == (3, 0, {BUNDLE_ID: 1})


def test_server_that_was_restarted_counts_from_zero(bundle: Bundle):
    first, second = ServerMetrics(), ServerMetrics()
    made = decide(bundle, Prompt("hello"), bundle.manifest.policy(""))
    for metrics, times in ((first, 50), (second, 4)):
        for _ in range(times):
            metrics.decided(made, BUNDLE_ID, TIMINGS)
    assert overview(snapshot(first, 0.0), snapshot(second, 2.0)).requests_per_s == 2.0


def test_idle_server_has_no_shares_and_no_latency():
    metrics = ServerMetrics()
    seen = overview(snapshot(metrics, 0.0), snapshot(metrics, 1.0))
    assert (seen.requests_per_s, seen.weak_share, seen.fast_share, seen.p50_ms, seen.p99_ms) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_once_prints_one_view_or_one_line_of_json(bundle: Bundle):
    metrics = ServerMetrics()
    metrics.ready(is_ready=True)
    metrics.serves([bundle.manifest])
    exposition = start_exposition("127.0.0.1:0", metrics)
    try:
        outs = []
        for as_json in (True, False):
            out = io.StringIO()
            show_top(exposition.url, 0.1, once=True, as_json=as_json, console=Console(file=out, width=110))
            outs.append(out.getvalue())
        assert json.loads(outs[0])["bundles"] == {BUNDLE_ID: 1}
        assert outs[0].count("\n") == 1
        assert f"{BUNDLE_ID} 1 workers" in outs[1]
        assert exposition.url in outs[1]
    finally:
        exposition.close()


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "http://127.0.0.1:1/metrics", "ftp://127.0.0.1/", "", "http://[/", "http://127.0.0.1:99999"]
)
def test_absent_server_and_bad_url_are_said(url: str):
    with pytest.raises(NotScraped, match="metrics"):
        scrape(url, timeout_s=1)


def test_live_view_says_when_the_server_goes_and_ends_at_ctrl_c(bundle_folder: Path, tmp_path: Path):
    main, terminal = pty.openpty()
    shown = io.StringIO()

    def read_until(text: str) -> None:
        while text not in shown.getvalue():
            assert select.select([main], [], [], 60)[0], shown.getvalue()
            shown.write(os.read(main, 65536).decode(errors="replace"))

    with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, url):
        # Whoever runs the tests in the background ignores Ctrl-C, and so would the command.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "turnout.serving.cli.app"]
        command += ["top", "--metrics", url, "--interval-s", "0.2"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "120"}
        with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as top:
            os.close(terminal)
            read_until(f"{BUNDLE_ID} 1 workers")
            server.process.kill()
            read_until("is the server running")
            top.send_signal(signal.SIGINT)
            assert top.wait(60) == 0
    os.close(main)
