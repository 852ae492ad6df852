"""Similarity: two answers whose embeddings lie close enough are taken to agree; the threshold is fitted, or it is off.

Comes in: rows that no other labeller could decide, and rows whose truth is known. Goes out: labels for those of the
first that lie above the threshold. Like all agreement it only ever says match. The rows it learns from are those whose
answers do not agree otherwise: the others would make the threshold look better than it is where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from turnout.serving.router.prompt import prompt_from_text
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.labels.agreement import NAME, agreement
from turnout.training.logs.records import Label, LabelledRecord, Record

LABELLER = f"{NAME}:similar"
TARGET = 0.97
"""Least share of rows above the threshold that must be a match, established at `DELTA`."""
DELTA = 0.1
"""Probability, at most, that the share is lower than `TARGET` all the same."""
MIN_ROWS = 300
"""Where the sequence starts. At 114 rows a single miss would end it; at 300 four are forgiven."""
GRID = np.round(np.arange(0.995, 0.5, -0.005), 3)


@dataclass(frozen=True, slots=True)
class SimilarityRule:
    """From which cosine on two answers count as agreeing.

    Attributes:
        threshold: cosine, -1 to 1.
        confidence: share of matches above it on the rows it was fitted on, as (hits + 1) / (rows + 2).
        n_rows: how many rows that were.
    """

    threshold: float
    confidence: float
    n_rows: int

    def label(self, cosine: float) -> Label | None:
        """Return match = 1 from the threshold on."""
        return Label(1, LABELLER, self.confidence) if cosine >= self.threshold else None


def label_by_similarity(
    undecided: Sequence[Record], known: Sequence[LabelledRecord], encoder: EncoderModel
) -> list[Label | None]:
    """Return a label or None for each undecided record, by a rule fitted on the known ones; None where none fits."""
    taught = [row for row in known if teaches(row)]
    match = np.array([row.label.match for row in taught], dtype=np.int64)
    rule = fit_similarity(cosines([row.record for row in taught], encoder), match) if undecided else None
    if rule is None:
        return [None] * len(undecided)
    return [rule.label(float(cosine)) for cosine in cosines(undecided, encoder)]


def teaches(row: LabelledRecord) -> bool:
    """Whether a row says how far apart two answers may lie: both have text, and do not agree otherwise."""
    record = row.record
    strong, weak = (answer.content if answer else None for answer in (record.strong, record.weak))
    if not strong or not weak or row.label.family == NAME:
        return False
    return agreement(strong, weak, record.prompt.text) is None


def fit_similarity(
    cosine: NDArray[np.float64], match: NDArray[np.int64], *, target: float = TARGET, delta: float = DELTA
) -> SimilarityRule | None:
    """Return the rule with the lowest threshold that keeps the target, or None when none does.

    Fixed-sequence testing from the highest threshold down, each by the exact binomial bound (Clopper and Pearson
    1934), so that looking at many thresholds costs no confidence. Thresholds with fewer than `MIN_ROWS` are
    skipped. The share must also beat that of all the rows, or the cosine would say nothing.

    Args:
        cosine: (n,) of the two answers of each row.
        match: (n,) 0 or 1.
        target: least share of matches above the threshold.
        delta: probability, at most, that the share is lower all the same.
    """
    floor = max(target, float(match.mean())) if match.size else target
    found = None
    for threshold in GRID:
        above = match[cosine >= threshold]
        if above.size < MIN_ROWS:
            continue
        hits = int(above.sum())
        if not hits or beta.ppf(delta, hits, above.size - hits + 1) < floor:
            break
        found = SimilarityRule(float(threshold), (hits + 1) / (above.size + 2), above.size)
    return found


def cosines(records: Sequence[Record], encoder: EncoderModel, n_threads: int | None = None) -> NDArray[np.float64]:
    """Return the (n,) cosine of the two answers of each record, both of which must have text; all cores by default."""
    texts = [prompt_from_text(text) for record in records for text in _answers(record)]
    if not texts:
        return np.empty(0)
    dense = embed(texts, encoder, cache_dir=None, n_threads=n_threads).dense.astype(np.float64)
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    return np.asarray((dense[::2] * dense[1::2]).sum(axis=1), dtype=np.float64)


def _answers(record: Record) -> tuple[str, str]:
    strong, weak = record.strong, record.weak
    if strong is None or weak is None or not strong.content or not weak.content:
        raise ValueError(f"{record.file}, line {record.line}: similarity needs both answers")
    return strong.content, weak.content
