"""RouterBench's own routers over the same features: the score of each model, predicted by neighbours or a network.

Comes in: features, scores and costs. Goes out: ways that take the model with the best predicted score less its price
times a weight, for weights from none to all. Every row is predicted by fits without its group.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor

from tests.bench.ladder.curves import Way
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import FitSettings, fit_scaler

NEIGHBOURS = (10, 20, 40, 80, 160)
COMPONENTS = 64
WEIGHTS = np.concatenate(([0.0], np.geomspace(1e-3, 1e2, 200)))


def predicted(table: FeatureTable, score: np.ndarray, group: np.ndarray, n_folds: int = 5) -> dict[str, np.ndarray]:
    """Return by router (n, k) the predicted scores."""
    found = {name: np.empty(score.shape) for name in ("kNN", "MLP")}
    for train, held_out in GroupKFold(n_folds).split(score, groups=group):
        seen, asked = _features(table, train, held_out)
        found["kNN"][held_out] = _neighbours(seen, asked, score[train], group[train])
        network = MLPRegressor(
            hidden_layer_sizes=(100, 100), alpha=1.0, early_stopping=True, max_iter=100, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(seen, score[train])
        found["MLP"][held_out] = network.predict(asked)
    return found


def way(name: str, predictions: np.ndarray, score: np.ndarray, usd: np.ndarray) -> Way:
    """Return what the weights do, from the cheapest to the best."""
    price = usd / usd[:, -1].mean()
    rows = np.arange(score.shape[0])
    chosen = [np.argmax(predictions - weight * price, axis=1) for weight in WEIGHTS]
    return Way(
        name,
        np.array([usd[rows, one] for one in chosen], np.float32),
        np.array([score[rows, one] for one in chosen], np.float32),
    )


def _features(table: FeatureTable, train: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors, words in 64 components and structure, each part of about the same length."""
    scaler = fit_scaler(table.take(train), FitSettings(structural_scale=0.25))
    words = TruncatedSVD(COMPONENTS, n_iter=3, random_state=0).fit(scaler.lexical(table.counts[train]))

    def parts(rows: np.ndarray) -> np.ndarray:
        some = table.take(rows)
        lexical = words.transform(scaler.lexical(some.counts))
        return np.hstack([scaler.dense(some.dense), 2.0 * lexical, scaler.structural(some.structural)])

    return parts(train), parts(asked)


def _neighbours(seen: np.ndarray, asked: np.ndarray, score: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the mean scores of the nearest rows, as many as err the least on inner folds."""
    errors = np.zeros(len(NEIGHBOURS))
    for train, held_out in GroupKFold(3).split(seen, groups=group):
        near = NearestNeighbors(n_neighbors=max(NEIGHBOURS)).fit(seen[train]).kneighbors(seen[held_out])[1]
        for place, k in enumerate(NEIGHBOURS):
            errors[place] += np.square(score[train][near[:, :k]].mean(axis=1) - score[held_out]).sum()
    k = NEIGHBOURS[int(np.argmin(errors))]
    near = NearestNeighbors(n_neighbors=k).fit(seen).kneighbors(asked)[1]
    return score[near].mean(axis=1)
