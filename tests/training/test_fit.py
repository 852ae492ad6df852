"""The fit ranks by what the labels say, whichever outcomes occur in the log."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from turnout.serving.router.prompt import prompt_from_text
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.fit.fit import FitSettings, fit_router, outcome_classes

N = 120


@pytest.fixture(scope="module")
def table(encoder: EncoderModel) -> FeatureTable:
    """Return features of prompts of which every second one asks for a proof."""
    texts = [f"Prove the theorem number {row}" if row % 2 else f"Say hello {row} times" for row in range(N)]
    return embed([prompt_from_text(text) for text in texts], encoder, cache_dir=None)


def test_outcomes_are_told_apart_by_the_label_rules():
    match, strong, weak = np.array([1, 0, 1, 1]), np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 1, 0])
    assert outcome_classes(match, strong, weak).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("both_wrong_every", [7, 0], ids=["three outcomes", "strong model always right"])
@pytest.mark.parametrize("form", ["binary", "four_outcomes"])
def test_what_the_weak_model_fails_ranks_below(table: FeatureTable, form: str, both_wrong_every: int):
    strong, weak = np.ones(N), (np.arange(N) % 2 == 0).astype(float)
    if both_wrong_every:
        strong[::both_wrong_every] = weak[::both_wrong_every] = 0.0
    match = (weak >= strong).astype(np.int64)
    target = match if form == "binary" else outcome_classes(match, strong, weak)
    for log_odds in fit_router(table, target, FitSettings(form=form)).log_odds(table):
        assert roc_auc_score(match, log_odds) > 0.9
