"""Embeddings: records to the three feature blocks, one prompt at a time, with a disk cache of the dense one.

Comes in: prompts. Goes out: `FeatureTable`. Every prompt runs alone and unpadded, because the scale of
dynamically quantised activations is taken over the whole tensor: a second row would change the answer.
Both the tokenizer and ONNX Runtime release the GIL, so a pool of threads uses every core.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from array import array
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

WHOLE = 100_000
"""Prompts up to which vectors and counts are kept in single precision. Of a million, half precision and counts of two
bytes save 1.1 GB; a vector is read to 3 digits, where the int8 encoder has two."""

CACHE_CHUNK = 512
"""Rows embedded between two commits to the cache: what a killed run loses, at most."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of n prompts.

    Attributes:
        counts: (n, 2**18) sparse float32, raw counts of hashed uni- and bigrams; uint16 of more than `WHOLE` prompts.
        structural: (n, 16) float32, raw measures in the order of `turnout.serving.router.features.STRUCTURAL`.
        dense: (n, dim) float32, mean-pooled hidden states as the encoder gives them; float16 of more than `WHOLE`.
    """

    counts: csr_matrix
    structural: NDArray[np.float32]
    dense: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> FeatureTable:
        """Return the table of those rows only, in single precision."""
        counts, dense = self.counts[rows].astype(np.float32, copy=False), self.dense[rows]
        return FeatureTable(counts, self.structural[rows], dense.astype(np.float32, copy=False))

    @property
    def is_rounded(self) -> bool:
        """Whether the vectors are kept in half precision, and are not the encoder's to the last bit."""
        return self.dense.dtype != np.float32


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
    is_whole = len(prompts) <= WHOLE
    dense = np.empty((len(prompts), encoder.card.dim), dtype=np.float32 if is_whole else np.float16)
    counts, structural = _Counts(), np.empty((len(prompts), len(STRUCTURAL)), dtype=np.float32)
    with (
        ThreadPoolExecutor(n_threads or os.cpu_count() or 1) as pool,
        closing(DenseCache(cache_dir, encoder.card.sha256)) as cache,
    ):
        for start in range(0, len(prompts), CACHE_CHUNK):
            chunk = list(pool.map(featurize, prompts[start : start + CACHE_CHUNK]))
            dense[start : start + len(chunk)] = cache.fill(
                [item.token_ids for item in chunk], lambda missing: pool.map(encoder.encode, missing)
            )
            counts.add(chunk)
            structural[start : start + len(chunk)] = [item.structural for item in chunk]
            on_progress(len(chunk))
    matrix = counts.matrix()
    return FeatureTable(matrix.astype(np.float32) if is_whole else matrix, structural, dense)


def stack_counts(features: Sequence[Features]) -> csr_matrix:
    """Return the counts of n prompts as the (n, 2**18) matrix of a `FeatureTable`."""
    counts = _Counts()
    counts.add(features)
    return counts.matrix().astype(np.float32)


class _Counts:
    """Counts of prompts as they come, 6 bytes an n-gram (there are 4,096 at most): arrays grow in place."""

    def __init__(self) -> None:
        self._indices, self._data, self._sizes = array("i"), array("H"), array("i")

    def add(self, features: Sequence[Features]) -> None:
        """Append the counts of some prompts."""
        for item in features:
            self._indices.frombytes(item.buckets.astype(np.int32).tobytes())
            self._data.frombytes(item.counts.astype(np.uint16).tobytes())
            self._sizes.append(item.buckets.size)

    def matrix(self) -> csr_matrix:
        """Return all of them, (n, 2**18) uint16; nothing can be added afterwards."""
        ends = np.concatenate(([0], np.cumsum(np.frombuffer(self._sizes, np.int32), dtype=np.int64)))
        data, indices = np.frombuffer(self._data, np.uint16), np.frombuffer(self._indices, np.int32)
        return csr_matrix((data, indices, ends), shape=(len(self._sizes), N_BUCKETS))


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
