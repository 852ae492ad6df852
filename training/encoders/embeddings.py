"""Embeddings: records to the three feature blocks, one prompt at a time, with a disk cache of the dense one.

Comes in: prompts. Goes out: `FeatureTable`. Every prompt runs alone and unpadded, because the scale of
dynamically quantised activations is taken over the whole tensor: a second row would change the answer.
Both the tokenizer and ONNX Runtime release the GIL, so a pool of threads uses every core.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from turnout.serving.router.features import N_BUCKETS, STRUCTURAL, Features, Featurizer
from turnout.serving.router.prompt import Prompt
from turnout.training.encoders.encoders import EncoderModel

CACHE_CHUNK = 512
"""Rows embedded between two commits to the cache: what a killed run loses, at most."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of n prompts.

    Attributes:
        counts: (n, 2**18) sparse float32, raw counts of hashed uni- and bigrams.
        structural: (n, 16) float32, raw measures in the order of `turnout.serving.router.features.STRUCTURAL`.
        dense: (n, dim) float32, mean-pooled hidden states as the encoder gives them.
    """

    counts: csr_matrix
    structural: NDArray[np.float32]
    dense: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> FeatureTable:
        """Return the table of those rows only."""
        return FeatureTable(self.counts[rows], self.structural[rows], self.dense[rows])


def default_cache_dir() -> Path:
    """Return `$TURNOUT_CACHE`, else `$XDG_CACHE_HOME/turnout`, else `~/.cache/turnout`."""
    if explicit := os.environ.get("TURNOUT_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turnout"


def embed(
    prompts: Sequence[Prompt],
    encoder: EncoderModel,
    *,
    cache_dir: Path | None,
    harness_rules: int = 0,
    n_threads: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> FeatureTable:
    """Return the features of the prompts, in their order.

    Args:
        prompts: any prompts, the empty one too.
        encoder: the encoder that will also stand in the graph.
        cache_dir: folder of the dense cache; None neither reads nor writes one.
        harness_rules: version of the rules by which harness text is left out, as the bundle will name it.
        n_threads: threads; all cores when None.
        on_progress: called with the number of rows just done.
    """
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, harness_rules)
    dense = np.empty((len(prompts), encoder.card.dim), dtype=np.float32)
    features: list[Features] = []
    with (
        ThreadPoolExecutor(n_threads or os.cpu_count() or 1) as pool,
        closing(DenseCache(cache_dir, encoder.card.sha256)) as cache,
    ):
        for start in range(0, len(prompts), CACHE_CHUNK):
            chunk = list(pool.map(featurize, prompts[start : start + CACHE_CHUNK]))
            dense[start : start + len(chunk)] = cache.fill(
                [item.token_ids for item in chunk], lambda missing: pool.map(encoder.encode, missing)
            )
            features.extend(chunk)
            on_progress(len(chunk))
    return FeatureTable(stack_counts(features), _stack_structural(features), dense)


def stack_counts(features: Sequence[Features]) -> csr_matrix:
    """Return the counts of n prompts as the (n, 2**18) matrix of a `FeatureTable`."""
    indptr = np.concatenate(([0], np.cumsum([item.buckets.size for item in features])))
    indices = np.concatenate([item.buckets for item in features] or [np.empty(0, np.int64)])
    data = np.concatenate([item.counts for item in features] or [np.empty(0, np.float32)])
    return csr_matrix((data, indices, indptr), shape=(len(features), N_BUCKETS), dtype=np.float32)


def _stack_structural(features: Sequence[Features]) -> NDArray[np.float32]:
    stacked = [item.structural for item in features]
    return np.array(stacked, dtype=np.float32).reshape(len(features), len(STRUCTURAL))


class DenseCache:
    """Dense vectors on disk, keyed by encoder digest (the file) and digest of the token ids (the row).

    The token ids, not the text, are what the encoder reads: two texts that differ only beyond its
    window share a vector rightly, and a prompt can't be read back from the cache.
    """

    def __init__(self, folder: Path | None, encoder_sha256: str) -> None:
        """Open the cache of one encoder; an in-memory one when `folder` is None."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        path = ":memory:" if folder is None else folder / f"dense-{encoder_sha256[:16]}.sqlite"
        self._db = sqlite3.connect(path, timeout=60)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS dense (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def fill(
        self,
        token_ids: Sequence[NDArray[np.int64]],
        encode: Callable[[list[NDArray[np.int64]]], Iterator[NDArray[np.float32]]],
    ) -> NDArray[np.float32]:
        """Return the (n, dim) vectors of n inputs, calling `encode` for those not cached."""
        keys = [hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in token_ids]
        known = self._read(keys)
        missing = {key: ids for key, ids in zip(keys, token_ids, strict=True) if key not in known}
        fresh = dict(zip(missing, encode(list(missing.values())), strict=True))
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO dense VALUES (?, ?)", [(key, vector.tobytes()) for key, vector in fresh.items()]
            )
        known |= fresh
        return np.stack([known[key] for key in keys])

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        marks = ",".join("?" * len(keys))
        rows = self._db.execute(f"SELECT key, vector FROM dense WHERE key IN ({marks})", list(keys))  # noqa: S608
        return {key: np.frombuffer(vector, dtype=np.float32) for key, vector in rows}
