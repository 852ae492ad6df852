"""Export of the second look: checker and signal head as one graph, `checker.onnx`, held against the Python path.

The graph takes and gives what `serving.router.checker.CheckerModel` says. Scales are folded into the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

from turnout.serving.router.answer_features import SIGNALS, STRUCTURE, Shape
from turnout.training.bundle.export import IR_VERSION, OPSET
from turnout.training.check.fit import (
    FIRST_CLIP,
    LEAST_SURPRISE,
    MOST_SURPRISE,
    STRUCTURE_CLIP,
    Checker,
)
from turnout.training.check.signal_head import SignalHead

_GRAPH = f"""
checker (int64[k] buckets, float[k] counts, float[{len(STRUCTURE)}] structure, int64 shape, float first,
         float[{len(SIGNALS)}] signals) => (float p_checker, float p_signals, bool[{len(SIGNALS)}] is_used)
{{
    log_counts = Log (counts)
    term = Add (log_counts, one)
    weight_of = Gather (idf, buckets)
    weighted = Mul (term, weight_of)
    squares = Mul (weighted, weighted)
    square = ReduceSum <keepdims = 0> (squares, first_axis)
    length = Sqrt (square)
    length_or_tiny = Max (length, tiny)
    coefficient_of = Gather (lexical, buckets)
    products = Mul (weighted, coefficient_of)
    product = ReduceSum <keepdims = 0> (products, first_axis)
    lexical_part = Div (product, length_or_tiny)

    centred = Sub (structure, mean)
    scaled = Mul (centred, factor)
    clipped = Clip (scaled, lowest, highest)
    whole_terms = Mul (clipped, whole)
    whole_part = ReduceSum <keepdims = 0> (whole_terms, first_axis)
    own_mean = Gather (means, shape)
    own_factor = Gather (factors, shape)
    own_centred = Sub (structure, own_mean)
    own_scaled = Mul (own_centred, own_factor)
    own_clipped = Clip (own_scaled, lowest, highest)
    own_weight = Gather (own, shape)
    own_terms = Mul (own_clipped, own_weight)
    own_part = ReduceSum <keepdims = 0> (own_terms, first_axis)
    shape_part = Gather (shapes, shape)

    first_clipped = Clip (first, first_lowest, first_highest)
    first_part = Mul (first_clipped, first_weight)

    is_absent = IsNaN (signals)
    is_present = Not (is_absent)
    usable_here = Gather (usable, shape)
    is_used = And (is_present, usable_here)
    value = Where (is_used, signals, minus_one)
    surprise = Neg (value)
    bounded = Clip (surprise, least_surprise, most_surprise)
    logged = Log (bounded)
    shifted = Add (logged, seven)
    curves = Div (shifted, six)
    present = Cast <to = 1> (is_used)
    n_present = ReduceSum <keepdims = 0> (present, first_axis)
    n_or_one = Max (n_present, one)
    share = Div (present, n_or_one)
    shared = Mul (curves, share)
    strength = ReduceSum <keepdims = 0> (shared, first_axis)
    strength_part = Mul (strength, signal_weight)
    kind_terms = Mul (share, kinds)
    kind_part = ReduceSum <keepdims = 0> (kind_terms, first_axis)

    sum_1 = Add (lexical_part, whole_part)
    sum_2 = Add (sum_1, own_part)
    sum_3 = Add (sum_2, shape_part)
    sum_4 = Add (sum_3, first_part)
    sum_5 = Add (sum_4, strength_part)
    sum_6 = Add (sum_5, kind_part)
    raw = Add (sum_6, intercept)
    used_number = Cast <to = 7> (is_used)
    cell_terms = Mul (used_number, places)
    cell = ReduceSum <keepdims = 0> (cell_terms, first_axis)
    match_slope = Gather (match_slopes, cell)
    miss_slope = Gather (miss_slopes, cell)
    start = Gather (starts, cell)
    negated = Neg (raw)
    minus_log_p = Softplus (negated)
    minus_log_q = Softplus (raw)
    match_term = Mul (minus_log_p, match_slope)
    miss_term = Mul (minus_log_q, miss_slope)
    bent = Sub (miss_term, match_term)
    odds = Add (bent, start)
    p_checker = Sigmoid (odds)

    head_terms = Mul (share, head_offsets)
    head_part = ReduceSum <keepdims = 0> (head_terms, first_axis)
    head_strength = Mul (strength, head_slope)
    head_sum = Add (head_strength, head_part)
    head_odds = Add (head_sum, head_base)
    p_signals = Sigmoid (head_odds)
}}
"""


def export_checker(checker: Checker, head: SignalHead) -> bytes:
    """Return the graph as bytes, weights inline."""
    graph = parser.parse_graph(_GRAPH)
    constants = _constants(checker, head)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "turnout"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _constants(checker: Checker, head: SignalHead) -> dict[str, NDArray[Any]]:
    settings, scaler = checker.settings, checker.scaler
    n_structure = len(STRUCTURE)
    first, whole, shapes, signals = np.split(checker.small, np.cumsum([1, n_structure, len(Shape)]))
    singles = {
        "one": 1.0,
        "tiny": 1e-12,
        "minus_one": -1.0,
        "six": 6.0,
        "seven": 7.0,
        "lowest": -STRUCTURE_CLIP,
        "highest": STRUCTURE_CLIP,
        "first_lowest": -FIRST_CLIP,
        "first_highest": FIRST_CLIP,
        "least_surprise": LEAST_SURPRISE,
        "most_surprise": MOST_SURPRISE,
        "first_weight": first[0] * settings.first_scale,
        "signal_weight": signals[0] * settings.signal_scale,
        "intercept": checker.intercept,
        "head_base": head.base,
        "head_slope": head.slope,
        "idf": checker.idf,
        "lexical": checker.lexical * settings.lexical_scale,
        "mean": scaler.mean[-1],
        "factor": scaler.factor[-1],
        "whole": whole * settings.structure_scale,
        "means": scaler.mean[:-1],
        "factors": scaler.factor[:-1],
        "own": checker.own * settings.shape_structure_scale,
        "shapes": shapes * settings.shape_scale,
        "kinds": signals[1:] * settings.signal_scale,
        "match_slopes": [beta.match_slope for beta in checker.calibrators],
        "miss_slopes": [beta.miss_slope for beta in checker.calibrators],
        "starts": [beta.intercept for beta in checker.calibrators],
        "head_offsets": head.offsets,
    }
    return {name: np.asarray(value, dtype=np.float32) for name, value in singles.items()} | {
        "first_axis": np.array([0], np.int64),
        "usable": checker.gate.usable,
        "places": np.array([1, 2], np.int64),
    }
