"""Both looks in an evaluation and on the page: figures by hand, promises where they land, waiting, what is shown."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.training.looks import CHECK_USD, STRONG_USD, WEAK_USD, both_looks, checked_manifest, judged
from tests.training.outcomes import full_outcomes, served
from tests.training.runs import blank_figures
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import NEVER
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.evaluation.looks import TwoLooks
from turnout.training.evaluation.rules import judge_rules
from turnout.training.evaluation.two_looks import BothLooks, rests_on
from turnout.training.policy.checked import always_try
from turnout.training.policy.three_actions import ALWAYS_STRONG, Thresholds, trace_path, with_cap
from turnout.training.report import render_report, words
from turnout.training.report.card import render_card
from turnout.training.report.explorer import explorer


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return full_outcomes(1500)


@pytest.fixture(scope="module")
def looks(outcomes: Outcomes) -> BothLooks:
    return both_looks(outcomes)


@pytest.fixture(scope="module")
def manifest(looks: BothLooks) -> Manifest:
    return checked_manifest(looks)


@pytest.fixture(scope="module")
def found(outcomes: Outcomes, looks: BothLooks, manifest: Manifest) -> TwoLooks:
    return judged(outcomes, looks, manifest, always_try=always_try(manifest.policies, looks.rows, 0))


@pytest.fixture(scope="module")
def evaluation(outcomes: Outcomes, found: TwoLooks) -> Evaluation:
    whole = evaluate(outcomes, n_seen=0, n_bootstraps=20, served=served(outcomes))
    return msgspec.structs.replace(whole, two_looks=found)


def test_outcome_of_a_rule_is_what_a_count_by_hand_gives(looks: BothLooks):
    rows = looks.rows
    rule = Thresholds(t_strong=0.6, t_weak=0.97, t_accept=0.9)
    (outcome,) = judge_rules(rows, [rule], 0, 0)
    weak = rows.first >= 0.97
    tried = (rows.first >= 0.6) & ~weak
    accepted = tried & (rows.second >= 0.9)
    shown, twice = weak | accepted, tried & ~accepted
    assert outcome.answered_weak == pytest.approx(shown.mean())
    assert outcome.waits_twice == pytest.approx(twice.mean())
    assert outcome.worse == pytest.approx((shown & (rows.match == 0)).mean())
    assert outcome.worse_of_weak == pytest.approx((rows.match[shown] == 0).mean())
    usd = WEAK_USD * (weak | tried) + STRONG_USD * ~shown + CHECK_USD * (tried & (rows.costs.check > 0))
    assert outcome.cost == pytest.approx(usd.sum() / (STRONG_USD * rows.match.size))
    score = np.where(shown, rows.weak_score, rows.strong_score).sum()
    assert outcome.quality == pytest.approx(score / rows.strong_score.sum())


def test_all_strong_answers_nothing_and_costs_all(looks: BothLooks):
    (outcome,) = judge_rules(looks.rows, [ALWAYS_STRONG], 0, 30)
    assert (outcome.answered_weak, outcome.waits_twice, outcome.worse_of_weak) == (0.0, 0.0, None)
    assert (outcome.cost, outcome.quality) == (pytest.approx(1.0), pytest.approx(1.0))
    assert outcome.intervals["cost"] == pytest.approx((1.0, 1.0))
    assert outcome.intervals["worse_of_weak"] is None


def test_landings_are_what_the_policies_were_solved_to(found: TwoLooks, manifest: Manifest):
    assert [landing.policy for landing in found.landings] == [policy.name for policy in manifest.policies]
    policy, landing = manifest.policies[0], found.landings[0]
    assert landing.two_looks.answered_weak == pytest.approx(policy.checked.share_answered_weak)
    assert landing.two_looks.waits_twice == pytest.approx(policy.checked.share_escalated)
    assert landing.two_looks.cost == pytest.approx(policy.checked.cost_ratio)
    low, high = landing.two_looks.intervals["answered_weak"]
    assert low < landing.two_looks.answered_weak < high
    assert landing.two_looks.cost <= landing.always_try.cost + 0.02  # both within the noise of 1,500 rows


def test_paths_rise_from_all_strong_and_hold_the_policies(found: TwoLooks, manifest: Manifest):
    for path in found.paths.values():
        assert path.answered_weak == sorted(path.answered_weak)
        assert path.answered_weak[0] == 0.0
        assert all(low <= high for low, high in zip(path.quality_low, path.quality_high, strict=True))
        assert all(bound >= worse - 0.02 for bound, worse in zip(path.worse_bound, path.worse, strict=True))
    assert found.paths["one_look"].cost[0] == pytest.approx(1.0)
    assert set(found.paths["one_look"].waits_twice) == {0.0}
    assert manifest.policies[0].checked.t_accept in found.paths["two_looks"].t_accept


def test_no_label_moves_the_points_of_a_path(outcomes: Outcomes, looks: BothLooks, manifest: Manifest, found: TwoLooks):
    flipped = dataclasses.replace(looks, rows=dataclasses.replace(looks.rows, match=1 - looks.rows.match))
    again = judged(outcomes, flipped, manifest, n_bootstraps=0)
    assert again.paths["two_looks"].t_accept == found.paths["two_looks"].t_accept
    assert again.paths["two_looks"].worse != found.paths["two_looks"].worse


def test_each_kind_of_signal_has_its_own_figures(found: TwoLooks, looks: BothLooks):
    kinds = {kind.name: kind for kind in found.kinds}
    assert set(kinds) == {"none", "self_check", "mean_logprob", "any"}
    assert kinds["any"].n == kinds["self_check"].n + kinds["mean_logprob"].n
    assert kinds["none"].n + kinds["any"].n == found.n == looks.answered.size
    assert found.n_unanswered == looks.rows.match.size - looks.answered.size
    assert kinds["any"].metrics.auroc > kinds["none"].metrics.auroc + 0.1
    assert found.metrics.auroc > found.first.auroc
    for kind in kinds.values():
        assert sum(one.n for one in kind.reliability) == kind.n
        assert sum(kind.rests_on.values()) == pytest.approx(1.0)
    assert kinds["none"].rests_on["signals"] == pytest.approx(0.0)
    assert kinds["any"].auroc_of["signals"] > kinds["any"].auroc_of["answer"]


def test_shares_of_the_spread_are_those_of_independent_parts():
    parts = np.random.default_rng(0).normal(0.0, (1.0, 2.0, 3.0), (200_000, 3))
    shares = rests_on(parts)
    assert shares == pytest.approx({"prompt": 1 / 14, "answer": 4 / 14, "signals": 9 / 14}, abs=0.01)
    assert rests_on(np.ones((5, 3))) == {}


def test_waiting_adds_the_weak_latency_where_a_request_is_escalated(
    found: TwoLooks, looks: BothLooks, manifest: Manifest
):
    checked = manifest.policies[0].checked
    rule = Thresholds(checked.t_strong, checked.t_weak, checked.t_accept)
    weak, accepted, twice = rule.actions(looks.rows)
    ms = np.where(weak | accepted, looks.weak_ms, looks.strong_ms + np.where(twice, looks.weak_ms, 0.0))
    waiting = found.waiting
    assert waiting.n_twice == twice.sum()
    assert waiting.ms["two_looks"] == pytest.approx(np.percentile(ms, waiting.percentiles), abs=0.06)
    assert waiting.added_ms == pytest.approx(np.percentile(ms - looks.strong_ms, waiting.percentiles), abs=0.06)
    assert waiting.twice_ms == pytest.approx(np.percentile(looks.weak_ms[twice], waiting.percentiles), abs=0.06)
    assert waiting.ms["always_try"][-1] >= waiting.ms["one_look"][-1]


def test_without_latencies_nothing_is_said_of_them(outcomes: Outcomes, manifest: Manifest, evaluation, tmp_path: Path):
    silent = judged(outcomes, both_looks(outcomes, timed=False), manifest, n_bootstraps=0)
    assert silent.waiting is None
    with blank_figures():
        page = render_report(manifest, msgspec.structs.replace(evaluation, two_looks=silent), tmp_path).read_text()
    assert "The log holds no latencies of both models" in page


def test_cap_on_waiting_holds_along_the_whole_path(looks: BothLooks):
    free = max(point.actions(looks.rows)[2].mean() for point in trace_path(looks.rows))
    cap = free / 2
    capped = with_cap(looks.rows, cap)
    assert max(point.actions(looks.rows)[2].mean() for point in capped) <= cap < free
    assert max(point.answered_weak(looks.rows).mean() for point in capped) > 0.5


def test_evaluation_with_two_looks_reads_back_and_without_them_too(evaluation: Evaluation):
    raw = msgspec.json.encode(evaluation)
    assert msgspec.json.decode(raw, type=Evaluation) == evaluation
    before = {name: value for name, value in msgspec.json.decode(raw).items() if name != "two_looks"}
    assert msgspec.json.decode(msgspec.json.encode(before), type=Evaluation).two_looks is None


@pytest.mark.slow
def test_page_shows_both_looks_and_every_way_of_deciding(evaluation: Evaluation, manifest: Manifest, tmp_path: Path):
    page = render_report(manifest, evaluation, tmp_path).read_text()
    section = page[page.index('id="second-look"') : page.index('id="policies"')]
    text = re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", section))
    two = evaluation.two_looks.landings[0].two_looks
    for shown in (two.answered_weak, two.cost, two.waits_twice):
        assert words.percent(shown) in text
    for name in ("one look", "two looks", "always try", "Self-check", "Log-probabilities", "Answers without a signal"):
        assert name in text
    for figure in ("two_looks", "second_reliability", "rests_on"):
        assert (tmp_path / f"{figure}.png").stat().st_size > 5000
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_explorer_has_a_place_for_each_promise_of_two_looks(evaluation: Evaluation, manifest: Manifest):
    shown = explorer(manifest, evaluation.thresholds, evaluation.two_looks)
    assert [jump.policy for jump in shown.second.jumps] == [
        policy.name for policy in manifest.policies if policy.checked.is_met
    ]
    at = shown.second.positions[shown.second.start]
    checked = manifest.policies[0].checked
    assert f"accepted from {checked.t_accept:.3f} on the second look" in at.rule
    assert at.more == words.percent(checked.share_escalated)
    values = [position.at for position in shown.second.positions]
    assert values == sorted(set(values))
    tokens = (shown.traffic.prompt_tokens, shown.traffic.output_tokens)
    usd = [price.input * tokens[0] + price.output * tokens[1] for price in (shown.weak_price, shown.strong_price)]
    mean = (at.share_weak + at.waits) * usd[0] + (1 - at.share_weak) * usd[1]  # per million requests, in USD
    assert shown.cost_at(at) - shown.traffic.router_usd == pytest.approx(mean)


def test_what_never_happens_is_said_so():
    assert words.rule_of_three(0.4, NEVER, 0.9).endswith("; none unchecked")
    assert words.rule_of_three(NEVER, NEVER, NEVER).startswith("Nothing is tried")


def test_card_of_a_bundle_with_two_looks_renders(evaluation: Evaluation, manifest: Manifest):
    assert "max_worse=0.1" in render_card(manifest, evaluation)
