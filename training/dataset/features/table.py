"""Table: features as Parquet holds them, read back as the arrays that fits read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from turnout.serving.router.answer_features import SIGNALS, STRUCTURE
from turnout.serving.router.checker import Ngrams
from turnout.serving.router.features import N_BUCKETS, STRUCTURAL
from turnout.training.dataset.answers import AnswerRows, Answers
from turnout.training.dataset.features.schema import FEATURE_COLUMNS
from turnout.training.encoders.embeddings import FeatureTable


def feature_table(columns: pa.Table) -> FeatureTable:
    """Return the features of n rows, none of them null, from the columns `FEATURE_COLUMNS`."""
    n_rows = columns.num_rows
    dense, buckets, counts, structural = (columns[name].combine_chunks() for name in FEATURE_COLUMNS)
    indptr = buckets.offsets.to_numpy()
    data, indices = counts.flatten().to_numpy().astype(np.float32), buckets.flatten().to_numpy().astype(np.int64)
    return FeatureTable(
        csr_matrix((data, indices, indptr - indptr[0]), shape=(n_rows, N_BUCKETS), dtype=np.float32),
        structural.flatten().to_numpy().reshape(n_rows, len(STRUCTURAL)),
        dense.flatten().to_numpy().reshape(n_rows, -1),
    )


def answers_in(columns: pa.Table, ngrams: Ngrams) -> Answers:
    """Return the answers among n rows from the columns of `ANSWER_FIELDS`; none where the file is of before them.

    Args:
        columns: of the rows.
        ngrams: reads answers as the router reads prompts, for whoever serves what is learned.
    """
    has_answer = columns["answer_shape"].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
    place = np.flatnonzero(has_answer)
    some = columns.take(pa.array(place))
    buckets, counts, structure, signals = (
        some[name].combine_chunks()
        for name in ("answer_buckets", "answer_counts", "answer_structure", "answer_signals")
    )
    ends = buckets.offsets.to_numpy()
    data, indices = counts.flatten().to_numpy().astype(np.float32), buckets.flatten().to_numpy().astype(np.int64)
    rows = AnswerRows(
        csr_matrix((data, indices, ends - ends[0]), shape=(place.size, N_BUCKETS), dtype=np.float32),
        structure.flatten().to_numpy().reshape(place.size, len(STRUCTURE)),
        some["answer_shape"].to_numpy().astype(np.int64),
        signals.flatten().to_numpy(zero_copy_only=False).reshape(place.size, len(SIGNALS)),
    )
    return Answers(place, rows, None, ngrams)
