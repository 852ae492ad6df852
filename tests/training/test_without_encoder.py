"""A graph without its encoder says of logged vectors what the whole graph says of the prompts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builders import tiny_graph
from turnout.serving.bundles.bundle import GRAPH, load_bundle, read_file_of
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.prompt import prompt_from_json
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.logs.cells import encode
from turnout.training.retrain.asking import Side, ask_both
from turnout.training.retrain.without_encoder import VectorModel
from turnout.training.sample.sample import make_sample


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_answers_to_vectors_are_those_to_their_prompts(encoder: EncoderModel, threshold: float):
    bundle = load_bundle(find_bundle())
    prompts = [prompt_from_json(encode(row["request"])) for row in make_sample(60, 5)]
    table = embed(prompts, encoder, cache_dir=None, harness_rules=bundle.manifest.harness_rules)
    side = Side(bundle.model, threshold)
    expected = ask_both(side, side, prompts)[0].answers
    found = VectorModel(read_file_of(bundle, GRAPH), bundle.unseen).answers(table, threshold)
    np.testing.assert_allclose(found.p_match, expected.p_match, atol=1e-6)
    assert found.goes_weak.tolist() == expected.goes_weak.tolist()
    assert np.ptp(found.p_match) > 0.2


def test_graph_without_an_encoder_is_refused():
    with pytest.raises(DataRefused, match="holds no encoder"):
        VectorModel(tiny_graph(nan_on_digits=False, work_per_question=0))
