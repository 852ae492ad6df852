"""Heads of the rungs between: of a ladder of more than two models, p that each is not worse than the top.

Comes in: the features of a prompt. Goes out: one calibrated probability a rung. They read words and structure and never
run the encoder. The head in C says the same in the run that answers for the first rung (`native/rungs.c`), where it
agrees with this graph; what it hands over is said here.
"""

from __future__ import annotations

import onnxruntime as ort

from turnout.serving.router.features import Features
from turnout.serving.router.model import NATIVE, NOT_ASKED_FOR, check_rungs, session_options

RUNG_TOLERANCE = 1e-5
"""Largest accepted difference of a golden p: no encoder runs, so that only float rounding can differ."""


_OUTPUTS = ["p_rungs"]


class RungHeads:
    """`rungs.onnx` as a session; thread-safe, one ONNX thread a call.

    The graph takes `buckets`, `counts` and `structural` as `router.onnx` does and gives `p_rungs`, float32 (rungs,).

    Attributes:
        path: "native" where the head in C says the same in its own run, or why not.
    """

    def __init__(self, graph: bytes) -> None:
        """Build the session from bytes, which also refuses every external data file."""
        self.path = NOT_ASKED_FOR
        self._session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])

    @property
    def is_native(self) -> bool:
        """Whether the head in C says the same, so that features are not needed here for what it reads."""
        return self.path == NATIVE

    def use(self, path: str) -> None:
        """Note by which path p is said; who calls has held the head in C against this graph."""
        self.path = path

    def p_rungs(self, features: Features) -> tuple[float, ...]:
        """Return the calibrated p of each rung between, the cheapest first, in [1e-6, 1 - 1e-6].

        Raises:
            ModelFault: the graph gave NaN or a number outside [0, 1].
        """
        said = {"buckets": features.buckets, "counts": features.counts, "structural": features.structural}
        found: list[float] = self._session.run(_OUTPUTS, said)[0].tolist()
        check_rungs(found)
        return tuple(found)
