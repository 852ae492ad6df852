"""Heads of the rungs between: of a ladder of more than two models, p that each is not worse than the top.

Comes in: the features of a prompt. Goes out: one calibrated probability a rung. They read words and structure and never
run the encoder, so that they cost some ten microseconds whatever the first rung's stages did.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from turnout.serving.errors import ModelFault
from turnout.serving.router.features import Features
from turnout.serving.router.model import session_options

RUNG_TOLERANCE = 1e-5
"""Largest accepted difference of a golden p: no encoder runs, so that only float rounding can differ."""


class RungHeads:
    """`rungs.onnx` as a session; thread-safe, one ONNX thread a call.

    The graph takes `buckets`, `counts` and `structural` as `router.onnx` does and gives `p_rungs`, float32 (rungs,).
    """

    def __init__(self, graph: bytes) -> None:
        """Build the session from bytes, which also refuses every external data file."""
        self._session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])

    def p_rungs(self, features: Features) -> tuple[float, ...]:
        """Return the calibrated p of each rung between, the cheapest first, in [1e-6, 1 - 1e-6].

        Raises:
            ModelFault: the graph gave NaN or a number outside [0, 1].
        """
        said = {"buckets": features.buckets, "counts": features.counts, "structural": features.structural}
        (found,) = self._session.run(["p_rungs"], said)
        if not np.all((found >= 0.0) & (found <= 1.0)):  # False for NaN too
            raise ModelFault(f"the graph gave p_rungs = {found}, expected numbers in [0, 1]")
        return tuple(map(float, found))
