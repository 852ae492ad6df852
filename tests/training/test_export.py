"""The exported graph gives what the Python path gives, whatever the text, and skips the encoder when it may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.native_builds import need_extension
from turnout.serving.errors import ModelFault
from turnout.serving.router.dense import DenseEncoder
from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.features import Featurizer
from turnout.serving.router.graph_parts import encoder_graph, fast_graph
from turnout.serving.router.model import FastHead, RouterModel, Stage
from turnout.serving.router.native.opening import open_native
from turnout.serving.router.prompt import Prompt, prompt_from_json, prompt_from_text
from turnout.training.bundle import export, fusing
from turnout.training.bundle.export import EDGE, PARITY, check_parity, export_router
from turnout.training.bundle.fusing import FUSED_DOMAIN
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.calibrate import PREFERRED_FIRST, exit_band
from turnout.training.fit.fit import FitSettings, fit_router, outcome_classes
from turnout.training.fit.router import FittedRouter, HeadLogOdds, threshold_log_odds
from turnout.training.fit.unfamiliar import MAX_FLAGGED, Familiarity, fit_limit, rare_share, rare_weight
from turnout.training.sample.sample import STRONG, WEAK, make_sample

N_FIT = 300
THRESHOLDS = (0.0, 0.5, 0.85, 0.95, 1.0)
ODD_TEXTS = (
    "",
    " \n\t ",
    "a",
    "a" * 5000,
    "z " * 3000,
    "?" * 200,
    "\0",
    "nul\0in\0between",
    "\n" * 100,
    "🚆" * 300,
    "👩‍👩‍👧‍👦 é ﷽",
    "ما هي عاصمة مصر؟ אבגד",
    "x^2 + y^2 = {z}; def f(a): return a['b']  # 3 < 4",
    "\ud800 alone",
    "The committee met again and postponed the vote. " * 22_000,
)
FORMS = ("binary", "four_outcomes")
KINDS = [(form, calibrator) for form in FORMS for calibrator in PREFERRED_FIRST]
WHOLE = [("binary", "fit_platt"), ("four_outcomes", "fit_isotonic")]
"""Compared on every row: each form once, and the two calibrators that differ most."""

FEW = slice(N_FIT - 40, None)
"""Rows enough for the kinds that share their graph with those; the odd texts are among them."""


@dataclass(frozen=True)
class Fixed:
    """Prompts, their features, and routers fitted on the first of them."""

    prompts: list[Prompt]
    table: FeatureTable
    routers: dict[tuple[str, str], FittedRouter]


@pytest.fixture(scope="module")
def fixed(encoder: EncoderModel) -> Fixed:
    rows = make_sample(N_FIT, seed=7)
    bodies = [msgspec.json.encode(row["request"]) for row in rows]
    prompts = [*(prompt_from_json(body) for body in bodies), *(prompt_from_text(text) for text in ODD_TEXTS)]
    table = embed(prompts, encoder, cache_dir=None)
    strong, weak = np.array([[row["responses"][model]["score"] for model in (STRONG, WEAK)] for row in rows]).T
    match = (weak >= strong).astype(np.int64)
    targets = {"binary": match, "four_outcomes": outcome_classes(match, strong, weak)}
    fit_rows = table.take(np.arange(N_FIT))
    routers = {}
    for form, calibrate in KINDS:
        linear = fit_router(fit_rows, targets[form], FitSettings(form=form, dense_scale=0.5))
        fast, full = linear.log_odds(fit_rows)
        fast_calibrator, full_calibrator = calibrate(fast, match), calibrate(full, match)
        band = exit_band(fast_calibrator(fast), full_calibrator(full))
        rare_idf = rare_weight(N_FIT)
        familiarity = Familiarity(rare_idf, fit_limit(rare_share(linear.scaler, rare_idf, fit_rows)))
        routers[form, calibrate.__name__] = FittedRouter(linear, fast_calibrator, full_calibrator, band, familiarity)
    return Fixed(prompts, table, routers)


@pytest.fixture(scope="module")
def router(fixed: Fixed) -> FittedRouter:
    return fixed.routers["four_outcomes", "fit_platt"]


@pytest.fixture(scope="module")
def graph(router: FittedRouter, encoder: EncoderModel) -> bytes:
    return export_router(router, encoder)


@pytest.fixture(scope="module")
def model(graph: bytes, encoder: EncoderModel) -> RouterModel:
    return model_of(graph, encoder)


def model_of(graph: bytes, encoder: EncoderModel) -> RouterModel:
    return RouterModel(graph, encoder.tokenizer_json, encoder.card.max_tokens)


def expit(log_odds: float) -> float:
    return 1 / (1 + np.exp(-log_odds))


def assert_parity(
    model: RouterModel, router: FittedRouter, prompt: Prompt, heads: HeadLogOdds, row: int = 0
) -> set[Stage]:
    """Compare both heads and the stage at every threshold; return the stages seen."""
    fast, full = float(heads.fast[row]), float(heads.full[row])
    features = model.featurize(prompt)
    answer = model.predict_features(features, 0.5, early_exit=False)
    assert answer.stage is Stage.FULL
    assert abs(answer.p_match - expit(full)) <= PARITY
    seen = set()
    for threshold in THRESHOLDS:
        distance = abs(fast - threshold_log_odds(threshold)) - router.exit_band.at(threshold_log_odds(threshold))
        if distance < -EDGE and row % 10:
            continue  # compared above; running the encoder once more for one prompt in ten is enough
        answer = model.predict_features(features, threshold)
        if abs(distance) > EDGE:
            assert answer.stage is (Stage.FULL if distance < 0 else Stage.FAST)
        assert abs(answer.p_match - expit(full if answer.stage is Stage.FULL else fast)) <= PARITY
        seen.add(answer.stage)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("form", "calibrate"), WHOLE)
def test_graph_gives_what_the_python_path_gives(fixed: Fixed, encoder: EncoderModel, form: str, calibrate: str):
    router = fixed.routers[form, calibrate]
    model = model_of(export_router(router, encoder), encoder)
    heads = router.log_odds(fixed.table)
    seen = set()
    for row, prompt in enumerate(fixed.prompts):
        seen |= assert_parity(model, router, prompt, heads, row)
    assert len(fixed.prompts) > 300
    assert seen == {Stage.FAST, Stage.FULL}
    assert router.linear.full.lexical.shape[1] == (1 if form == "binary" else 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "calibrate"), [(form, one.__name__) for form, one in KINDS if (form, one.__name__) not in WHOLE]
)
def test_graph_with_any_calibrator_gives_the_same(fixed: Fixed, encoder: EncoderModel, form: str, calibrate: str):
    router = fixed.routers[form, calibrate]
    model = model_of(export_router(router, encoder), encoder)
    heads = router.log_odds(fixed.table)
    for row in range(len(fixed.prompts))[FEW]:
        assert_parity(model, router, fixed.prompts[row], heads, row)


@given(text=st.text(st.characters(exclude_categories=()), max_size=400))
@settings(max_examples=50)
def test_parity_holds_for_arbitrary_text(model: RouterModel, router: FittedRouter, encoder: EncoderModel, text: str):
    prompt = prompt_from_text(text)
    heads = router.log_odds(embed([prompt], encoder, cache_dir=None, n_threads=1))
    assert_parity(model, router, prompt, heads)


def test_prompt_facts_outside_the_text_count_in_both(model: RouterModel, router: FittedRouter, encoder: EncoderModel):
    prompt = Prompt("Look at this", turns=7, images=3, tools=12, wants_json=True)
    heads = router.log_odds(embed([prompt], encoder, cache_dir=None))
    assert_parity(model, router, prompt, heads)
    plain = model.predict(Prompt("Look at this"), 0.5, early_exit=False)
    assert plain.p_match != model.predict(prompt, 0.5, early_exit=False).p_match


def test_prompt_without_any_word_piece_is_answered(model: RouterModel):
    features = model.featurize(Prompt(""))
    assert features.buckets.size == 0
    for early_exit in (True, False):
        assert 0 < model.predict_features(features, 0.5, early_exit=early_exit).p_match < 1


def test_graph_and_python_path_agree_exactly_on_what_is_out_of_distribution(
    fixed: Fixed, router: FittedRouter, model: RouterModel
):
    expected = router.is_out_of_distribution(fixed.table)
    assert expected[:N_FIT].mean() <= MAX_FLAGGED
    assert expected[N_FIT:].mean() > 0.5
    for row, prompt in enumerate(fixed.prompts):
        for early_exit in (True,) if row % 5 else (True, False):  # the rule stands outside the encoder's branch
            said = model.predict(prompt, 0.9, early_exit=early_exit)
            assert said.is_out_of_distribution is bool(expected[row])
    assert not model.predict(Prompt(""), 0.9).is_out_of_distribution


@given(text=st.text(st.characters(exclude_categories=()), max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_text_is_called_otherwise_by_graph_and_python_path(
    model: RouterModel, router: FittedRouter, encoder: EncoderModel, text: str
):
    prompt = prompt_from_text(text)
    expected = router.is_out_of_distribution(embed([prompt], encoder, cache_dir=None, n_threads=1))
    assert model.predict(prompt, 0.9).is_out_of_distribution is bool(expected[0])


def test_router_that_calls_nothing_out_of_distribution_has_no_such_output(
    fixed: Fixed, router: FittedRouter, encoder: EncoderModel
):
    graph = export_router(replace(router, familiarity=None), encoder)
    assert [output.name for output in onnx.load_from_string(graph).graph.output] == ["p_match", "is_full"]
    model = model_of(graph, encoder)
    assert not any(model.predict(prompt, 0.9).is_out_of_distribution for prompt in fixed.prompts[N_FIT:])


def test_graph_with_another_limit_fails_the_parity_check(fixed: Fixed, router: FittedRouter, encoder: EncoderModel):
    rows = np.arange(N_FIT - 20, N_FIT + 10)
    other = replace(router, familiarity=replace(router.familiarity, limit=np.float32(1.0)))
    with pytest.raises(DataRefused, match="prompts otherwise"):
        check_parity(
            export_router(other, encoder),
            encoder,
            router,
            [fixed.prompts[row] for row in rows],
            fixed.table.take(rows),
            0.9,
        )


def test_early_exit_never_runs_the_encoder(fixed: Fixed, router: FittedRouter, encoder: EncoderModel):
    broken = model_of(export_router(router, nan_encoder(encoder)), encoder)
    heads = router.log_odds(fixed.table)
    is_full = router.cascade(heads, 0.9).is_full
    assert 0 < is_full.mean() < 1
    for row in np.flatnonzero(~is_full)[:20]:
        assert broken.predict(fixed.prompts[row], 0.9).p_match == pytest.approx(expit(heads.fast[row]), abs=PARITY)
        with pytest.raises(ModelFault):
            broken.predict(fixed.prompts[row], 0.9, early_exit=False)
    for row in np.flatnonzero(is_full)[:20]:
        with pytest.raises(ModelFault):
            broken.predict(fixed.prompts[row], 0.9)


def nan_encoder(encoder: EncoderModel) -> EncoderModel:
    """Return an encoder that gives NaN for every prompt."""
    dim = encoder.card.dim
    nan = helper.make_tensor("nan", TensorProto.FLOAT, [dim], [float("nan")] * dim)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["nan"], ["dense"])],
        "nan",
        [helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("dense", TensorProto.FLOAT, [dim])],
        [nan],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return replace(encoder, graph=model.SerializeToString())


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from tensors(attribute.g)


def test_graph_is_self_contained(graph: bytes, encoder: EncoderModel):
    found = list(tensors(onnx.load_from_string(graph).graph))
    assert sum(tensor.ByteSize() for tensor in found) > 0.9 * len(encoder.graph)
    assert {tensor.data_location for tensor in found} == {TensorProto.DEFAULT}
    assert not any(tensor.external_data for tensor in found)


def test_encoder_stands_inside_the_branch_alone(graph: bytes):
    nodes = onnx.load_from_string(graph).graph.node
    assert not [node.name for node in nodes if "encoder/" in node.name]
    assert [node.op_type for node in nodes].count("If") == 1


def test_same_router_gives_the_same_bytes(graph: bytes, router: FittedRouter, encoder: EncoderModel):
    assert export_router(router, encoder) == graph


def test_graph_of_another_router_fails_the_parity_check(fixed: Fixed, router: FittedRouter, encoder: EncoderModel):
    rows = np.arange(20)
    prompts, table = fixed.prompts[:20], fixed.table.take(rows)
    assert check_parity(export_router(router, encoder), encoder, router, prompts, table, 0.9).max_difference <= PARITY
    head = replace(router.linear.full, intercept=router.linear.full.intercept * np.float32(1.001))
    other = replace(router, linear=replace(router.linear, full=head))
    with pytest.raises(DataRefused, match="differs from the Python path"):
        check_parity(export_router(other, encoder), encoder, router, prompts, table, 0.9)


def test_band_of_zero_leaves_every_prompt_to_the_fast_head(fixed: Fixed, encoder: EncoderModel):
    router = replace(fixed.routers["binary", "fit_platt"], exit_band=ExitBand.constant(0.0))
    model = model_of(export_router(router, encoder), encoder)
    heads = router.log_odds(fixed.table)
    for row in range(0, N_FIT, 50):
        answer = model.predict(fixed.prompts[row], 0.9)
        assert answer.stage is Stage.FAST
        assert answer.p_match == pytest.approx(expit(heads.fast[row]), abs=PARITY)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "calibrator"), [(form, one.__name__) for form, one in KINDS])
def test_the_head_in_c_says_what_every_kind_of_graph_says(
    fixed: Fixed, encoder: EncoderModel, form: str, calibrator: str
):
    need_extension()
    graph = fast_graph(export_router(fixed.routers[form, calibrator], encoder))
    assert graph is not None
    featurize, head = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens), FastHead(graph)
    open_native(head, graph, featurize, ODD_TEXTS[:-2])
    assert head.path == "native"
    assert head.native is not None
    for prompt in fixed.prompts[FEW]:
        found = head.native.look(prompt, 0.85)
        said = head.first_stage(featurize(prompt), 0.85)
        if found is not None:
            assert abs(found.p_match - said.p_match) <= 1e-6
            assert found.is_open is (said.stage is Stage.FULL)


def branch_operators(graph: bytes) -> set[tuple[str, str]]:
    attributes = (one for node in onnx.load_from_string(graph).graph.node for one in node.attribute)
    return {(node.domain, node.op_type) for one in attributes for node in one.g.node}


def test_the_encoder_goes_in_fused_and_gives_the_same_vectors_to_the_last_bit(graph: bytes, encoder: EncoderModel):
    operators = branch_operators(graph)
    assert (FUSED_DOMAIN, "DynamicQuantizeMatMul") in operators
    assert ("", "MatMulInteger") not in operators
    inside = encoder_graph(graph)
    assert inside is not None
    dense = DenseEncoder(inside)
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens)
    for text in (*ODD_TEXTS, *(" ".join(["ferry"] * n) for n in range(1, 130, 7))):
        token_ids = featurize(prompt_from_text(text)).token_ids
        np.testing.assert_array_equal(dense(token_ids), encoder.encode(token_ids))


def test_an_encoder_whose_vectors_fusing_would_change_goes_in_as_it_is(
    router: FittedRouter, encoder: EncoderModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    other = onnx.load_from_string(encoder.graph)
    scale = next(one for one in other.graph.initializer if one.name.endswith("_scale") and one.data_type == 1)
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.001), scale.name))
    monkeypatch.setattr(export, "fused_encoder", fusing.fused_encoder.__wrapped__)  # each time anew
    monkeypatch.setattr(fusing, "_fused", lambda _: other.SerializeToString())
    graph = export_router(router, encoder)
    assert ("", "MatMulInteger") in branch_operators(graph)
    assert "would differ" in caplog.text
    monkeypatch.setattr(fusing, "_fused", lambda _: b"\xff no graph")
    assert export_router(router, encoder) == graph
