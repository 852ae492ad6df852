import json
import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from tests.training.outcomes import make_outcomes
from turnout.training.errors import DataRefused
from turnout.training.evaluation import metrics
from turnout.training.evaluation.bootstrap import group_draws, interval
from turnout.training.evaluation.evaluate import (
    Evaluation,
    Outcomes,
    evaluate,
    flat,
    paired_difference,
    write_evaluation,
)
from turnout.training.evaluation.metrics import Ranking

PLAIN = {
    "n",
    "n_seen_in_training",
    "match_rate",
    "auroc",
    "auroc_within_source",
    "apgr",
    "cpt50",
    "cpt80",
    "ece",
    "ece_floor",
    "brier",
    "log_loss",
    "share_out_of_distribution",
}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(make_outcomes(), n_seen=3, n_bootstraps=100)


def test_json_has_exactly_the_agreed_names(evaluation):
    found = json.loads(msgspec.json.encode(evaluation))
    objects = {"quality_at_share", "share_at_quality", "intervals", "baselines", "curves", "slices"}
    objects |= {"thresholds", "label_noise", "drift", "drift_by_task", "learning_curve", "two_looks"}
    assert set(found) == PLAIN | objects
    assert all(isinstance(found[name], int | float) for name in PLAIN)
    assert set(found["quality_at_share"]) == {"0.25", "0.5", "0.75"}
    assert set(found["share_at_quality"]) == {"0.98", "0.99"}
    assert set(found["baselines"]) == {"always_weak", "always_strong", "random", "prompt_length", "oracle"}
    assert set(found["intervals"]) == (
        PLAIN - {"n", "n_seen_in_training", "ece_floor", "share_out_of_distribution"}
    ) | {
        "quality_at_share.0.25",
        "quality_at_share.0.5",
        "quality_at_share.0.75",
        "share_at_quality.0.98",
        "share_at_quality.0.99",
    }


def test_every_interval_holds_its_own_figure(evaluation):
    values = {**flat(evaluation), "match_rate": evaluation.match_rate}
    for name, found in evaluation.intervals.items():
        assert found is not None
        assert found[0] <= values[name] <= found[1]


def test_counts_are_those_given(evaluation):
    assert (evaluation.n, evaluation.n_seen_in_training) == (400, 3)
    assert sum(evaluation.curves.p_match.n) == 400
    assert sum(evaluation.curves.p_match.n_match) == round(400 * evaluation.match_rate)
    assert [item.name for item in evaluation.slices.stage] == ["FAST", "FULL"]
    for slices in (evaluation.slices.task, evaluation.slices.source, evaluation.slices.stage):
        assert sum(item.n for item in slices) == 400


def test_cost_quality_begins_with_the_weak_model_and_ends_with_the_strong(evaluation):
    curves = evaluation.curves.cost_quality
    alone = curves.baselines["always_weak"][0]
    for ratios in (curves.router, *curves.baselines.values()):
        assert len(ratios) == len(curves.strong_share) == 101
        assert ratios[0] == pytest.approx(alone)
        assert ratios[-1] == pytest.approx(1)
    assert all(low <= ratio <= high for low, ratio, high in zip(curves.low, curves.router, curves.high, strict=True))


def test_baselines_that_are_no_probability_have_no_calibration(evaluation):
    for name in ("prompt_length", "oracle"):
        found = evaluation.baselines[name]
        assert (found.ece, found.ece_floor, found.brier, found.log_loss) == (None, None, None, None)
    assert evaluation.baselines["random"].apgr == pytest.approx(0.5)
    assert evaluation.baselines["oracle"].auroc == 1
    assert evaluation.baselines["always_weak"].log_loss == pytest.approx(-math.log(1e-6) * (1 - evaluation.match_rate))


def test_extra_baseline_is_measured_as_the_router_is():
    outcomes = make_outcomes(100)
    found = evaluate(outcomes, n_seen=0, n_bootstraps=0, extra_baselines={"twin": outcomes.p_match})
    assert flat(found.baselines["twin"]) == flat(found)


def test_order_of_the_rows_changes_nothing():
    outcomes = make_outcomes(120)
    order = np.random.default_rng(9).permutation(120)
    shuffled = replace(
        outcomes,
        source=[outcomes.source[row] for row in order],
        task=[outcomes.task[row] for row in order],
        **{
            name: getattr(outcomes, name)[order]
            for name in (
                "p_match",
                "match",
                "strong_score",
                "weak_score",
                "group",
                "prompt_length",
                "is_full",
                "p_uncalibrated",
            )
        },
    )
    before, after = (evaluate(rows, n_seen=0, n_bootstraps=20) for rows in (outcomes, shuffled))
    assert flat(after) == pytest.approx(flat(before))
    assert after.intervals["apgr"] == pytest.approx(before.intervals["apgr"])


def test_same_seed_gives_the_same_evaluation_and_another_seed_other_intervals():
    first, second, other = (evaluate(make_outcomes(60), n_seen=0, n_bootstraps=20, seed=seed) for seed in (1, 1, 2))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert first.intervals["auroc"] != other.intervals["auroc"]


def test_what_is_undefined_is_null():
    outcomes = make_outcomes(40)
    all_match = replace(outcomes, match=np.ones(40, dtype=np.int64), weak_score=outcomes.strong_score)
    found = json.loads(msgspec.json.encode(evaluate(all_match, n_seen=0, n_bootstraps=10)))
    for name in ("auroc", "auroc_within_source", "apgr", "cpt50", "cpt80"):
        assert found[name] is None
        assert found["intervals"][name] is None
    assert found["slices"]["n_sources_left_out"] == 3


def test_no_bootstraps_give_no_intervals():
    found = evaluate(make_outcomes(40), n_seen=0, n_bootstraps=0)
    assert set(found.intervals.values()) == {None}
    assert found.curves.cost_quality.low is None


def test_single_group_gives_no_intervals():
    found = evaluate(make_outcomes(40, rows_per_group=40), n_seen=0, n_bootstraps=10)
    assert set(found.intervals.values()) == {None}


def test_one_row_is_enough_to_answer():
    found = evaluate(make_outcomes(1), n_seen=0, n_bootstraps=10)
    assert found.n == 1
    assert found.auroc is None


def test_progress_is_told_up_to_the_end():
    told = []
    evaluate(make_outcomes(40), n_seen=0, n_bootstraps=5, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 5) for i in range(1, 6)]


def test_a_group_is_drawn_whole():
    group = np.array([7, 7, 3, 3, 3, 9])
    for weights in group_draws(group, seed=0, n_bootstraps=20):
        assert len(set(weights[:2])) == len(set(weights[2:5])) == 1
        assert weights[0] + weights[2] + weights[5] == 3


def test_larger_groups_make_wider_intervals():
    narrow, wide = (
        evaluate(four_times(make_outcomes(150), is_grouped=is_grouped), n_seen=0, n_bootstraps=200).intervals["auroc"]
        for is_grouped in (False, True)
    )
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(math.sqrt(4), rel=0.35)


def four_times(outcomes, *, is_grouped) -> Outcomes:
    """Each row four times over: as copies in one group, or passed off as independent rows."""
    rows = np.repeat(np.arange(len(outcomes.match)), 4)
    arrays = {
        name: getattr(outcomes, name)[rows]
        for name in ("p_match", "match", "strong_score", "weak_score", "prompt_length", "is_full")
    }
    group = rows if is_grouped else np.arange(len(rows))
    names = {"source": [outcomes.source[row] for row in rows], "task": [outcomes.task[row] for row in rows]}
    return replace(outcomes, group=group, p_uncalibrated=None, **arrays, **names)


def test_intervals_cover_the_truth():
    def auroc_of(outcomes, weights=None) -> float | None:
        return metrics.auroc(Ranking.of(outcomes.p_match), outcomes.match.astype(float), weights)

    truth, hits = auroc_of(make_outcomes(100_000, seed=99)), []
    for seed in range(100):
        outcomes = make_outcomes(250, seed=seed)
        draws = [auroc_of(outcomes, weights) for weights in group_draws(outcomes.group, seed, 100)]
        low, high = interval("auroc", auroc_of(outcomes), draws)
        hits.append(low <= truth <= high)
    assert 0.88 <= np.mean(hits) <= 0.99


def test_ece_interval_is_freed_of_the_noise_that_resampling_adds():
    assert interval("ece", 0.01, [0.02, 0.02, 0.02]) == pytest.approx((0.01, 0.01))
    assert interval("ece", 0.01, [0.001, 0.05])[0] == 0


def test_interval_is_absent_where_a_tenth_of_the_draws_is_undefined():
    assert interval("apgr", 0.5, [0.4] * 8 + [None] * 2) is None
    assert interval("apgr", 0.5, [0.4] * 95 + [None] * 5) == pytest.approx((0.4, 0.4))
    assert interval("apgr", None, [0.4]) is None


def test_paired_difference_of_a_router_with_itself_is_nothing():
    outcomes = make_outcomes(100)
    found = paired_difference(outcomes, outcomes, "share_at_quality.0.99", n_bootstraps=20)
    assert found.difference == 0
    assert found.interval == (0, 0)


def test_paired_interval_is_narrower_than_unpaired_and_sees_the_better_router():
    good, noisy = make_outcomes(500), make_outcomes(500, noise=1.0)
    assert np.array_equal(good.match, noisy.match)
    found = paired_difference(good, noisy, "auroc", n_bootstraps=200)
    assert found.difference == pytest.approx(found.a - found.b)
    assert found.interval[0] > 0
    alone = evaluate(good, n_seen=0, n_bootstraps=200).intervals["auroc"]
    assert found.interval[1] - found.interval[0] < math.sqrt(2) * (alone[1] - alone[0])


def test_paired_difference_refuses_other_rows_and_unknown_metrics():
    outcomes = make_outcomes(50)
    with pytest.raises(DataRefused, match="same rows"):
        paired_difference(outcomes, make_outcomes(50, seed=1), "auroc")
    with pytest.raises(DataRefused, match=r"unknown metric 'roc'.*auroc"):
        paired_difference(outcomes, outcomes, "roc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_match": np.array([0.2, np.nan])}, "p_match holds a value outside"),
        ({"p_match": np.array([0.2, 1.2])}, "p_match holds a value outside"),
        ({"weak_score": np.array([0.2, np.inf])}, "not a finite number"),
        ({"source": ["a"]}, "source has 1 rows, p_match has 2"),
        ({"p_match": np.array([])}, "at least one row"),
    ],
)
def test_outcomes_that_make_no_sense_are_refused(change, message):
    with pytest.raises(DataRefused, match=message):
        replace(make_outcomes(2), **change)


def test_extra_baseline_of_another_length_is_refused():
    with pytest.raises(DataRefused, match="baseline short: has 1 rows, expected 10"):
        evaluate(make_outcomes(10), n_seen=0, n_bootstraps=0, extra_baselines={"short": np.array([0.5])})


def test_written_evaluation_reads_back_and_leaves_nothing_beside_it(tmp_path, evaluation):
    path = tmp_path / "report" / "evaluation.json"
    for _ in range(2):
        write_evaluation(path, evaluation)
    assert msgspec.json.decode(path.read_bytes(), type=Evaluation) == evaluation
    assert [item.name for item in path.parent.iterdir()] == ["evaluation.json"]


def test_failed_write_leaves_the_old_file(tmp_path, evaluation, monkeypatch):
    path = tmp_path / "evaluation.json"
    path.write_text("old")

    def full(_handle) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_evaluation(path, evaluation)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["evaluation.json"]


def test_what_is_out_of_distribution_goes_strong_first_and_is_judged_for_calibration_all_the_same():
    rows = make_outcomes(seed=21)
    strange = np.random.default_rng(3).random(len(rows.match)) < 0.25
    plain, served = (
        evaluate(one, n_seen=0, n_bootstraps=0) for one in (rows, replace(rows, is_out_of_distribution=strange))
    )
    assert served.share_out_of_distribution == strange.mean()
    assert plain.share_out_of_distribution == 0.0
    for figure in ("auroc", "auroc_within_source", "ece", "brier", "log_loss"):
        assert getattr(served, figure) == getattr(plain, figure)
    to_strong = strange | (rows.p_match < np.quantile(rows.p_match[~strange], 1 / 3))
    kept = np.where(to_strong, rows.strong_score, rows.weak_score).mean() / rows.strong_score.mean()
    assert served.quality_at_share["0.5"] == pytest.approx(kept, abs=0.01)
    assert served.quality_at_share["0.5"] != plain.quality_at_share["0.5"]


def test_no_strangers_change_no_figure():
    rows = make_outcomes(seed=22)
    none = replace(rows, is_out_of_distribution=np.zeros(len(rows.match), dtype=bool))
    assert evaluate(none, n_seen=0, n_bootstraps=20) == evaluate(rows, n_seen=0, n_bootstraps=20)
