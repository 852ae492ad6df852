"""Frontier of our parts: what each adds in quality, and what it costs in microseconds a prompt.

Comes in: the questions of one table. Goes out: APGR and AUROC out of fold of a fit on those parts alone, and the
time from text to log-odds in this process. The parts take turns prompt by prompt, so that a busy machine is busy
for all.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from tokenizers import Tokenizer

from serving.features import Featurizer, hash_ngrams, head_and_tail, structural_features
from serving.prompt import Prompt
from serving.registry import find_encoder
from tests.bench.quality.questions import Fold, Questions
from training import metrics
from training.embeddings import FeatureTable
from training.encoders import DEFAULT_ENCODER, EncoderModel, load_encoder
from training.fit import FitSettings, Head, fit_head, fit_scaler
from training.metrics import Ranking
from training.progress import Reporter

PARTS = ("lexical", "structural", "dense")
UNIONS = [union for size in (1, 2, 3) for union in itertools.combinations(PARTS, size)]
N_TIMED = 200
SETTINGS = FitSettings()
ALONE = FitSettings(structural_scale=1.0)
"""The small scale of the structural part is its regularisation beside others; alone it has its own spread."""


def measure_frontier(questions: Questions, seed: int, reporter: Reporter) -> list[dict]:
    """Return one entry a union of parts: APGR, AUROC, median microseconds and quartiles."""
    with reporter.stage("Fitting unions of parts", 5 * len(UNIONS)) as advance:
        found = {union: np.empty(questions.rows.size) for union in UNIONS}
        for fold in questions.folds(seed):
            for union in UNIONS:
                found[union][fold.test] = _log_odds(fold, union)
                advance(1)
    with reporter.stage("Timing unions of parts"):
        times = _microseconds(questions, seed)
    match = questions.match.astype(np.float64)
    entries = []
    for union, log_odds in found.items():
        ranking = Ranking.of(log_odds)
        curve = metrics.quality_curve(ranking, questions.strong_score, questions.weak_score)
        low, middle, high = statistics.quantiles(times[union], n=4)
        entries.append(
            {
                "parts": " + ".join(union),
                "apgr": metrics.apgr(curve),
                "auroc": metrics.auroc(ranking, match),
                "us": middle,
                "us_quartiles": (low, high),
            }
        )
    return entries


def print_frontier(entries: list[dict]) -> None:
    """Print a Markdown table."""
    print("| parts | APGR | AUROC | µs a prompt, median (quartiles) |\n| --- | --- | --- | --- |")
    for one in entries:
        low, high = one["us_quartiles"]
        print(
            f"| {one['parts']} | {one['apgr']:.3f} | {one['auroc']:.3f} | {one['us']:.0f} ({low:.0f} to {high:.0f}) |"
        )


def draw_frontier(entries: list[dict], out: Path) -> None:
    """Write `frontier.png` and `frontier.svg`."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for rank, one in enumerate(sorted(entries, key=lambda one: one["apgr"])):
        axes.plot(one["us"], one["apgr"], "o", color="#1f5f8b")
        side, x = (("left", 7), ("right", -7))[rank % 2]  # neighbours in height are labelled on either side
        place = {"xytext": (x, 0), "textcoords": "offset points", "ha": side, "va": "center"}
        axes.annotate(one["parts"], (one["us"], one["apgr"]), fontsize=8, **place)
    axes.set(xscale="log", xlabel="microseconds a prompt, one thread (median)", ylabel="APGR, out of fold")
    axes.margins(x=0.5, y=0.15)
    axes.grid(alpha=0.25)
    out.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "svg"):
        figure.savefig(out / f"frontier.{kind}", dpi=160)


def _log_odds(fold: Fold, union: tuple[str, ...]) -> np.ndarray:
    table = _only(fold.questions.table, union)
    settings = ALONE if union == ("structural",) else SETTINGS
    train = table.take(fold.train)
    scaler = fit_scaler(train, settings)
    head = fit_head(scaler, train, fold.questions.classes[fold.train], settings, with_dense="dense" in union)
    return head.log_odds(scaler, table.take(fold.test))


def _only(table: FeatureTable, union: tuple[str, ...]) -> FeatureTable:
    """Return the table with the other parts empty; a column without variance gets weight 0."""
    counts = table.counts if "lexical" in union else csr_matrix(table.counts.shape, dtype=np.float32)
    structural = table.structural if "structural" in union else np.zeros_like(table.structural)
    return FeatureTable(counts, structural, table.dense)


def _microseconds(questions: Questions, seed: int) -> dict[tuple[str, ...], list[float]]:
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    train = next(iter(questions.folds(seed))).train[:4000]
    table = questions.table.take(train)
    scaler = fit_scaler(table, SETTINGS)
    head = fit_head(scaler, table, questions.classes[train], SETTINGS, with_dense=True)
    timed = {union: _answerer(union, encoder, head) for union in UNIONS}
    drawn = np.random.default_rng(seed).permutation(questions.rows.size)[:N_TIMED]
    times: dict[tuple[str, ...], list[float]] = {union: [] for union in UNIONS}
    for row in drawn:
        prompt = questions.data.rows[questions.rows[row]].record.prompt
        for union, answer in timed.items():
            start = time.perf_counter_ns()
            answer(prompt)
            times[union].append((time.perf_counter_ns() - start) / 1e3)
    return times


def _answerer(union: tuple[str, ...], encoder: EncoderModel, head: Head) -> Callable[[Prompt], np.ndarray]:
    """Return text -> logits of those parts, doing no more than they need; weights as fitted, scales left out."""
    tokenizer = Tokenizer.from_buffer(encoder.tokenizer_json)
    tokenizer.no_truncation()
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens)

    def answer(prompt: Prompt) -> np.ndarray:
        if "dense" in union:
            features = featurize(prompt)
            logits = encoder.encode(features.token_ids) @ head.dense
            if "lexical" in union:
                logits = logits + features.counts @ head.lexical[features.buckets]
            return logits + features.structural @ head.structural if "structural" in union else logits
        text = head_and_tail(prompt.text)
        ids = np.array(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids, dtype=np.int64)
        logits = head.intercept
        if "lexical" in union:
            buckets, counts = hash_ngrams(ids)
            logits = logits + counts @ head.lexical[buckets]
        return (
            logits + structural_features(prompt, text, ids.size) @ head.structural if "structural" in union else logits
        )

    return answer
