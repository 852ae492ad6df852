"""Export: the fitted router as one self-contained ONNX graph.

Comes in: `FittedRouter` and `EncoderModel`. Goes out: the bytes of `router.onnx`. The encoder stands inside
an `If`, so that a prompt which the fast head settles never pays for it (asking ONNX Runtime for
fewer outputs does not skip it; an `If` does). Weights are inline: external data files are mapped
by the runtime, and truncating one under a live session kills the process.

The graph is written in ONNX's own text form; the names are those of `training.fit.router` and `training.fit.fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.features import STRUCTURAL
from turnout.serving.router.model import OUT_OF_DISTRIBUTION, RouterModel
from turnout.serving.router.prompt import Prompt
from turnout.training.bundle.fusing import FUSED_DOMAIN, FUSED_VERSION, fused_encoder
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.calibrators import P_MIN, Calibrator
from turnout.training.fit.fit import Head, LinearRouter
from turnout.training.fit.router import FittedRouter, threshold_log_odds

OPSET, IR_VERSION = 18, 10
PARITY = 1e-5
EDGE = 1e-4
"""A prompt this near to the edge of the exit band may change stage by rounding: only its full answer is compared."""

_BODY = Template("""
router (int64[n] token_ids, int64[k] buckets, float[k] counts, float[$n_structural] structural,
        double threshold, bool early_exit) => (float p_match, bool is_full$familiarity_output)
{
    log_counts = Log (counts)
    term_frequency = Add (log_counts, one)
    bucket_idf = Gather (idf, buckets)
    weighted = Mul (term_frequency, bucket_idf)
    squares = Mul (weighted, weighted)
    sum_of_squares = ReduceSum <keepdims = 0> (squares, first_axis)
    length = Sqrt (sum_of_squares)
    safe_length = Max (length, tiny)
    weighted_column = Unsqueeze (weighted, second_axis)
    centred = Sub (structural, structural_mean)
    scaled = Mul (centred, structural_factor)
    clipped = Clip (scaled, clip_low, clip_high)
    $fast_head

    threshold_p = Clip (threshold, p_low, p_high)
    threshold_q = Sub (one_double, threshold_p)
    threshold_ratio = Div (threshold_p, threshold_q)
    threshold_odds = Log (threshold_ratio)
    fast_odds_double = Cast <to = $double> (fast_odds)
    difference = Sub (fast_odds_double, threshold_odds)
    distance = Abs (difference)
    is_above_edge = Greater (threshold_odds, band_edges)
    is_above_edge_integer = Cast <to = 7> (is_above_edge)
    step = ReduceSum <keepdims = 0> (is_above_edge_integer, first_axis)
    half_width = Gather (half_widths, step)
    is_near = LessOrEqual (distance, half_width)
    no_early_exit = Not (early_exit)
    is_full = Or (is_near, no_early_exit)
    odds = If (is_full) <
        then_branch = full_stage () => (float full_odds)
        {
            dense_length = ReduceL2 <keepdims = 0> (dense)
            dense_unit = Div (dense, dense_length)
            dense_logits = MatMul (dense_unit, dense_weights)
            $full_head
        },
        else_branch = fast_stage () => (float fast_answer)
        {
            fast_answer = Identity (fast_odds)
        }
    >
    p_match = Sigmoid (odds)
    $familiarity
}
""")

_FAMILIARITY = """
    is_rare = GreaterOrEqual (bucket_idf, rare_idf)
    rare = Cast <to = 1> (is_rare)
    n_rare = ReduceSum <keepdims = 0> (rare, first_axis)
    n_distinct_integer = Size (buckets)
    n_distinct = Cast <to = 1> (n_distinct_integer)
    n_distinct_or_one = Max (n_distinct, one)
    rare_share = Div (n_rare, n_distinct_or_one)
    is_out_of_distribution = Greater (rare_share, rare_share_limit)
"""
"""The rule of `turnout.training.fit.unfamiliar`; it stands outside the `If`, since it needs no encoder."""


@dataclass(frozen=True)
class Parity:
    """Largest absolute difference of p_match between graph and Python path, over n prompts and both stages."""

    n: int
    max_difference: float


def export_router(router: FittedRouter, encoder: EncoderModel) -> bytes:
    """Return the graph as bytes; it takes and gives what `turnout.serving.router.model.RouterModel` says."""
    text = _BODY.substitute(
        n_structural=len(STRUCTURAL),
        double=onnx.TensorProto.DOUBLE,
        fast_head=_head_text("fast", router.linear.fast, router.fast_calibrator),
        full_head=_head_text("full", router.linear.full, router.full_calibrator),
        familiarity_output="" if router.familiarity is None else f", bool {OUT_OF_DISTRIBUTION}",
        familiarity="" if router.familiarity is None else _FAMILIARITY,
    )
    graph = parser.parse_graph(text)
    _insert_encoder(graph, fused_encoder(encoder))
    constants = _constants(router.linear, router.exit_band)
    constants |= _head_constants("fast", router.linear.fast, router.fast_calibrator)
    constants |= _head_constants("full", router.linear.full, router.full_calibrator)
    if router.familiarity is not None:
        constants |= {
            "rare_idf": np.asarray(router.familiarity.rare_idf),
            "rare_share_limit": np.asarray(router.familiarity.limit),
        }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED_DOMAIN, FUSED_VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    model.producer_name = "turnout"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def check_parity(
    graph: bytes,
    encoder: EncoderModel,
    router: FittedRouter,
    prompts: list[Prompt],
    table: FeatureTable,
    threshold: float,
    harness_rules: int = 0,
) -> Parity:
    """Compare the graph with the Python path, full stage and cascade, prompt by prompt.

    Args:
        graph: as `export_router` gave it.
        encoder: that stands inside.
        router: the Python path.
        prompts: any.
        table: their features, as `embed` gave them with the same `harness_rules`.
        threshold: at which the cascade is compared.
        harness_rules: version of the rules by which harness text is left out.

    Raises:
        DataRefused: they differ by more than `PARITY`, or on what is out of distribution; such a bundle must not be
            published.
    """
    model = RouterModel(graph, encoder.tokenizer_json, encoder.card.max_tokens, harness_rules)
    heads = router.log_odds(table)
    expected_full = router.cascade(heads, threshold, early_exit=False).p_match
    expected = router.cascade(heads, threshold).p_match
    threshold_odds = threshold_log_odds(threshold)
    is_on_edge = np.abs(np.abs(heads.fast - threshold_odds) - router.exit_band.at(threshold_odds)) < EDGE
    is_out = router.is_out_of_distribution(table)
    largest, n_differ = 0.0, 0
    for row, prompt in enumerate(prompts):
        features = model.featurize(prompt)
        full = model.predict_features(features, threshold, early_exit=False)
        n_differ += full.is_out_of_distribution != is_out[row]
        largest = max(largest, abs(full.p_match - expected_full[row]))
        if not is_on_edge[row]:
            largest = max(largest, abs(model.predict_features(features, threshold).p_match - expected[row]))
    if largest > PARITY:
        raise DataRefused(f"the exported graph differs from the Python path by {largest:.2e}, allowed {PARITY:.0e}")
    if n_differ:
        raise DataRefused(f"the exported graph calls {n_differ} of {len(prompts)} prompts otherwise: in distribution")
    return Parity(len(prompts), largest)


def _head_text(name: str, head: Head, calibrator: Calibrator) -> str:
    """Scaled parts to calibrated, clipped log-odds (a scalar named `<name>_odds`)."""
    text_logits = "text_logits" if head.dense is not None else "logits"
    logits = f"""
        {name}_bucket_weights = Gather ({name}_lexical, buckets)
        {name}_contributions = Mul ({name}_bucket_weights, weighted_column)
        {name}_lexical_sum = ReduceSum <keepdims = 0> ({name}_contributions, first_axis)
        {name}_lexical_logits = Div ({name}_lexical_sum, safe_length)
        {name}_structural_logits = MatMul (clipped, {name}_structural)
        {name}_features = Add ({name}_lexical_logits, {name}_structural_logits)
        {name}_{text_logits} = Add ({name}_features, {name}_intercept)"""
    if head.dense is not None:
        logits += f"\n        {name}_logits = Add ({name}_text_logits, dense_logits)"
    clip = f"        {name}_odds = Clip ({name}_calibrated, odds_low, odds_high)"
    return "\n".join((logits, _raw_text(name, is_binary=head.is_binary), calibrator.graph_text(name), clip))


def _raw_text(head: str, *, is_binary: bool) -> str:
    if is_binary:
        return f"        {head}_raw = Squeeze ({head}_logits, first_axis)"
    return f"""
        {head}_of_matches = Gather ({head}_logits, match_classes)
        {head}_of_misses = Gather ({head}_logits, miss_classes)
        {head}_match = ReduceLogSumExp <keepdims = 0> ({head}_of_matches)
        {head}_miss = ReduceLogSumExp <keepdims = 0> ({head}_of_misses)
        {head}_raw = Sub ({head}_match, {head}_miss)"""


def _insert_encoder(graph: onnx.GraphProto, encoder: onnx.ModelProto) -> None:
    """Put the encoder's nodes and weights in front of the nodes of the full stage."""
    (branch,) = (
        attribute.g
        for node in graph.node
        if node.op_type == "If"
        for attribute in node.attribute
        if attribute.name == "then_branch"
    )
    prefixed = onnx.compose.add_prefix(
        encoder,
        "encoder/",
        rename_inputs=False,
        rename_outputs=False,
        rename_nodes=True,
        rename_edges=True,
        rename_value_infos=True,
        rename_functions=False,
    )
    head_nodes = list(branch.node)
    del branch.node[:]
    branch.node.extend([*prefixed.graph.node, *head_nodes])
    branch.initializer.extend(prefixed.graph.initializer)


def _constants(linear: LinearRouter, exit_band: ExitBand) -> dict[str, NDArray[Any]]:
    scaler, dense = linear.scaler, linear.full.dense
    if dense is None:
        raise ValueError("the full head has no dense part; fit it with the encoder's vectors")
    limit = np.float32(threshold_log_odds(1.0))
    return {
        "one": np.array(1.0, np.float32),
        "zero": np.array(0.0, np.float32),
        "tiny": np.array(1e-12, np.float32),
        "first_axis": np.array([0], np.int64),
        "second_axis": np.array([1], np.int64),
        "idf": scaler.idf,
        "structural_mean": scaler.structural_mean,
        "structural_factor": scaler.structural_factor,
        "clip_low": np.array(-scaler.structural_clip, np.float32),
        "clip_high": np.array(scaler.structural_clip, np.float32),
        "dense_weights": (dense * scaler.dense_scale).astype(np.float32),
        "match_classes": np.flatnonzero(linear.full.matches),
        "miss_classes": np.flatnonzero(~linear.full.matches),
        "one_double": np.array(1.0),
        "p_low": np.array(P_MIN),
        "p_high": np.array(1.0 - P_MIN),
        "band_edges": np.array(exit_band.edges, np.float64),
        "half_widths": np.array(exit_band.half_widths, np.float64),
        "odds_low": np.array(-limit, np.float32),
        "odds_high": np.array(limit, np.float32),
    }


def _head_constants(name: str, head: Head, calibrator: Calibrator) -> dict[str, NDArray[Any]]:
    return {
        f"{name}_lexical": head.lexical,
        f"{name}_structural": head.structural,
        f"{name}_intercept": head.intercept,
        **calibrator.constants(name),
    }
