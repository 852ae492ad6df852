"""Real outcomes as rows with features, read and embedded once (the dense part is cached)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.encoders.embeddings import FeatureTable, default_cache_dir
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.fit.fit import FitSettings, outcome_classes
from turnout.training.learn.learn import embed_dataset
from turnout.training.progress import Reporter

FILE = "gpt-4o_gpt-4o-mini.parquet"
SETTINGS = FitSettings(c=1.0, dense_scale=0.5)
"""What cross-validation chose for the champion that ships; chosen once, so that a fit takes seconds."""


@dataclass(frozen=True)
class RealRows:
    """The rows, their features, and their outcome among four, (n,)."""

    data: Dataset
    table: FeatureTable
    outcome: np.ndarray
    source: np.ndarray


def read_rows(folder: Path, reporter: Reporter) -> RealRows:
    """Read the pair's rows from the folder of shared data."""
    data = load_dataset([folder / FILE], Pair(), None, 0.0, reporter).dataset
    table = embed_dataset(data, load_encoder(find_encoder(DEFAULT_ENCODER)), default_cache_dir(), reporter)
    outcome = outcome_classes(data.match, data.strong_score, data.weak_score)
    return RealRows(data, table, outcome, np.array([record.source or "" for record in data.records]))
