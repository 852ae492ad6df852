"""The encoder taken out of a served graph gives, bit for bit, the vectors that training fits on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import tiny_graph
from turnout.serving.bundles.bundle import GRAPH, Bundle, load_bundle, read_file_of
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.dense import DenseEncoder
from turnout.serving.router.graph_parts import encoder_graph
from turnout.serving.router.prompt import Prompt
from turnout.training.encoders.encoders import EncoderModel


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return load_bundle(find_bundle())


@pytest.fixture(scope="module")
def dense(shipped: Bundle) -> DenseEncoder:
    graph = encoder_graph(read_file_of(shipped, GRAPH))
    assert graph is not None
    return DenseEncoder(graph)


@given(text=st.text(max_size=400))
def test_vector_is_the_one_of_the_encoder_on_its_own(
    shipped: Bundle, dense: DenseEncoder, encoder: EncoderModel, text: str
):
    assert shipped.manifest.encoder.sha256 == encoder.card.sha256
    token_ids = shipped.model.featurize(Prompt(text)).token_ids
    np.testing.assert_array_equal(dense(token_ids), encoder.encode(token_ids))


def test_nothing_but_the_encoder_is_taken_out(shipped: Bundle, encoder: EncoderModel):
    graph = encoder_graph(read_file_of(shipped, GRAPH))
    assert graph is not None
    assert len(graph) < 1.01 * len(encoder.graph)


def test_graph_without_an_encoder_and_bytes_that_are_no_graph_give_none():
    assert encoder_graph(tiny_graph(nan_on_digits=False, work_per_question=0)) is None
    assert encoder_graph(b"\xff no graph") is None
    assert encoder_graph(b"") is None
