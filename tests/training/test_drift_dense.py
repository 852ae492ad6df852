"""The distance of the dense means: nothing by chance, something by a shift, no vector of a single prompt kept."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.training.evaluation.dense_blocks import (
    MAX_BLOCKS,
    MIN_BLOCK_ROWS,
    DenseBlocks,
    block_means,
    dense_blocks,
    dense_distance,
)

DIM = 24


def vectors(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, (n, DIM)) + 1 + shift * np.eye(DIM)[0]).astype(np.float32)


def alone(n: int) -> np.ndarray:
    return np.arange(n)


def test_p_values_without_a_shift_are_even_and_a_shift_gives_the_least():
    p_values = []
    for seed in range(60):
        blocks = dense_blocks(vectors(seed, 640), alone(640))
        found = dense_distance(blocks, vectors(1000 + seed, 300), alone(300), seed)
        p_values.append(found.p_value)
    assert 0.3 < np.mean(p_values) < 0.7
    assert np.mean(np.array(p_values) <= 0.05) < 0.2
    moved = dense_distance(blocks, vectors(7, 300, shift=1.0), alone(300))
    assert moved.p_value == 0.001
    assert moved.distance > moved.by_chance


def test_blocks_hold_so_many_rows_that_no_prompt_can_be_seen_and_survive_their_file():
    blocks = dense_blocks(vectors(0, 4000), alone(4000))
    assert len(blocks.means) <= MAX_BLOCKS
    assert blocks.rows >= MIN_BLOCK_ROWS
    read = DenseBlocks.from_bytes(blocks.to_bytes())
    assert read.rows == blocks.rows
    assert read.means == pytest.approx(blocks.means, abs=1e-3)
    assert len(blocks.to_bytes()) < 100_000


def test_mean_of_the_blocks_is_that_of_the_unit_vectors():
    raw = vectors(0, 400)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert block_means(raw, alone(400), 20, 0).mean(axis=0) == pytest.approx(unit.mean(axis=0), abs=1e-5)


def test_rows_of_a_group_stand_side_by_side():
    group = np.arange(400) % 20
    raw = np.eye(20, dtype=np.float32)[group]
    means = block_means(raw, group, 20, seed=3)
    assert sorted(means.max(axis=1)) == [1.0] * 20  # twenty groups of twenty rows: one a block


def test_too_few_rows_have_no_distance():
    blocks = dense_blocks(vectors(0, 640), alone(640))
    assert dense_blocks(vectors(0, 99), alone(99)) is None
    assert dense_distance(blocks, vectors(1, 99), alone(99)) is None
