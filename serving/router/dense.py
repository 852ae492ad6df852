"""Dense: the encoder of a router graph by itself, for prompts that the fast head has answered.

Comes in: what `graph_parts.encoder_graph` gave. Goes out: token ids to the dense vector, bit for bit the one that the
graph computes and training fits on.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from turnout.serving.router.graph_parts import DENSE, TOKEN_IDS
from turnout.serving.router.model import session_options


class DenseEncoder:
    """An encoder, ready to run. Thread-safe; one ONNX thread a call."""

    def __init__(self, graph: bytes) -> None:
        """Build the session from the bytes that `encoder_graph` gave."""
        self._session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])

    def __call__(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the dense vector (dim,) float32 of (n,) token ids; always a batch of one."""
        (dense,) = self._session.run((DENSE,), {TOKEN_IDS: token_ids})
        return np.asarray(dense, dtype=np.float32)
