"""Other routers that this environment can run, each fitted on the training rows of a fold: (m,) p_match out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from tests.bench.quality.questions import Fold
from training.baselines import dense_logistic_baseline
from training.fit import STRONG_ONLY

NEIGHBOURS = 40
TREES = 200


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Return the rows at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def tfidf_lr(fold: Fold) -> np.ndarray:
    """Word uni- and bigrams, TF-IDF, logistic regression on match."""
    texts, match = fold.questions.texts, fold.questions.match
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    train = vectorizer.fit_transform([texts[row] for row in fold.train])
    model = LogisticRegression(solver="liblinear").fit(train, match[fold.train])
    return model.predict_proba(vectorizer.transform([texts[row] for row in fold.test]))[:, 1]


def encoder_lr(fold: Fold) -> np.ndarray:
    """Plain logistic regression on the vectors of the encoder that we ship."""
    dense = fold.questions.table.dense
    return dense_logistic_baseline(dense[fold.train], fold.questions.match[fold.train], dense[fold.test])


def knn(fold: Fold) -> np.ndarray:
    """Match rate of the 40 nearest prompts by cosine, as in RouterBench."""
    unit = unit_length(fold.questions.table.dense)
    found = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(unit[fold.train]).kneighbors(unit[fold.test])[1]
    return fold.questions.match[fold.train][found].mean(axis=1)


def forest(fold: Fold) -> np.ndarray:
    """A random forest on the vectors, four outcomes: the method of RoRF."""
    dense = fold.questions.table.dense
    model = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=fold.seed, n_jobs=-1)
    model.fit(dense[fold.train], fold.questions.classes[fold.train])
    return 1.0 - model.predict_proba(dense[fold.test])[:, list(model.classes_).index(STRONG_ONLY)]


ROUTERS: dict[str, Callable[[Fold], np.ndarray]] = {
    "TF-IDF words + LR": tfidf_lr,
    "our encoder + LR": encoder_lr,
    "kNN (40 neighbours)": knn,
    "random forest, four outcomes (RoRF)": forest,
}
