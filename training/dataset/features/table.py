"""Table: features as Parquet holds them, read back as the arrays that fits read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from turnout.serving.router.features import N_BUCKETS, STRUCTURAL
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
