"""Distance of the dense means, with a permutation test: what words and measures do not show of a change of topic.

Comes in: dense vectors. Goes out: means of blocks of rows for the bundle, and the distance of live rows from them.

The distance is the maximum mean discrepancy with a linear kernel (Gretton et al. 2012), that of the two means. A
bundle keeps no vector of a single prompt, which could be turned back into its words, but means of blocks of at
least `MIN_BLOCK_ROWS`. Live rows are put into blocks of the same size; without a shift all blocks are exchangeable,
so that permuting them gives the law of the distance. Rows of one group stand in one block where it has room: rows
that depend on each other would make chance look smaller than it is.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

DENSE_BLOCKS = "dense_blocks.npz"
MAX_BLOCKS = 64
MIN_BLOCK_ROWS = 20
MIN_BLOCKS = 5
N_PERMUTATIONS = 999

Vectors = NDArray[np.float32]


class DenseDistance(msgspec.Struct, frozen=True):
    """How far the mean of live dense vectors is from the baseline's.

    Attributes:
        distance: of the means of unit vectors, in [0, 2].
        by_chance: 95 % quantile of the distance among permutations.
        p_value: share of the permutations (this one counted) with a distance as large.
        n_rows: live rows in whole blocks.
        n_baseline: rows of the baseline.
    """

    distance: float
    by_chance: float
    p_value: float
    n_rows: int
    n_baseline: int


@dataclass(frozen=True)
class DenseBlocks:
    """Means of blocks of unit vectors, (k, dim), each over `rows` rows."""

    means: Vectors
    rows: int

    def to_bytes(self) -> bytes:
        """Return them as a file of the bundle; half precision, some 50 kB."""
        out = io.BytesIO()
        np.savez_compressed(out, means=self.means.astype(np.float16), rows=np.array(self.rows))
        return out.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes) -> DenseBlocks:
        """Return those of a file."""
        with np.load(io.BytesIO(raw), allow_pickle=False) as found:
            return cls(found["means"].astype(np.float32), int(found["rows"]))


def dense_blocks(dense: Vectors, group: NDArray[np.int64], seed: int = 0) -> DenseBlocks | None:
    """Return the block means of (n, dim) vectors; None where they are too few for `MIN_BLOCKS`.

    Args:
        dense: as the encoder gives them.
        group: (n,) which rows belong together.
        seed: of the order of the groups.
    """
    rows = max(MIN_BLOCK_ROWS, -(-len(dense) // MAX_BLOCKS))
    if len(dense) < MIN_BLOCKS * rows:
        return None
    return DenseBlocks(block_means(dense, group, rows, seed), rows)


def block_means(dense: Vectors, group: NDArray[np.int64], rows: int, seed: int) -> Vectors:
    """Return (n // rows, dim) means of unit vectors over blocks of so many rows; a rest without a block is left out."""
    names, place = np.unique(group, return_inverse=True)
    order = np.argsort(np.random.default_rng(seed).permutation(names.size)[place], kind="stable")
    unit = dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    n_blocks = len(dense) // rows
    whole = unit[order[: n_blocks * rows]].astype(np.float64)
    return np.asarray(whole.reshape(n_blocks, rows, -1).mean(axis=1), dtype=np.float32)


def dense_distance(
    baseline: DenseBlocks, dense: Vectors, group: NDArray[np.int64], seed: int = 0
) -> DenseDistance | None:
    """Return how far (n, dim) live vectors are from the baseline; None where they fill less than `MIN_BLOCKS`."""
    if len(dense) < MIN_BLOCKS * baseline.rows:
        return None
    live = block_means(dense, group, baseline.rows, seed)
    everything = np.concatenate((baseline.means, live)).astype(np.float64)
    n_live = len(live)
    rng = np.random.default_rng(seed)
    is_live = np.zeros((1 + N_PERMUTATIONS, len(everything)))
    is_live[:, len(baseline.means) :] = 1
    is_live[1:] = rng.permuted(is_live[1:], axis=1)
    totals = everything.sum(axis=0)
    sums = is_live @ everything
    distances = np.linalg.norm(sums / n_live - (totals - sums) / len(baseline.means), axis=1)
    return DenseDistance(
        distance=float(distances[0]),
        by_chance=float(np.quantile(distances[1:], 0.95)),
        p_value=float((distances >= distances[0] - 1e-12).mean()),
        n_rows=n_live * baseline.rows,
        n_baseline=len(baseline.means) * baseline.rows,
    )
