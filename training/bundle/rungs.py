"""Export of the rungs between: `rungs.onnx`, held against the Python path, and their golden p.

Comes in: `RungFit`. Goes out: bytes that `turnout.serving.router.rungs.RungHeads` reads. One graph for all of them: the
weighted n-grams are made once, and each rung is a column. Platt's line is folded in: each node takes a microsecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from turnout.serving.bundles.manifest import Golden
from turnout.serving.router.features import STRUCTURAL, Featurizer
from turnout.serving.router.prompt import Prompt, prompt_from_text
from turnout.serving.router.rungs import RungHeads
from turnout.training.bundle.export import IR_VERSION, OPSET, PARITY
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.errors import DataRefused
from turnout.training.fit.calibrators import P_MIN
from turnout.training.fit.rungs import RungFit

_BODY = Template("""
rungs (int64[k] buckets, float[k] counts, float[$n_structural] structural) => (float[$n_rungs] p_rungs)
{
    log_counts = Log (counts)
    term_frequency = Add (log_counts, one)
    level = Gather (levels, buckets)
    level_number = Cast <to = 6> (level)
    bucket_idf = Gather (idf, level_number)
    weighted = Mul (term_frequency, bucket_idf)
    length = ReduceL2 <keepdims = 0> (weighted)
    safe_length = Max (length, tiny)
    halves = Gather (lexical, buckets)
    bucket_weights = Cast <to = 1> (halves)
    lexical_sum = MatMul (weighted, bucket_weights)
    lexical_logits = Div (lexical_sum, safe_length)
    lexical_odds = Mul (lexical_logits, slope)
    centred = Sub (structural, structural_mean)
    scaled = Mul (centred, structural_factor)
    clipped = Clip (scaled, clip_low, clip_high)
    structural_odds = MatMul (clipped, structural_weights)
    features = Add (lexical_odds, structural_odds)
    odds = Add (features, start)
    p = Sigmoid (odds)
    p_rungs = Clip (p, p_low, p_high)
}
""")


def export_rungs(fit: RungFit) -> bytes:
    """Return the graph; raises `ValueError` where a head is not binary or reads the encoder."""
    if any(not head.is_binary or head.dense is not None for head in fit.heads):
        raise ValueError("a rung's head is binary, over words and structure")
    graph = parser.parse_graph(_BODY.substitute(n_structural=len(STRUCTURAL), n_rungs=len(fit.heads)))
    scaler = fit.scaler
    slope, start = (np.array([getattr(line, of) for line in fit.calibrators]) for of in ("slope", "intercept"))
    constants = {
        "one": np.array(1.0, np.float32),
        "tiny": np.array(1e-12, np.float32),
        "levels": fit.frequencies.level,
        "idf": fit.frequencies.idf,
        "lexical": np.hstack([head.lexical for head in fit.heads]).astype(np.float16),
        "structural_mean": scaler.structural_mean,
        "structural_factor": scaler.structural_factor,
        "clip_low": np.array(-scaler.structural_clip, np.float32),
        "clip_high": np.array(scaler.structural_clip, np.float32),
        "structural_weights": (np.hstack([head.structural for head in fit.heads]) * slope).astype(np.float32),
        "slope": slope.astype(np.float32),
        "start": (np.concatenate([head.intercept for head in fit.heads]) * slope + start).astype(np.float32),
        "p_low": np.array(P_MIN, np.float32),
        "p_high": np.array(1.0 - P_MIN, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "turnout"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def check_rungs(
    graph: bytes, fit: RungFit, featurizer: Featurizer, prompts: Sequence[Prompt], table: FeatureTable
) -> float:
    """Return the largest difference between graph and Python path over some prompts.

    Args:
        graph: as `export_rungs` gave it.
        fit: the Python path.
        featurizer: as served.
        prompts: any.
        table: their features.

    Raises:
        DataRefused: they differ by more than `PARITY`.
    """
    heads, expected = RungHeads(graph), fit.p(table)
    said = np.array([heads.p_rungs(featurizer(prompt)) for prompt in prompts])
    largest = float(np.abs(said - expected).max()) if prompts else 0.0
    if largest > PARITY:
        raise DataRefused(f"rungs.onnx differs from the Python path by {largest:.2e}, allowed {PARITY:.0e}")
    return largest


def golden_with_rungs(lines: bytes, graph: bytes, featurizer: Featurizer) -> bytes:
    """Return the lines of `golden.jsonl` with what the rungs say of each prompt."""
    heads = RungHeads(graph)
    golden = [msgspec.json.decode(line, type=Golden) for line in lines.splitlines()]
    said = [
        msgspec.structs.replace(one, p_rungs=heads.p_rungs(featurizer(prompt_from_text(one.prompt)))) for one in golden
    ]
    return b"".join(msgspec.json.encode(one) + b"\n" for one in said)
