"""Other routers that this environment can run, each fitted on the training rows of a fold: (m,) p_match out.

What ours chooses inside the fold, the linear ones and kNN choose there too: C, or the number of neighbours, by log loss
on inner folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors

from tests.bench.quality.questions import Fold
from turnout.training.fit.fit import STRONG_ONLY

N_INNER_FOLDS = 3
CS = (0.1, 0.3, 1.0, 3.0, 10.0)
NEIGHBOURS = (10, 20, 40, 80, 160)
TREES = 200

Ask = Callable[[np.ndarray, np.ndarray, Sequence[float]], list[np.ndarray]]
"""Row numbers to learn from and to answer, and settings -> (m,) p_match for each setting."""


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Return the rows at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def settled(fold: Fold, settings: Sequence[float], ask: Ask) -> np.ndarray:
    """Return the answers of a router with the setting that has the lowest log loss on inner folds."""
    match, losses = fold.questions.match, np.zeros(len(settings))
    for fit, held_out in GroupKFold(N_INNER_FOLDS).split(fold.train, groups=fold.questions.group[fold.train]):
        answers = ask(fold.train[fit], fold.train[held_out], settings)
        losses += [log_loss(match[fold.train[held_out]], one, labels=(0, 1)) for one in answers]
    (answer,) = ask(fold.train, fold.test, [settings[int(np.argmin(losses))]])
    return answer


def tfidf_lr(fold: Fold) -> np.ndarray:
    """Word uni- and bigrams, TF-IDF, logistic regression on match."""
    texts, match = fold.questions.texts, fold.questions.match

    def ask(train: np.ndarray, test: np.ndarray, settings: Sequence[float]) -> list[np.ndarray]:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        words = vectorizer.fit_transform([texts[row] for row in train])
        asked = vectorizer.transform([texts[row] for row in test])
        models = (LogisticRegression(C=c, solver="liblinear").fit(words, match[train]) for c in settings)
        return [model.predict_proba(asked)[:, 1] for model in models]

    return settled(fold, CS, ask)


def vectors_lr(fold: Fold, vectors: np.ndarray) -> np.ndarray:
    """Logistic regression on match, on sentence vectors as their encoder gave them."""
    match = fold.questions.match

    def ask(train: np.ndarray, test: np.ndarray, settings: Sequence[float]) -> list[np.ndarray]:
        models = (LogisticRegression(C=c, max_iter=1000).fit(vectors[train], match[train]) for c in settings)
        return [model.predict_proba(vectors[test])[:, 1] for model in models]

    return settled(fold, CS, ask)


def encoder_lr(fold: Fold) -> np.ndarray:
    """Plain logistic regression on the vectors of the encoder that we ship."""
    return vectors_lr(fold, fold.questions.table.dense)


def knn(fold: Fold) -> np.ndarray:
    """Match rate of the nearest prompts by cosine, as in RouterBench."""
    unit, match = unit_length(fold.questions.table.dense), fold.questions.match

    def ask(train: np.ndarray, test: np.ndarray, settings: Sequence[float]) -> list[np.ndarray]:
        most = NearestNeighbors(n_neighbors=int(max(settings))).fit(unit[train])
        found = match[train][most.kneighbors(unit[test])[1]]
        return [found[:, : int(k)].mean(axis=1) for k in settings]

    return settled(fold, NEIGHBOURS, ask)


def forest(fold: Fold) -> np.ndarray:
    """A random forest on the vectors, four outcomes: the method of RoRF."""
    dense = fold.questions.table.dense
    model = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=fold.seed, n_jobs=-1)
    model.fit(dense[fold.train], fold.questions.classes[fold.train])
    return 1.0 - model.predict_proba(dense[fold.test])[:, list(model.classes_).index(STRONG_ONLY)]


ROUTERS: dict[str, Callable[[Fold], np.ndarray]] = {
    "TF-IDF words + LR, C chosen": tfidf_lr,
    "our encoder + LR, C chosen": encoder_lr,
    "kNN, neighbours chosen": knn,
    "random forest, four outcomes (RoRF)": forest,
}
