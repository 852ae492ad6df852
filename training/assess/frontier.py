"""Frontier: what each part of the router adds in quality, and what it costs in microseconds a prompt.

Comes in: prompts with outcomes, and one or more encoders with the features they gave. Goes out: a `FrontierPoint` for
each union of the lexical, structural and dense parts, the dense one by each encoder. Quality is out of fold, grouped,
with default settings. Times are from text to log-odds in this process, on one thread; the unions take turns prompt by
prompt, so that a busy machine is busy for all, and only their ratios hold elsewhere.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.model_selection import GroupKFold

from turnout.serving.router.features import Featurizer, hash_ngrams, head_and_tail, structural_features
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.word_pieces import word_pieces_of
from turnout.training.dataset.dataset import Dataset
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.evaluation import metrics
from turnout.training.evaluation.metrics import Ranking
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import FitSettings, Head, fit_head, fit_scaler, outcome_classes
from turnout.training.fit.losses import paired_excess, row_losses
from turnout.training.progress import Reporter

PARTS = ("lexical", "structural", "dense")
UNIONS = [union for size in (1, 2, 3) for union in itertools.combinations(PARTS, size)]
N_FOLDS = 5
N_TIMED = 200
TIMED_FIT_ROWS = 4000
"""Weights of any fit take the same time to apply."""

STRUCTURAL_ALONE = 1.0
"""The small scale of the structural part is its regularisation beside others; alone it has its own spread."""


class FrontierPoint(msgspec.Struct, frozen=True):
    """One union of parts.

    Attributes:
        parts: joined by " + ".
        encoder: which gives the dense part; None without one.
        auroc, apgr: out of fold; `apgr` is None where the gap between the models is too small.
        excess_loss, excess_loss_se: calibrated log loss above the lowest of all points, and its standard error.
        us: median microseconds a prompt.
        us_quartiles: the first and the third.
        is_on_frontier: no other point is both faster and of lower loss.
    """

    parts: str
    encoder: str | None
    auroc: float | None
    apgr: float | None
    excess_loss: float
    excess_loss_se: float
    us: float
    us_quartiles: tuple[float, float]
    is_on_frontier: bool


@dataclass(frozen=True)
class FrontierRows:
    """Labelled rows; arrays are (n,).

    Attributes:
        prompts: the requests.
        outcome: class of `outcome_classes`, or `match` for a binary fit.
        match: 0 or 1.
        strong_score, weak_score: what the models scored.
        group: which rows stay together.
        form: of the fit, as in `FitSettings`.
    """

    prompts: Sequence[Prompt]
    outcome: NDArray[np.int64]
    match: NDArray[np.int64]
    strong_score: NDArray[np.float64]
    weak_score: NDArray[np.float64]
    group: NDArray[np.int64]
    form: str

    @classmethod
    def of(cls, data: Dataset, rows: NDArray[np.int64]) -> FrontierRows:
        """Return those rows of a dataset, for a fit in the form that `train` starts from."""
        match, strong, weak = data.match[rows], data.strong_score[rows], data.weak_score[rows]
        outcome = outcome_classes(match, strong, weak) if data.has_scores else match
        prompts = [data.rows[row].record.prompt for row in rows]
        form = "four_outcomes" if data.has_scores else "binary"
        return cls(prompts, outcome, match, strong, weak, data.groups.group[rows], form)


@dataclass(frozen=True)
class _Candidate:
    parts: tuple[str, ...]
    encoder: EncoderModel
    table: FeatureTable

    @property
    def has_encoder(self) -> bool:
        return "dense" in self.parts


def measure_frontier(
    rows: FrontierRows, encoders: Sequence[tuple[EncoderModel, FeatureTable]], seed: int, reporter: Reporter
) -> list[FrontierPoint]:
    """Return a point for each union of parts, fastest first.

    Args:
        rows: at least five groups.
        encoders: at least one, each with the features of all rows; the parts without an encoder are the first one's.
        seed: of the folds and of the prompts that are timed.
        reporter: shows a bar.
    """
    candidates = [
        _Candidate(union, encoder, table)
        for number, (encoder, table) in enumerate(encoders)
        for union in UNIONS
        if number == 0 or "dense" in union
    ]
    folds = list(GroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(rows.match, groups=rows.group))
    log_odds = []
    with reporter.stage("Fitting unions of parts", N_FOLDS * len(candidates)) as advance:
        for candidate in candidates:
            answers = np.empty(rows.match.size)
            for train, test in folds:
                answers[test] = _held_out(candidate, rows, train, test)
                advance(1)
            log_odds.append(answers)
    with reporter.stage("Timing unions of parts"):
        times = _microseconds(candidates, rows, seed)
    return _points(candidates, rows, log_odds, times)


def _held_out(
    candidate: _Candidate, rows: FrontierRows, train: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float64]:
    settings = FitSettings(form=rows.form)
    if candidate.parts == ("structural",):
        settings = replace(settings, structural_scale=STRUCTURAL_ALONE)
    table = _only(candidate.table, candidate.parts)
    seen = table.take(train)
    scaler = fit_scaler(seen, settings)
    head = fit_head(scaler, seen, rows.outcome[train], settings, with_dense=candidate.has_encoder)
    return head.log_odds(scaler, table.take(test))


def _only(table: FeatureTable, parts: tuple[str, ...]) -> FeatureTable:
    """Return the table with the other parts empty; a column without variance gets weight 0."""
    counts = table.counts if "lexical" in parts else csr_matrix(table.counts.shape, dtype=np.float32)
    structural = table.structural if "structural" in parts else np.zeros_like(table.structural)
    return FeatureTable(counts, structural, table.dense)


def _points(
    candidates: Sequence[_Candidate],
    rows: FrontierRows,
    log_odds: Sequence[NDArray[np.float64]],
    times: Sequence[Sequence[float]],
) -> list[FrontierPoint]:
    losses = [row_losses(fit_platt(one, rows.match)(one), rows.match) for one in log_odds]
    best = min(losses, key=lambda loss: float(loss.mean()))
    medians = [statistics.median(one) for one in times]
    found = []
    for candidate, answers, loss, timed, us in zip(candidates, log_odds, losses, times, medians, strict=True):
        ranking = Ranking.of(answers)
        excess, error = paired_excess(loss, best, rows.group)
        low, _, high = statistics.quantiles(timed, n=4)
        beaten = any(
            its_us < us and its_loss.mean() < loss.mean() for its_us, its_loss in zip(medians, losses, strict=True)
        )
        found.append(
            FrontierPoint(
                parts=" + ".join(candidate.parts),
                encoder=candidate.encoder.card.name if candidate.has_encoder else None,
                auroc=metrics.auroc(ranking, rows.match.astype(np.float64)),
                apgr=metrics.apgr(metrics.quality_curve(ranking, rows.strong_score, rows.weak_score)),
                excess_loss=excess,
                excess_loss_se=error,
                us=us,
                us_quartiles=(low, high),
                is_on_frontier=not beaten,
            )
        )
    return sorted(found, key=lambda point: point.us)


def cheapest_within_error(points: Sequence[FrontierPoint]) -> FrontierPoint:
    """Return the fastest point whose loss is within one standard error of the lowest."""
    return min((one for one in points if one.excess_loss <= one.excess_loss_se), key=lambda one: one.us)


def _microseconds(candidates: Sequence[_Candidate], rows: FrontierRows, seed: int) -> list[list[float]]:
    answerers = [_answerer(candidate, rows) for candidate in candidates]
    drawn = np.random.default_rng(seed).permutation(rows.match.size)[:N_TIMED]
    times: list[list[float]] = [[] for _ in candidates]
    for row in drawn:
        for answer, timed in zip(answerers, times, strict=True):
            start = time.perf_counter_ns()
            answer(rows.prompts[row])
            timed.append((time.perf_counter_ns() - start) / 1e3)
    return times


def _answerer(candidate: _Candidate, rows: FrontierRows) -> Callable[[Prompt], NDArray[np.float32]]:
    """Return text -> logits of those parts, doing no more than they need; weights as fitted, scales left out."""
    encoder, parts = candidate.encoder, candidate.parts
    word_pieces = word_pieces_of(encoder.tokenizer_json)
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens)
    head = _some_head(candidate, rows)

    def answer(prompt: Prompt) -> NDArray[np.float32]:
        logits = head.intercept
        if head.dense is not None:
            features = featurize(prompt)
            logits = logits + encoder.encode(features.token_ids) @ head.dense
            if "lexical" in parts:
                logits = logits + features.counts @ head.lexical[features.buckets]
            return logits + features.structural @ head.structural if "structural" in parts else logits
        text = head_and_tail(prompt.text)
        ids = np.array(word_pieces(text), dtype=np.int64)
        if "lexical" in parts:
            buckets, counts = hash_ngrams(ids)
            logits = logits + counts @ head.lexical[buckets]
        if "structural" in parts:
            logits = logits + structural_features(prompt, text, ids.size) @ head.structural
        return logits

    return answer


def _some_head(candidate: _Candidate, rows: FrontierRows) -> Head:
    table, settings = candidate.table.take(np.arange(rows.match.size)[:TIMED_FIT_ROWS]), FitSettings(form=rows.form)
    outcome = rows.outcome[:TIMED_FIT_ROWS]
    return fit_head(fit_scaler(table, settings), table, outcome, settings, with_dense=candidate.has_encoder)
