"""Live check of promises: bounds that hold whenever one looks, a ladder that keeps them, counts that workers share."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from tests.builders import BUNDLE_ID
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import NEVER
from turnout.serving.bundles.risk_path import RiskPath
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.decision.rules.spec import ExplorationSpec, PolicyExplorationSpec, RuleSpec, RulesSpec
from turnout.serving.decision.tightening import LADDER, ladder, measured, tightened
from turnout.serving.observe.drift.betting import WEIGHTS, bounds, log_capital_above, weight_place
from turnout.serving.observe.drift.keeping import SeenPairs, step_to_keep
from turnout.serving.observe.drift.pairs import STEPS, Pledge, Tally
from turnout.serving.observe.drift.promises import MAX_TASKS, OTHER_TASKS, Promises
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.spool.tallies import FOLDER, TallyRow
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD, ROUTE_METHOD

DAY_S = 86_400
MIDDLE_OF_A_MONTH = 20_600.5 * DAY_S  # 2026-05-27, noon
POLICY = "max_worse=0.05"
PATH = RiskPath(
    thresholds=(0.9, 0.8, 0.7, 0.6, 0.5),
    worse=(1, 5, 10, 20, 35),
    share_weak=(0.1, 0.2, 0.3, 0.4, 0.5),
    share_worse=(0.001, 0.005, 0.01, 0.02, 0.035),
    n=1000,
    solved_delta=0.07,
    delta=0.1,
)


def promising(bundle: Bundle, risk: RiskPath | None = PATH) -> Bundle:
    """Return the bundle with a path of risks, from which any promise is solved."""
    manifest = msgspec.structs.replace(bundle.manifest, risk=risk, policies=[], default_policy=POLICY)
    return dataclasses.replace(bundle, manifest=manifest)


def pledge(**more: Any) -> Pledge:
    return Pledge(**{"bundle": BUNDLE_ID, "policy": POLICY, "task": "code", "depth": 1, "is_weak": True,
                     "propensity": 0.1, "least": 0.1} | more)  # fmt: skip


def watching(manifest: Manifest, spool: Path | None, **more: Any) -> tuple[Promises, ServerMetrics]:
    """Return promises of a server that has decided by the policy, and what shows them."""
    metrics = ServerMetrics()
    promises = Promises(metrics, spool, **{"tightens": True, "clock": lambda: MIDDLE_OF_A_MONTH} | more)
    promises.thresholds(manifest, manifest.policy(POLICY))
    return promises, metrics


def shown(metrics: ServerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(
        f"turnout_promise_{name}", {"bundle": BUNDLE_ID, "policy": POLICY} | labels
    )


def by_weight(zeros: int, ones: int, place: int = 0) -> tuple[np.ndarray, np.ndarray]:
    counts = np.zeros((2, WEIGHTS.size), np.int64)
    counts[:, place] = zeros, ones
    return counts[0], counts[1]


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_capital_against_a_kept_promise_seldom_grows_tenfold_however_often_one_looks(share: float):
    rng = np.random.default_rng(3)
    events = rng.random((400, 2000)) < share
    ones = np.zeros((400, 2000, WEIGHTS.size), np.int64)
    zeros = ones.copy()
    ones[..., 0] = events.cumsum(axis=1)
    zeros[..., 0] = np.arange(1, 2001) - ones[..., 0]
    ever = (log_capital_above(zeros, ones, np.array([share]))[..., 0] >= math.log(10)).any(axis=1)
    assert ever.mean() <= 0.1 + 0.03  # three standard errors below the bound would still be within
    assert ever.any()  # a test that never speaks would keep to any level


def test_bounds_hold_the_truth_and_narrow():
    lower, upper = bounds(*by_weight(1900, 100), 0.1)
    assert lower < 0.05 < upper
    assert upper - lower < 0.04
    assert bounds(*by_weight(0, 0), 0.1) == (0.0, 1.0)
    few = bounds(*by_weight(95, 5), 0.1)
    assert few[0] < lower < upper < few[1]


def test_weights_of_pairs_keep_the_mean_of_the_traffic_where_easy_requests_are_explored_more():
    rng = np.random.default_rng(5)
    zeros, ones = np.zeros((2, WEIGHTS.size), np.int64)
    for _ in range(60_000):
        is_hard = rng.random() < 0.5
        propensity = 0.05 if is_hard else 0.3
        if rng.random() < propensity:
            place = weight_place(propensity, 0.05, rng.random())
            if place is not None:
                (ones if rng.random() < (0.2 if is_hard else 0.0) else zeros)[place] += 1
    lower, upper = bounds(zeros, ones, 0.1)
    assert lower < 0.1 < upper
    unweighted = bounds(*by_weight(int(zeros.sum()), int(ones.sum())), 0.1)
    assert unweighted[1] < 0.1  # which is why they are weighted


@pytest.mark.parametrize("propensity", [0.011, 0.037, 0.2, 1.0])
def test_rounded_weight_has_the_mean_of_the_weight(propensity: float):
    places = [weight_place(propensity, 0.01, draw) for draw in np.linspace(0, 1, 20_001)[:-1]]
    mean = np.mean([0.0 if place is None else WEIGHTS[place] for place in places])
    assert mean == pytest.approx(0.01 / propensity, rel=1e-3)


def test_weight_beyond_the_least_propensity_counts_as_one():
    assert weight_place(0.001, 0.01, 0.5) == 0


def test_ladder_rises_from_the_promise_to_nothing(bundle: Bundle):
    manifest = promising(bundle).manifest
    policy = manifest.policy(POLICY)
    steps = ladder(manifest, policy)
    assert len(steps) == len(measured(manifest, policy)) == len(LADDER)
    assert steps[0] == policy.threshold
    assert steps[-1] == NEVER
    assert list(steps) == sorted(steps)
    assert list(measured(manifest, policy)) == sorted(measured(manifest, policy), reverse=True)
    stricter = tightened(policy, steps[2])
    assert (stricter.name, stricter.threshold, stricter.checked) == (policy.name, steps[2], None)
    assert tightened(policy, NEVER).threshold == 1.0


def test_ladder_without_a_path_of_risks_has_two_steps_and_other_policies_have_none(bundle: Bundle):
    policies = bundle.manifest.policies
    promise = msgspec.structs.replace(policies[0], kind="max_worse", target=0.05, threshold=0.7, is_met=True)
    assert ladder(bundle.manifest, promise) == (0.7, NEVER)
    assert measured(bundle.manifest, promise) == (promise.share_worse, 0.0)
    assert ladder(bundle.manifest, msgspec.structs.replace(promise, kind="min_quality")) == ()
    assert ladder(bundle.manifest, msgspec.structs.replace(promise, is_met=False)) == ()


EXPECTED = tuple(0.048 * share for share in LADDER)


@pytest.mark.parametrize(("worse", "step"), [(0.03, 0), (0.3, STEPS - 1)])
def test_step_follows_what_was_seen(worse: float, step: int):
    seen = SeenPairs(500, [500 * worse], [500 * worse])
    by_step = SeenPairs(500, [500 * worse] * (STEPS - 1) + [0.0], [500 * worse] * (STEPS - 1) + [0.0])
    assert step_to_keep(0.05, EXPECTED, seen, by_step, 1.0) == step


def test_step_makes_good_what_was_overspent():
    shares = [500 * share for share in EXPECTED]
    kept, overspent = SeenPairs(500, [15.0], [15.0]), SeenPairs(500, [30.0], [30.0])
    recent = SeenPairs(500, shares, shares)
    early = [step_to_keep(0.05, EXPECTED, spent, recent, 1.0) for spent in (kept, overspent)]
    assert 0 == early[0] < early[1] < STEPS - 1
    assert step_to_keep(0.05, EXPECTED, overspent, recent, 0.01) == STEPS - 1  # nothing is left to make it good with


def test_least_both_is_the_smallest_that_any_rule_gives():
    spec = RulesSpec(
        exploration=ExplorationSpec(both=0.2, policies=(PolicyExplorationSpec(policy="max*", both=0.1),)),
        rules=(RuleSpec(name="a", both=0.05), RuleSpec(name="b", both=0.0), RuleSpec(name="c")),
    )
    assert Rules(spec).least_both == 0.05
    assert Rules().least_both == 0.0


def test_pairs_show_bounds_by_policy_and_task_and_tighten(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path)
    policy = manifest.policy(POLICY)
    for number in range(400):
        promises.judged(pledge(task="code" if number % 2 else "chat", depth=STEPS - 1), match=number % 4 != 1)
    assert promises.policy(manifest, policy) == policy
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert shown(metrics, "limit_ratio") == 0.05
    assert shown(metrics, "pairs", task="*") == 400
    assert shown(metrics, "worse_lower_ratio", task="code") > 0.3
    assert shown(metrics, "worse_upper_ratio", task="chat") < 0.05
    assert 0.05 < shown(metrics, "worse_lower_ratio", task="*") < 0.25 < shown(metrics, "worse_upper_ratio", task="*")
    assert shown(metrics, "step") == STEPS - 1
    assert promises.policy(manifest, policy).threshold == 1.0


def test_without_tighten_thresholds_stay_and_bounds_are_shown(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path, tightens=False)
    for _ in range(200):
        promises.judged(pledge(), match=0)
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert shown(metrics, "worse_lower_ratio", task="*") > 0.9
    assert shown(metrics, "step") == 0
    assert promises.policy(manifest, manifest.policy(POLICY)) == manifest.policy(POLICY)


def test_too_few_pairs_steer_nothing(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path)
    for _ in range(5):
        promises.judged(pledge(), match=0)
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert shown(metrics, "step") == 0


def test_workers_add_up_and_a_restart_forgets_nothing(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    first, _ = watching(manifest, tmp_path)
    second, metrics = watching(manifest, tmp_path)
    for _ in range(50):
        first.judged(pledge(), match=1)
        second.judged(pledge(), match=0)
    first.exchange()
    second.settle(second.exchange(), 0.1, [manifest])
    assert shown(metrics, "pairs", task="*") == 100
    restarted = ServerMetrics()
    third = Promises(restarted, tmp_path, tightens=True, clock=lambda: MIDDLE_OF_A_MONTH)
    third.settle(third.exchange(), 0.1, [manifest])
    assert shown(restarted, "pairs", task="*") == 100
    assert shown(restarted, "step") == shown(metrics, "step") > 0


def test_a_month_begins_anew_and_old_files_go(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    before, _ = watching(manifest, tmp_path)
    before.judged(pledge(), match=0)
    before.exchange()
    later, metrics = watching(manifest, tmp_path, clock=lambda: MIDDLE_OF_A_MONTH + 40 * DAY_S)
    later.settle(later.exchange(), 0.1, [manifest])
    assert shown(metrics, "pairs", task="*") == 0
    assert not list((tmp_path / FOLDER).glob("*.json"))


def test_pairs_of_other_rules_do_not_count_with_these(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path)
    promises.judged(pledge(least=0.01), match=0)
    promises.judged(pledge(), match=1)
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert shown(metrics, "pairs", task="*") == 1


def test_of_a_session_one_pair_counts(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path)
    for session in (1, 1, 2, 0, 0):
        promises.judged(pledge(session=session), match=1)
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert shown(metrics, "pairs", task="*") == 4


def test_tasks_are_bounded_and_odd_names_are_no_labels(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path)
    for number in range(3 * MAX_TASKS):
        promises.judged(pledge(task=f"task {number}"), match=1)
    for task in ("", "x" * 41, "a\nb", "*"):
        promises.judged(pledge(task=task), match=1)
    promises.settle(promises.exchange(), 0.1, [manifest])
    tasks = {
        sample.labels["task"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "turnout_promise_pairs"
    }
    assert len(tasks) == MAX_TASKS + 2
    assert shown(metrics, "pairs", task=OTHER_TASKS) == 2 * MAX_TASKS + 4
    assert shown(metrics, "pairs", task="*") == 3 * MAX_TASKS + 4


def test_bundle_that_left_shows_nothing_any_more(bundle: Bundle, tmp_path: Path):
    manifest = promising(bundle).manifest
    promises, metrics = watching(manifest, tmp_path)
    for _ in range(200):
        promises.judged(pledge(), match=0)
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert shown(metrics, "step") > 0
    promises.settle(promises.exchange(), 0.1, [])
    assert shown(metrics, "step") == 0
    assert shown(metrics, "worse_lower_ratio", task="*") == shown(metrics, "pairs", task="code") == 0


def test_damaged_file_and_full_disk_leave_the_own_counts(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    manifest = promising(bundle).manifest
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "1.json").write_bytes(b"[[")
    promises, metrics = watching(manifest, tmp_path)
    promises.judged(pledge(), match=1)
    promises.settle(promises.exchange(), 0.1, [manifest])
    assert "damaged" in caplog.text
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")  # no folder can be made in it
    alone, metrics = watching(manifest, blocked)
    alone.judged(pledge(), match=1)
    alone.settle(alone.exchange(), 0.1, [manifest])
    assert shown(metrics, "pairs", task="*") == 1
    assert "go alone" in caplog.text


def test_tally_passes_over_rows_that_it_does_not_know():
    good = TallyRow(1, "b", "p", "t", 0.1, 0, 2, 1, 3)
    odd = [msgspec.structs.replace(good, **{name: 99}) for name in ("place", "depth", "worse")]
    assert Tally.of([good, *odd]).n == 3
    assert Tally.of([good]).seen_by_step().worse == [3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("missing", ["spool", "rules"])
def test_tighten_is_refused_where_no_pair_can_come(tmp_path: Path, missing: str):
    given = {"spool": tmp_path, "rules": tmp_path / "rules.toml"}
    given.pop(missing)
    with pytest.raises(SettingsRefused, match="tighten: expected spool and rules"):
        ServerSettings(tighten=True, **given)


def test_server_tightens_once_the_pairs_of_its_callers_say_so(bundle: Bundle, tmp_path: Path):
    served = promising(bundle)
    rules = tmp_path / "rules.toml"
    rules.write_text("[exploration]\nboth = 1.0\n")
    text = next(
        text
        for text in ("hello " * n for n in range(1, 60))
        if bundle.model.predict(prompt_from_text(text), served.manifest.policy(POLICY).threshold).p_match
        >= served.manifest.policy(POLICY).threshold
    )

    async def tiers() -> tuple[int, int, float, float | None]:
        settings = {"spool": tmp_path / "spool", "rules": rules, "tighten": True}
        async with (
            server_in_loop(served, **settings) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            service = server.service
            first = await routed(channel, text, "first")
            service.drift.sample([served])
            for number in range(120):
                await routed(channel, text, f"{number}")
                outcome = pb.ReportOutcomeRequest(request_id=f"{number}", preference="strong")
                await ask(channel, REPORT_OUTCOME_METHOD, outcome)
            service.promises.settle(service.promises.exchange(), 1.0, [served.manifest])
            last = await routed(channel, text, "last")
            return first.tier, last.tier, last.threshold, shown(service.metrics, "pairs", task="*")

    before, after, threshold, pairs = asyncio.run(tiers())
    assert (before, after) == (pb.TIER_WEAK, pb.TIER_STRONG)
    assert threshold > served.manifest.policy(POLICY).threshold
    assert pairs == 120


async def routed(channel: grpc.aio.Channel, text: str, request_id: str) -> Any:
    asked = pb.RouteRequest(text=text, request_id=request_id, task="code")
    return pb.RouteResponse.FromString(await ask(channel, ROUTE_METHOD, asked))


async def ask(channel: grpc.aio.Channel, method: str, request: Any) -> bytes:
    answer: bytes = await channel.unary_unary(method)(request.SerializeToString(), timeout=60)
    return answer
