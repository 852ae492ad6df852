"""Embedding: the same vectors with and without the cache, which holds no prompt and belongs to one encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from turnout.serving.router.features import N_BUCKETS, STRUCTURAL, Featurizer
from turnout.serving.router.prompt import Prompt, prompt_from_text
from turnout.training.encoders import embeddings
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import GRAPH, EncoderModel, load_encoder
from turnout.training.errors import DataRefused

SECRET = "The signal box at Ballycraigy closed in the spring"
PROMPTS = [prompt_from_text(text) for text in (SECRET, "", "What is it?", "word " * 400, SECRET, "¿Qué es esto? 🚆")]


def assert_same(one: FeatureTable, other: FeatureTable) -> None:
    assert np.array_equal(one.dense, other.dense)
    assert np.array_equal(one.structural, other.structural)
    assert (one.counts != other.counts).nnz == 0


def unusable(encoder: EncoderModel) -> EncoderModel:
    """Return the same encoder by name and digest, whose graph can't run."""
    return replace(encoder, graph=b"no graph")


def test_table_has_a_row_a_prompt_in_order(encoder: EncoderModel):
    table = embed(PROMPTS, encoder, cache_dir=None)
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens)
    assert table.counts.shape == (len(PROMPTS), N_BUCKETS)
    assert table.structural.shape == (len(PROMPTS), len(STRUCTURAL))
    for row, prompt in enumerate(PROMPTS):
        features = featurize(prompt)
        assert np.array_equal(table.dense[row], encoder.encode(features.token_ids))
        assert np.array_equal(table.structural[row], features.structural)
        assert np.array_equal(table.counts[row].indices, features.buckets)
        assert np.array_equal(table.counts[row].data, features.counts)


def test_no_prompts_have_an_empty_table(encoder: EncoderModel):
    table = embed([], encoder, cache_dir=None)
    assert table.counts.shape == (0, N_BUCKETS)
    assert table.structural.shape == (0, len(STRUCTURAL))
    assert table.dense.shape == (0, encoder.card.dim)


def test_neighbours_threads_and_order_change_no_vector(encoder: EncoderModel):
    together = embed(PROMPTS, encoder, cache_dir=None, n_threads=4)
    backwards = embed(PROMPTS[::-1], encoder, cache_dir=None, n_threads=1)
    assert_same(together, backwards.take(np.arange(len(PROMPTS))[::-1]))


def test_cached_vectors_are_the_computed_ones_and_spare_the_encoder(encoder: EncoderModel, tmp_path: Path):
    computed = embed(PROMPTS, encoder, cache_dir=tmp_path)
    assert_same(computed, embed(PROMPTS, encoder, cache_dir=None))
    assert_same(computed, embed(PROMPTS, unusable(encoder), cache_dir=tmp_path))
    with pytest.raises(Exception, match=r"(?i)model|protobuf"):
        embed([Prompt("something new")], unusable(encoder), cache_dir=tmp_path)


def test_another_encoder_never_reads_the_cache_of_this_one(encoder: EncoderModel, tmp_path: Path):
    embed(PROMPTS, encoder, cache_dir=tmp_path)
    other = replace(unusable(encoder), card=msgspec.structs.replace(encoder.card, sha256="0" * 64))
    with pytest.raises(Exception, match=r"(?i)model|protobuf"):
        embed(PROMPTS, other, cache_dir=tmp_path)


def test_cache_holds_no_text_of_a_prompt(encoder: EncoderModel, tmp_path: Path):
    embed(PROMPTS, encoder, cache_dir=tmp_path)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert files
    for word in SECRET.encode().split():
        assert not any(word in content for content in files if len(word) > 4)


def test_killed_run_keeps_the_chunks_that_were_done(
    encoder: EncoderModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embeddings, "CACHE_CHUNK", 2)

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(PROMPTS, encoder, cache_dir=tmp_path, on_progress=killed)
    assert embed(PROMPTS[:2], unusable(encoder), cache_dir=tmp_path).dense.shape == (2, encoder.card.dim)


def test_progress_counts_every_prompt(encoder: EncoderModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embeddings, "CACHE_CHUNK", 4)
    steps: list[int] = []
    embed(PROMPTS, encoder, cache_dir=None, on_progress=steps.append)
    assert steps == [4, 2]


def test_damaged_encoder_is_refused_by_name(encoder: EncoderModel, tmp_path: Path):
    (tmp_path / "encoder.json").write_bytes(msgspec.json.encode(encoder.card))
    (tmp_path / "tokenizer.json").write_bytes(encoder.tokenizer_json)
    (tmp_path / GRAPH).write_bytes(encoder.graph[:-1] + bytes([encoder.graph[-1] ^ 1]))
    with pytest.raises(DataRefused, match=GRAPH):
        load_encoder(tmp_path)
    (tmp_path / GRAPH).write_bytes(encoder.graph)
    assert load_encoder(tmp_path).card == encoder.card
