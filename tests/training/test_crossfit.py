"""Cross-fitting: calibrators read answers of fits that did not see the row, and the kept fit saw all rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from tests.training.crossfitted import fit_calibrated
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.fit.fit import FitSettings, fit_router
from turnout.training.fit.losses import row_losses
from turnout.training.fit.out_of_fold import N_FOLDS, LessonRows, out_of_fold
from turnout.training.fit.select import choose

N = 300
SETTINGS = FitSettings(c=20.0, form="binary")
"""A loose fit: it repeats the labels of rows that it has seen."""


@pytest.fixture(scope="module")
def table(encoder: EncoderModel) -> FeatureTable:
    """Return features of prompts that all differ by one rare number, seen twice."""
    texts = [f"Tell me about {row // 2 * 7919} and {row // 2 * 104729}" for row in range(N)]
    return embed([prompt_from_text(text) for text in texts], encoder, cache_dir=None)


@pytest.fixture(scope="module")
def chance() -> np.ndarray:
    """Return labels, the same within a pair of equal prompts, that nothing in the prompt says."""
    return np.repeat((np.random.default_rng(4).random(N // 2) < 0.7).astype(np.int64), 2)


PAIRS = np.arange(N) // 2


def answers(
    table: FeatureTable,
    label: np.ndarray,
    weight: np.ndarray | None = None,
    candidates: tuple[FitSettings, ...] = (SETTINGS,),
) -> tuple[np.ndarray, np.ndarray]:
    found = out_of_fold(LessonRows(table, {"binary": label}, label, PAIRS, weight), list(candidates))
    return found.fast, found.full


def test_out_of_fold_answers_do_not_know_labels_that_the_prompt_does_not_tell(table: FeatureTable, chance: np.ndarray):
    _, in_sample = fit_router(table, chance, SETTINGS).log_odds(table)
    assert roc_auc_score(chance, in_sample) > 0.95
    for log_odds in answers(table, chance):
        assert abs(roc_auc_score(chance, log_odds) - 0.5) < 0.15


def test_overconfidence_of_a_loose_fit_is_calibrated_away(table: FeatureTable, chance: np.ndarray):
    router = fit_calibrated(table, chance, chance, PAIRS, SETTINGS)
    fast, full = answers(table, chance)
    of_the_rate = log_loss(chance, np.full(N, chance.mean()))
    for calibrator, log_odds in ((router.fast_calibrator, fast), (router.full_calibrator, full)):
        assert log_loss(chance, expit(log_odds)) > of_the_rate + 0.05
        assert log_loss(chance, expit(calibrator(log_odds))) < of_the_rate + 0.02


def test_labels_of_a_group_never_reach_its_own_out_of_fold_answer(table: FeatureTable, chance: np.ndarray):
    _, held_out = next(iter(GroupKFold(N_FOLDS).split(chance, groups=PAIRS)))
    canary = chance.copy()
    canary[held_out] = 1 - canary[held_out]
    before = answers(table, chance)
    after = answers(table, canary)
    others = np.setdiff1d(np.arange(N), held_out)
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one[held_out], two[held_out])
        assert not np.allclose(one[others], two[others])


def test_kept_regression_learns_from_all_rows(table: FeatureTable, chance: np.ndarray):
    router = fit_calibrated(table, chance, chance, PAIRS, SETTINGS)
    expected = fit_router(table, chance, SETTINGS).log_odds(table)
    for ours, theirs in zip(router.linear.log_odds(table), expected, strict=True):
        assert np.allclose(ours, theirs)


def test_rows_of_weight_zero_teach_nothing(table: FeatureTable, chance: np.ndarray):
    weight = (PAIRS % 2).astype(np.float64)
    canary = np.where(weight > 0, chance, 1 - chance)
    for one, two in zip(
        answers(table, chance, weight=weight),
        answers(table, canary, weight=weight),
        strict=True,
    ):
        assert np.allclose(one, two, atol=1e-5)


def test_own_losses_have_no_say_in_the_settings_behind_an_answer(table: FeatureTable, chance: np.ndarray):
    tried = [FitSettings(c=c, form="binary") for c in (0.01, 20.0)]
    lessons = LessonRows(table, {"binary": chance}, chance, PAIRS)
    losses = {one: row_losses(out_of_fold(lessons, [one]).full, chance) for one in tried}
    found = out_of_fold(lessons, tried)
    for number, settings in enumerate(found.by_fold):
        others = found.fold != number
        assert settings == choose({one: loss[others] for one, loss in losses.items()}, PAIRS[others], is_small=True)
