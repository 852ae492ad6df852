"""Answers of the weak model among labelled rows, as arrays: what a second look learns from.

Comes in: records. Goes out: `Answers`; the features are those that `serving.router.answer_features` gives serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.answer_features import SIGNALS, STRUCTURE, shape_of, signals_of, structure_of
from turnout.serving.router.checker import Ngrams
from turnout.serving.router.features import N_BUCKETS
from turnout.training.arrays import Floats, Ints
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of


@dataclass(frozen=True)
class AnswerRows:
    """m answers of the weak model.

    Attributes:
        counts: (m, 2**18) float32 counts of the answer's hashed word pieces, uni- and bigrams.
        structure: (m, s) raw measures in the order of `STRUCTURE`.
        shape: (m,) of `Shape`.
        signals: (m, 2) log-probabilities at most 0 in the order of `SIGNALS`; NaN where one is absent.
    """

    counts: csr_matrix
    structure: Floats
    shape: Ints
    signals: Floats

    def take(self, rows: Ints) -> AnswerRows:
        """Return those of some rows."""
        return AnswerRows(self.counts[rows], self.structure[rows], self.shape[rows], self.signals[rows])


@dataclass(frozen=True)
class Answers:
    """The answers among n labelled rows.

    Attributes:
        place: (m,) numbers of the rows that have one, ascending.
        rows: their features.
        texts: prompt, answer and signals of each; None where only features were read.
        ngrams: reads answers as the router reads prompts.
    """

    place: Ints
    rows: AnswerRows
    texts: list[tuple[str, Answer, Signals]] | None
    ngrams: Ngrams

    @classmethod
    def of(cls, records: Sequence[Record], ngrams: Ngrams) -> Answers:
        """Read the answers of n records."""
        found = [(record.prompt.text, answer_of(record)) for record in records]
        place = np.array([number for number, (_, answer) in enumerate(found) if answer is not None], dtype=np.int64)
        texts = [(prompt, *answer) for prompt, answer in found if answer is not None]
        return cls(place, answer_rows(texts, ngrams), texts, ngrams)

    def take(self, kept: Ints) -> Answers:
        """Return those among some rows, numbered anew; `kept` ascends."""
        among = np.flatnonzero(np.isin(self.place, kept))
        texts = None if self.texts is None else [self.texts[row] for row in among]
        return Answers(np.searchsorted(kept, self.place[among]), self.rows.take(among), texts, self.ngrams)


def answer_rows(found: Sequence[tuple[str, Answer, Signals]], ngrams: Ngrams) -> AnswerRows:
    """Return the features of answers, each with its prompt's text and signals."""
    counted = [ngrams(answer.text) for _, answer, _ in found]
    ends = np.concatenate(([0], np.cumsum([buckets.size for buckets, _ in counted]))).astype(np.int64)
    indices = np.concatenate([buckets for buckets, _ in counted]) if counted else np.empty(0, np.int64)
    data = np.concatenate([counts for _, counts in counted]) if counted else np.empty(0, np.float32)
    structure = np.array([structure_of(prompt, answer) for prompt, answer, _ in found])
    signals = np.array([signals_of(came) for _, _, came in found])
    return AnswerRows(
        csr_matrix((data, indices, ends), shape=(len(found), N_BUCKETS)),
        structure.reshape(len(found), len(STRUCTURE)),
        np.array([int(shape_of(answer)) for _, answer, _ in found], dtype=np.int64),
        signals.reshape(len(found), len(SIGNALS)),
    )
