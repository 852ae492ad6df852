"""Live check of a ladder's promises: rungs between are counted against the top, and all thresholds tighten together."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from tests.builders import LADDER_NAMES
from tests.checkers import with_second_look
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import NEVER
from turnout.serving.bundles.risk_path import RiskPath
from turnout.serving.decision.tightening import LADDER, ladder, measured, rung_steps, rungs_measured, tightened
from turnout.serving.observe.drift.betting import bounds
from turnout.serving.observe.drift.derived import drift_families
from turnout.serving.observe.drift.pairs import STEPS, Pledge, Tally
from turnout.serving.observe.drift.promises import Promises
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.spool.tallies import TallyRow
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD, ROUTE_METHOD

MINI, FULL, TOP = LADDER_NAMES
SHORT, MIDDLE, LONG = "hello", "word " * 20, "word " * 400
POLICY = "max_worse=0.05"
NOON_S = 20_600.5 * 86_400
PATH = RiskPath(
    thresholds=(0.95, 0.9, 0.85, 0.8, 0.75),
    worse=(1, 5, 10, 20, 35),
    share_weak=(0.1, 0.2, 0.3, 0.4, 0.5),
    share_worse=(0.001, 0.005, 0.01, 0.02, 0.035),
    n=1000,
    solved_delta=0.07,
    delta=0.1,
    t_rungs=((0.99,), (0.97,), (0.95,), (0.88,), (0.8,)),
)


@pytest.fixture(scope="module")
def promising(ladder_bundle_folder: Path) -> Bundle:
    """Return the tiny ladder with a path of risks, from which its promises are solved."""
    bundle = load_bundle(ladder_bundle_folder)
    manifest = msgspec.structs.replace(bundle.manifest, risk=PATH, policies=[], default_policy=POLICY)
    return dataclasses.replace(bundle, manifest=manifest)


def test_every_step_is_a_stricter_point_of_the_path_in_all_thresholds(promising: Bundle):
    manifest = promising.manifest
    policy = manifest.policy(POLICY)
    first, between = ladder(manifest, policy), rung_steps(manifest, policy)
    assert len(first) == len(between) == len(measured(manifest, policy)) == len(LADDER)
    assert (first[0], between[0]) == (policy.threshold, policy.t_rungs)
    assert (first[-1], between[-1]) == (NEVER, (NEVER,))
    assert list(first) == sorted(first)
    assert list(between) == sorted(between)
    points = set(zip(PATH.thresholds, PATH.t_rungs, strict=True)) | {(NEVER, (NEVER,))}
    assert set(zip(first, between, strict=True)) <= points
    strict = tightened(policy, first[2], between[2])
    assert (strict.name, strict.threshold, strict.t_rungs) == (policy.name, first[2], between[2])


def test_without_a_path_there_are_two_steps_and_a_pair_has_none_of_rungs(promising: Bundle, bundle: Bundle):
    bare = msgspec.structs.replace(promising.manifest, risk=None)
    policy = promising.manifest.policy(POLICY)
    assert rung_steps(bare, policy) == (policy.t_rungs, (NEVER,))
    assert rung_steps(bundle.manifest, bundle.manifest.policy("")) == ()


def step_taken(
    manifest: Manifest, policy: str, tmp_path: Path, seen: list[tuple[int, int, int, int]], now_s: float = NOON_S
) -> int:
    """Return the step that is served after pairs of (days ago, step in force, worse, how many)."""
    promises = Promises(ServerMetrics(), tmp_path, tightens=True, clock=lambda: now_s)
    promised = manifest.policy(policy)
    assert promises.thresholds(manifest, promised)
    day = int(now_s // 86_400)
    rows = [TallyRow(day - ago, manifest.bundle_id, policy, "", 0.1, 0, step, worse, n) for ago, step, worse, n in seen]
    promises.settle(rows, 0.1, [manifest])
    return promises.step(manifest, promised)


def test_a_step_at_which_training_saw_nothing_worse_is_tightened_from_like_any_other(promising: Bundle, tmp_path: Path):
    path = msgspec.structs.replace(PATH, worse=(0, 0, 10, 20, 35), share_worse=(0.0, 0.0, 0.01, 0.02, 0.035))
    manifest = msgspec.structs.replace(promising.manifest, risk=path, policies=[])
    policy = manifest.policy(POLICY)
    assert measured(manifest, policy)[-2] == 0.0
    assert ladder(manifest, policy)[-2] < NEVER
    assert rungs_measured(manifest, policy)[-2:] == (0.5 / PATH.n, 0.0)
    seen = [(9, 0, 0, 2000), (1, 5, 0, 100), (1, 5, 1, 100)]
    assert step_taken(manifest, POLICY, tmp_path, seen) >= 5


def test_a_small_ladder_without_a_worse_row_tightens_as_a_pair_would(promising: Bundle, tmp_path: Path):
    path = msgspec.structs.replace(PATH, worse=(0,) * 5, share_worse=(0.0,) * 5, n=300)
    manifest = msgspec.structs.replace(promising.manifest, risk=path, policies=[])
    second_of_may_s = 20_575.5 * 86_400
    seen = [(1, 0, 0, 900), (1, 0, 1, 100)]
    name = "max_worse=0.02"
    step = step_taken(manifest, name, tmp_path, seen, second_of_may_s)
    assert ladder(manifest, manifest.policy(name))[step] == NEVER


def served(
    bundle: Bundle, tmp_path: Path, rules: str, texts: list[str], is_worse: Callable[[str, str], bool], **settings: Any
) -> tuple[ServerMetrics, list[Any], Promises]:
    """Route the texts and report both answers of each pair; return the metrics and what came back."""
    (tmp_path / "rules.toml").write_text(rules)
    given = {"spool": tmp_path / "spool", "rules": tmp_path / "rules.toml"} | settings

    async def run() -> tuple[ServerMetrics, list[Any], Promises]:
        async with (
            server_in_loop(bundle, **given) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            service, found = server.service, []
            service.promises._clock = lambda: NOON_S  # how strict a step has to be depends on the days left
            await ask(channel, ROUTE_METHOD, pb.RouteRequest(text=SHORT, request_id="first"))
            service.drift.sample([bundle])
            for number, text in enumerate(texts):
                asked = pb.RouteRequest(text=text, request_id=str(number))
                routed = pb.RouteResponse.FromString(await ask(channel, ROUTE_METHOD, asked))
                found.append(routed)
                if not routed.wants_both:
                    continue
                lower = routed.rung if routed.rung != TOP else routed.other.name
                score = 0.0 if is_worse(text, lower) else 1.0
                for rung, one in ((lower, score), (TOP, 1.0)):
                    model, _, effort = rung.partition(":")
                    name = rung if effort else ""
                    outcome = pb.ReportOutcomeRequest(request_id=str(number), model=model, rung=name, score=one)
                    await ask(channel, REPORT_OUTCOME_METHOD, outcome)
            service.promises.settle(service.promises.exchange(), 1.0, [bundle.manifest])
            service.drift.show()
            return service.metrics, found, service.promises

    return asyncio.run(run())


async def ask(channel: grpc.aio.Channel, method: str, request: Any) -> bytes:
    answer: bytes = await channel.unary_unary(method)(request.SerializeToString(), timeout=60)
    return answer


def shown(metrics: ServerMetrics, name: str, **labels: str) -> float | None:
    labels = {"bundle": "ladder/1", "policy": POLICY} | labels
    return metrics.registry.get_sample_value(f"turnout_promise_{name}", labels)


def test_a_rung_between_that_got_worse_breaks_the_promise_and_tightens_both_thresholds(
    promising: Bundle, tmp_path: Path
):
    texts = [SHORT, MIDDLE] * 100
    rules = "[exploration]\nboth = 1.0\n"

    def between_is_worse(_: str, rung: str) -> bool:
        return rung == FULL

    metrics, found, promises = served(promising, tmp_path, rules, texts, between_is_worse, tighten=True)
    assert {one.rung for one in found[:2]} == {MINI, FULL}
    assert shown(metrics, "pairs", task="*") == 200
    lower, upper = (shown(metrics, f"worse_{end}_ratio", task="*") for end in ("lower", "upper"))
    assert 0.3 < lower < 0.5 < upper
    manifest, step = promising.manifest, int(shown(metrics, "step"))
    policy = manifest.policy(POLICY)
    strict = promises.policy(manifest, policy)
    assert step >= STEPS - 3
    assert (strict.threshold, strict.t_rungs) == (
        min(1.0, ladder(manifest, policy)[step]),
        rung_steps(manifest, policy)[step],
    )
    assert strict.threshold > policy.threshold
    assert strict.t_rungs > policy.t_rungs


def test_the_top_is_never_worse_whichever_rung_was_wanted_beside_it(promising: Bundle, tmp_path: Path):
    texts = [SHORT, LONG] * 60
    metrics, found, _ = served(promising, tmp_path, "[exploration]\nboth = 1.0\n", texts, lambda text, _: text == LONG)
    assert {one.rung for one in found} == {MINI, TOP}
    assert shown(metrics, "pairs", task="*") == 120
    assert shown(metrics, "worse_upper_ratio", task="*") < 0.1


def test_what_a_draw_moved_away_from_its_rung_tells_nothing_of_it(promising: Bundle, tmp_path: Path):
    """Of requests that go to the rung between, a half is moved: to the first, which is always worse, and to the top."""
    texts = [MIDDLE] * 300
    rules = "[exploration]\nboth = 1.0\nrate = 0.5\n"
    metrics, found, _ = served(promising, tmp_path, rules, texts, lambda _, rung: rung == MINI)
    taken = [one.rung for one in found]
    beside_top = sum(one.rung == TOP and one.other.name == FULL for one in found)
    assert shown(metrics, "pairs", task="*") == taken.count(FULL) + beside_top
    assert taken.count(MINI) > 30
    assert shown(metrics, "worse_upper_ratio", task="*") < 0.05


def test_weights_give_back_the_share_made_worse_where_exploration_favours_some(promising: Bundle):
    """One rung of two is told less often: its share made worse still counts as it came."""
    rng, metrics = np.random.default_rng(4), ServerMetrics()
    promises = Promises(metrics, Path("/nonexistent"), tightens=False, clock=lambda: NOON_S)
    manifest = promising.manifest
    promises.thresholds(manifest, manifest.policy(POLICY))
    most_other = 0.4
    for _ in range(40_000):
        goes_between = rng.random() < 0.5
        told = 0.1 if goes_between else 0.1 * (1 - most_other)
        if rng.random() < told:
            is_worse = goes_between and rng.random() < 0.2
            pledge = Pledge(
                "ladder/1", POLICY, "", 0, is_weak=True, propensity=told / (1 - most_other), least=0.1, step=0
            )
            promises.judged(pledge, match=int(not is_worse))
    tally = promises._own
    served_counts = Tally.of(TallyRow(*key, n) for key, n in tally.items()).served
    lower, upper = bounds(*served_counts, 0.1)
    assert lower < 0.1 < upper
    assert upper - lower < 0.05
    raw = sum(key[-1] * n for key, n in tally.items()) / sum(tally.values())
    assert raw > 0.115  # which is why they are weighted


def test_callers_that_check_have_no_promise_watched_on_a_ladder(promising: Bundle, tmp_path: Path):
    checking = with_second_look(promising, t_rungs=(0.8,))
    promises = Promises(ServerMetrics(), tmp_path, tightens=True, clock=lambda: NOON_S)
    policy = checking.manifest.policy(POLICY)
    assert promises.thresholds(checking.manifest, policy, over_three=True) == ()
    assert promises.thresholds(checking.manifest, policy)


@pytest.mark.parametrize("drift", [1.0, 3.0])
def test_months_keep_the_promise_when_every_rung_gets_worse_and_only_then_pay_for_it(
    promising: Bundle, tmp_path: Path, drift: float
):
    """A month of 30 days with 40 pairs a day; each step makes worse what training measured of it, times the drift."""
    manifest = promising.manifest
    policy = manifest.policy(POLICY)
    shares = [min(1.0, drift * share) for share in measured(manifest, policy)]
    broken_with = broken_without = 0
    steps: list[int] = []
    for month in range(6):
        rng, clock = np.random.default_rng(month), [20_605 * 86_400.0]  # the first of a month
        promises = Promises(ServerMetrics(), tmp_path / f"{drift}-{month}", tightens=True, clock=lambda at=clock: at[0])
        promises.thresholds(manifest, policy)
        made_worse = 0.0
        for _ in range(30 * 4):
            step = promises.step(manifest, policy)
            steps.append(step)
            made_worse += shares[step] / 120
            for _ in range(10):
                pledge = Pledge("ladder/1", POLICY, "", 0, is_weak=True, propensity=0.1, least=0.1, step=step)
                promises.judged(pledge, match=int(rng.random() >= shares[step]))
            promises.settle(promises.exchange(), 0.1, [manifest])
            clock[0] += 86_400 / 4
        broken_with += made_worse > policy.target
        broken_without += shares[0] > policy.target
    assert broken_with <= 1
    assert broken_without == (6 if drift > 1 else 0)
    assert (np.mean(steps) > 0.5) == (drift > 1)


@pytest.mark.slow
def test_calibration_of_a_rung_between_is_a_measure_of_its_own(promising: Bundle, tmp_path: Path):
    metrics, _, _ = served(
        promising, tmp_path, "[exploration]\nboth = 1.0\n", [MIDDLE] * 310, lambda _, rung: rung == FULL
    )
    labels = {"bundle": "ladder/1", "measure": f"calibration_error:{FULL}"}
    found = {
        sample.name: sample.value
        for family in drift_families(list(metrics.registry.collect()))
        for sample in family.samples
        if sample.labels == labels
    }
    assert found["turnout_drift_ratio"] > 0.8
    assert found["turnout_drift_limit_ratio"] < 0.2
    pair = metrics.registry.get_sample_value("turnout_drift_outcomes", {"bundle": "ladder/1", "bin": "14", "of": "n"})
    assert not pair  # p_match is of the first rung, of which nothing was compared
