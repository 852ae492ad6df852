"""Fusing: the encoder with neighbouring nodes joined, before it goes into a router graph.

Comes in: the encoder's graph. Goes out: the same with ONNX Runtime's extended fusions saved into it, where every vector
stays the same to the last bit on this machine; else as it was. ONNX Runtime fuses a graph that stands alone, nothing
inside an `If`, and sessions of training and serving go by basic optimisation alone, so that both compute the same
(docs/decisions/serving/0001). Fused beforehand, a run takes 0.86 to 0.96 of the time, at 128 and at 8 tokens.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from turnout.serving.router.graph_parts import DENSE, TOKEN_IDS
from turnout.serving.router.model import session_options
from turnout.training.encoders.encoders import EncoderModel

FUSED_DOMAIN, FUSED_VERSION = "com.microsoft", 1
"""Of ONNX Runtime's own operators, which the fusions are made of."""

N_COMPARED = 48
"""Rows of ids at which both graphs are compared; of 2,254, real prompts and every length, none ever differed."""
_log = logging.getLogger("turnout.bundle")


@lru_cache(maxsize=1)
def fused_encoder(encoder: EncoderModel) -> onnx.ModelProto:
    """Return the encoder's model, fused where that changes no vector; it needs `FUSED_DOMAIN` then.

    It is made once for all routers of a process, a second of CPU; callers copy it and leave it as it is.
    """
    plain: onnx.ModelProto = onnx.load_from_string(encoder.graph)
    try:
        fused = _fused(encoder.graph)
        differs = _differs(fused, encoder)
    except Exception as error:  # noqa: BLE001  # whatever a version of the library finds wrong: it is only time
        _log.warning("the encoder stays unfused: %s", type(error).__name__)
        return plain
    if differs:
        _log.warning("the encoder stays unfused: its vectors would differ on this machine")
        return plain
    model: onnx.ModelProto = onnx.load_from_string(fused)
    is_computed = any(DENSE in node.output for node in model.graph.node)
    return model if is_computed else plain  # a constant has no node left that a branch could hold


def _fused(graph: bytes) -> bytes:
    """Return a graph as ONNX Runtime saves it after its extended optimisation; the same bytes each time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fused.onnx"
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(file)
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        model = onnx.load(file)
    del model.graph.value_info[:]
    for noted in (model.graph, *model.graph.node):
        del noted.metadata_props[:]
        noted.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def _differs(fused: bytes, encoder: EncoderModel) -> bool:
    session = ort.InferenceSession(fused, session_options(), providers=["CPUExecutionProvider"])
    return any(
        not np.array_equal(session.run((DENSE,), {TOKEN_IDS: ids})[0], encoder.encode(ids), equal_nan=True)
        for ids in _rows_of_ids(encoder)
    )


def _rows_of_ids(encoder: EncoderModel) -> Iterator[NDArray[np.int64]]:
    """Yield rows of ids of the encoder's vocabulary, from the shortest to the longest that it reads."""
    dice = np.random.default_rng(0)
    n_ids = Tokenizer.from_buffer(encoder.tokenizer_json).get_vocab_size()
    for length in np.linspace(2, encoder.card.max_tokens, N_COMPARED).astype(int):
        yield dice.integers(0, n_ids, int(length), dtype=np.int64)
