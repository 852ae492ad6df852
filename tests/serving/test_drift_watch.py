"""What a worker notes of its traffic, from decisions and outcomes to the gauges."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.builders import BUNDLE_ID
from tests.drift_builders import made_up_baseline, measured_bundle, traffic
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.limits import MIN_OUTCOMES, MIN_ROWS
from turnout.serving.decision.routes import Route
from turnout.serving.observe.drift.watch import MAX_KNOWN, MAX_WAITING, DriftWatch
from turnout.serving.observe.drift.window import WINDOW, RequestWindow
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.model import Prediction, Stage
from turnout.serving.spool.outcome import Outcome
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD, ROUTE_METHOD

USUAL = [f"{word} the word " * n for word in ("hello", "words", "the") for n in range(1, 25)]


def reading(metrics: ServerMetrics, measure: str, name: str = "drift_ratio") -> float | None:
    return metrics.registry.get_sample_value(f"turnout_{name}", {"bundle": BUNDLE_ID, "measure": measure})


def is_beyond(metrics: ServerMetrics, measure: str) -> bool:
    value, limit = reading(metrics, measure), reading(metrics, measure, "drift_limit_ratio")
    assert value is not None
    assert limit is not None
    return value > limit


def watched(bundle: Bundle, n: int, shift: float = 0.0) -> tuple[DriftWatch, ServerMetrics, Bundle]:
    """Return a watch that saw `n` requests of `traffic`, with what it shows."""
    metrics = ServerMetrics()
    measured = dataclasses.replace(bundle, baseline=made_up_baseline())
    watch = DriftWatch(metrics, awaits_outcomes=True)
    p_match, structural = traffic(np.random.default_rng(7), n, shift)
    for number, (probability, measures) in enumerate(zip(p_match, structural, strict=True)):
        watch.predicted(measured, Prediction(probability, Stage.FAST), measures)
        if number % MAX_WAITING == 0:
            watch.sample([measured])
    watch.sample([measured])
    watch.show()
    return watch, metrics, measured


def test_traffic_like_the_baseline_is_within_every_limit(bundle: Bundle):
    _, metrics, measured = watched(bundle, WINDOW)
    assert measured.baseline is not None
    assert not any(is_beyond(metrics, bins.name) for bins in measured.baseline.bins)


def test_traffic_of_another_kind_is_beyond(bundle: Bundle):
    _, metrics, _ = watched(bundle, WINDOW, shift=0.7)
    assert is_beyond(metrics, "p_match")
    assert is_beyond(metrics, "log_tokens")
    assert not is_beyond(metrics, "log_tools")


def test_too_few_requests_show_nothing(bundle: Bundle):
    _, metrics, _ = watched(bundle, MIN_ROWS - 1, shift=3.0)
    assert reading(metrics, "p_match") is None


def test_window_forgets_what_is_older():
    window = RequestWindow(made_up_baseline())
    rng = np.random.default_rng(3)
    for shift in (3.0, 0.0):
        p_match, structural = traffic(rng, WINDOW, shift)
        window.add(np.column_stack((p_match, structural, np.zeros(WINDOW))))
    fresh = RequestWindow(window.baseline)
    fresh.add(np.column_stack((p_match, structural, np.zeros(WINDOW))))
    assert window.counts() == fresh.counts()
    assert {sum(counts) for counts in window.counts()} == {WINDOW}


def test_waiting_and_known_requests_are_bounded(bundle: Bundle):
    watch, _, measured = watched(bundle, 0)
    prediction = Prediction(0.9, Stage.FAST)
    for number in range(MAX_KNOWN + 10):
        watch.predicted(measured, prediction, np.zeros(16, np.float32))
        watch.decided(measured, Route.WEAK, f"{number}", prediction)
    assert len(watch._known) == MAX_KNOWN
    assert len(watch._watched[BUNDLE_ID].waiting) == MAX_WAITING


def test_outcomes_that_contradict_p_match_show(bundle: Bundle):
    watch, metrics, measured = watched(bundle, 0)
    rng = np.random.default_rng(0)
    for number in range(2 * MIN_OUTCOMES):
        watch.decided(measured, Route.WEAK, f"{number}", Prediction(0.95, Stage.FAST))
        watch.reported(
            Outcome(request_id=f"{number}", received_s=1.0, preference="weak" if rng.random() < 0.7 else "strong")
        )
    watch.reported(Outcome(request_id="of another worker", received_s=1.0, preference="weak"))
    watch.show()
    assert is_beyond(metrics, "calibration_error")
    assert is_beyond(metrics, "brier")
    assert reading(metrics, "calibration_error") == pytest.approx(0.25, abs=0.05)


def test_two_scores_of_a_request_tell_the_match_and_one_does_not(bundle: Bundle):
    watch, metrics, measured = watched(bundle, 0)
    for number in range(MIN_OUTCOMES):
        watch.decided(measured, Route.STRONG, f"{number}", Prediction(0.9, Stage.FAST))
        watch.reported(Outcome(request_id=f"{number}", received_s=1.0, score=0.4))
    watch.show()
    assert reading(metrics, "brier") is None
    for number in range(MIN_OUTCOMES):
        watch.reported(Outcome(request_id=f"{number}", received_s=1.0, tier="weak", score=0.4))
    watch.show()
    assert reading(metrics, "brier") == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["{}", "{}-2024-08-06", "azure/{}"])
def test_two_scores_tell_the_match_where_outcomes_name_the_models_alone(bundle: Bundle, name: str):
    watch, metrics, measured = watched(bundle, 0)
    pair = measured.manifest.pair
    for number in range(MIN_OUTCOMES):
        watch.decided(measured, Route.STRONG, f"{number}", Prediction(0.9, Stage.FAST))
        for model, score in ((pair.weak, 0.4), (pair.strong, 0.6)):
            watch.reported(Outcome(request_id=f"{number}", received_s=1.0, model=name.format(model), score=score))
    watch.show()
    assert reading(metrics, "brier") == pytest.approx(0.81)


def test_scores_of_a_model_outside_the_pair_tell_nothing(bundle: Bundle):
    watch, metrics, measured = watched(bundle, 0)
    for number in range(MIN_OUTCOMES):
        watch.decided(measured, Route.STRONG, f"{number}", Prediction(0.9, Stage.FAST))
        for model in ("another", measured.manifest.pair.weak):
            watch.reported(Outcome(request_id=f"{number}", received_s=1.0, model=model, score=0.4))
    watch.show()
    assert reading(metrics, "brier") is None


def test_a_bundle_that_left_shows_nothing_any_more(bundle: Bundle):
    watch, metrics, _ = watched(bundle, WINDOW)
    assert reading(metrics, "p_match") is not None
    watch.sample([])
    assert reading(metrics, "p_match") is None


def test_bundle_without_a_baseline_is_served_and_not_watched(bundle: Bundle):
    assert bundle.baseline is None
    watch = DriftWatch(ServerMetrics(), awaits_outcomes=False)
    watch.predicted(bundle, Prediction(0.9, Stage.FAST), np.zeros(16, np.float32))
    watch.decided(bundle, Route.WEAK, "r", Prediction(0.9, Stage.FAST))
    watch.sample([bundle])
    assert watch._known == {}
    assert watch._watched[BUNDLE_ID].waiting == []


@pytest.mark.slow
def test_server_shows_a_shift_of_its_traffic_and_outcomes_that_disappoint(tmp_path: Path):
    loaded = load_bundle(measured_bundle(tmp_path / "bundle", USUAL))

    async def seen(texts: list[str], preference: str) -> ServerMetrics:
        async with (
            server_in_loop(loaded, spool=tmp_path / "spool") as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            for number, text in enumerate(texts):
                await ask(channel, ROUTE_METHOD, pb.RouteRequest(text=text, request_id=f"{number}"))
                if number < MIN_OUTCOMES:
                    outcome = pb.ReportOutcomeRequest(request_id=f"{number}", preference=preference)
                    await ask(channel, REPORT_OUTCOME_METHOD, outcome)
                if number % MAX_WAITING == 0:
                    server.service.drift.sample([loaded])
            server.service.drift.sample([loaded])
            server.service.drift.show()
            return server.service.metrics

    usual = asyncio.run(seen(USUAL * (1 + MIN_ROWS // len(USUAL)), "tie"))
    shifted = asyncio.run(seen(["is that so? " * 30] * MIN_ROWS, "tie"))
    assert not is_beyond(usual, "log_tokens")
    assert not is_beyond(usual, "p_match")
    beyond = {measure for measure in ("log_tokens", "log_questions", "p_match", "brier") if is_beyond(shifted, measure)}
    assert beyond == {"log_tokens", "log_questions", "p_match", "brier"}


def test_unnamed_outcome_of_an_explored_request_is_of_the_tier_that_was_taken(tmp_path: Path):
    loaded = load_bundle(measured_bundle(tmp_path / "bundle", USUAL))
    rules = tmp_path / "rules.toml"
    rules.write_text("[exploration]\nrate = 0.5\nboth = 1.0\n")
    other = {pb.TIER_WEAK: pb.TIER_STRONG, pb.TIER_STRONG: pb.TIER_WEAK}

    async def brier() -> float | None:
        async with (
            server_in_loop(loaded, spool=tmp_path / "spool", rules=rules) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            for number in range(MIN_OUTCOMES):
                asked = pb.RouteRequest(text=USUAL[number % len(USUAL)], request_id=f"{number}")
                routed = pb.RouteResponse.FromString(await ask(channel, ROUTE_METHOD, asked))
                for tier in (pb.TIER_UNSPECIFIED, other[routed.tier]):
                    outcome = pb.ReportOutcomeRequest(request_id=f"{number}", tier=tier, score=0.5)
                    await ask(channel, REPORT_OUTCOME_METHOD, outcome)
            server.service.drift.show()
            return reading(server.service.metrics, "brier")

    assert asyncio.run(brier()) is not None  # of each request both scores are known


async def ask(channel: grpc.aio.Channel, method: str, request: Any) -> bytes:
    answer: bytes = await channel.unary_unary(method)(request.SerializeToString(), timeout=60)
    return answer
