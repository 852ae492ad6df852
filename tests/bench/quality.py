"""Quality beside simpler routers, re-trained on the same folds and measured on the same rows.

    python -m tests.bench.quality LOGS... [--scores FILE] [--source NAME] [--folds 5] [--seed 0] [--json FILE]

Run by `make bench-quality LOGS=...`. Grouped folds; each router learns on the other folds alone, ours
with its calibration cross-fitted inside those. Pooled over folds; intervals are 95 % bootstraps of groups, and the
last column is the paired difference of ours to that router.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors

from serving.bundle import Pair
from serving.registry import find_encoder
from training.baselines import dense_logistic_baseline
from training.crossfit import fit_calibrated
from training.dataset import Dataset, load_dataset
from training.difficulty import Difficulty, read_difficulty
from training.embeddings import FeatureTable, default_cache_dir, embed
from training.encoders import load_encoder
from training.evaluate import evaluate, paired_difference
from training.fit import FitSettings, outcome_classes
from training.progress import Reporter

NEIGHBOURS = 40
TREES = 200
SERVED_THRESHOLD = 0.93
"""Near where `max_worse=0.01` is solved on the reference rows: it places the exit band of the cascade."""
METRICS = ("auroc", "auroc_within_source", "apgr", "share_at_quality.0.99", "share_at_quality.0.98", "ece")


@dataclasses.dataclass(frozen=True)
class Fold:
    """What a router may learn from, and what it is asked."""

    data: Dataset
    table: FeatureTable
    texts: list[str]
    classes: np.ndarray
    train: np.ndarray
    test: np.ndarray
    seed: int
    difficulty: Difficulty | None = None


def ours(fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Return p_match of the full model and of the cascade as served."""
    train, data = fold.train, fold.data
    form = "four_outcomes" if data.has_scores else "binary"
    target = (fold.classes if data.has_scores else data.match)[train]
    router = fit_calibrated(
        fold.table.take(train),
        target,
        data.match[train],
        data.groups.group[train],
        FitSettings(form=form),
        difficulty=fold.difficulty and fold.difficulty.take(train),
    )
    heads = router.log_odds(fold.table.take(fold.test))
    return expit(heads.full), router.cascade(heads, SERVED_THRESHOLD).p_match


def encoder_lr(fold: Fold) -> np.ndarray:
    """Plain logistic regression on the same encoder's vectors."""
    match = fold.data.match[fold.train]
    return dense_logistic_baseline(fold.table.dense[fold.train], match, fold.table.dense[fold.test])


def tfidf_lr(fold: Fold) -> np.ndarray:
    """Word uni- and bigrams, TF-IDF, logistic regression on match."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    train = vectorizer.fit_transform([fold.texts[row] for row in fold.train])
    model = LogisticRegression(solver="liblinear").fit(train, fold.data.match[fold.train])
    return model.predict_proba(vectorizer.transform([fold.texts[row] for row in fold.test]))[:, 1]


def knn(fold: Fold) -> np.ndarray:
    """Match rate of the 40 nearest prompts by cosine, as in RouterBench."""
    unit = fold.table.dense / np.linalg.norm(fold.table.dense, axis=1, keepdims=True)
    found = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(unit[fold.train]).kneighbors(unit[fold.test])[1]
    return fold.data.match[fold.train][found].mean(axis=1)


def forest(fold: Fold) -> np.ndarray:
    """A random forest on the vectors, four outcomes: the method of RoRF."""
    model = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=fold.seed, n_jobs=-1)
    model.fit(fold.table.dense[fold.train], fold.classes[fold.train])
    return 1.0 - model.predict_proba(fold.table.dense[fold.test])[:, list(model.classes_).index(1)]


PEERS: dict[str, Callable[[Fold], np.ndarray]] = {
    "encoder + LR": encoder_lr,
    "TF-IDF words + LR": tfidf_lr,
    "kNN (40)": knn,
    "random forest (RoRF's way)": forest,
}


def main() -> None:
    """Fit every router on every fold, print one table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--source", help="only rows of this source")
    arguments.add_argument("--scores", type=Path, help="other models' scores on the same prompts, for ours alone")
    arguments.add_argument("--folds", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    data = load_dataset(given.logs, Pair(), None, 0.0, Reporter()).dataset
    kept = np.array([given.source in (None, row.record.source) for row in data.rows])
    difficulty = read_difficulty(given.scores, Pair(), data.records, data.groups.group) if given.scores else None
    answers = cross_fit(data, np.flatnonzero(kept), given.folds, given.seed, difficulty)
    result = compare(data, np.flatnonzero(kept), answers, given.seed)
    print_table(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


def cross_fit(
    data: Dataset, rows: np.ndarray, n_folds: int, seed: int, difficulty: Difficulty | None = None
) -> dict[str, np.ndarray]:
    """Return p_match out of fold, (rows,) of each router."""
    reporter = Reporter()
    prompts = [record.prompt for record in data.records]
    encoder = load_encoder(find_encoder("minilm-l3-int8"))
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        table = embed(prompts, encoder, cache_dir=default_cache_dir(), on_progress=advance)
    classes = outcome_classes(data.match, data.strong_score, data.weak_score)
    texts = [prompt.text for prompt in prompts]
    answers = {name: np.empty(rows.size) for name in ("ours", "ours as served", *PEERS)}
    splits = GroupKFold(n_folds, shuffle=True, random_state=seed).split(rows, groups=data.groups.group[rows])
    with reporter.stage("Fitting all routers on all folds", n_folds * (len(PEERS) + 1)) as advance:
        for train, test in splits:
            fold = Fold(data, table, texts, classes, rows[train], rows[test], seed, difficulty)
            answers["ours"][test], answers["ours as served"][test] = ours(fold)
            advance(1)
            for name, peer in PEERS.items():
                answers[name][test] = peer(fold)
                advance(1)
    return answers


def compare(data: Dataset, rows: np.ndarray, answers: dict[str, np.ndarray], seed: int) -> dict:
    """Return figures and paired differences of ours to each router."""
    is_full = np.ones(rows.size, dtype=bool)
    outcomes = {name: data.outcomes(rows, np.clip(p, 0.0, 1.0), is_full) for name, p in answers.items()}
    length = outcomes["ours"].prompt_length
    shorter = data.outcomes(rows, 1.0 / (1.0 + length), is_full)
    outcomes["prompt length"] = shorter
    result = {"n": int(rows.size), "seed": seed, "routers": {}}
    for name, one in outcomes.items():
        found = json.loads(json.dumps(dataclasses.asdict(_Figures.of(one, seed))))
        if name == "prompt length":
            found["figures"]["ece"] = None
        found["ours_minus_it"] = {
            metric: paired_difference(outcomes["ours"], one, metric, seed=seed).interval
            for metric in ("auroc", "auroc_within_source", "apgr")
            if name != "ours"
        }
        result["routers"][name] = found
    return result


@dataclasses.dataclass(frozen=True)
class _Figures:
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]

    @classmethod
    def of(cls, outcomes, seed: int) -> _Figures:
        from training.evaluate import flat

        found = evaluate(outcomes, n_seen=0, seed=seed)
        figures = flat(found)
        return cls({name: figures[name] for name in METRICS}, {name: found.intervals.get(name) for name in METRICS})


def print_table(result: dict) -> None:
    """Print a Markdown table: one router a line."""
    print(f"\n{result['n']} rows, seed {result['seed']}\n")
    print("| router | AUROC | within source | APGR | share at 99 % | share at 98 % | ECE | APGR: ours minus it |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, found in result["routers"].items():
        cells = ["" if found["figures"][metric] is None else f"{found['figures'][metric]:.3f}" for metric in METRICS]
        difference = found["ours_minus_it"].get("apgr")
        cells.append(f"{difference[0]:+.3f} to {difference[1]:+.3f}" if difference else "")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
