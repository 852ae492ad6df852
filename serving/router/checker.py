"""The second look: prompt, the weak model's answer and its signals in, a calibrated `p_match` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from turnout.serving.errors import ModelFault
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.answer_features import SIGNALS, came_with, shape_of, signals_of, structure_of
from turnout.serving.router.model import session_options


class CheckHead(StrEnum):
    """Which part of the second look answered."""

    CHECKER = "CHECKER"
    """Prompt, answer and signals."""
    SIGNALS = "SIGNALS"
    """The signals alone, for what is unlike the training data."""
    NONE = "NONE"
    """Nothing: unlike the training data, and without a signal that can be used."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the second look says of one answer.

    Attributes:
        p_match: calibrated probability in [0, 1] that the weak answer is not worse than the strong one would be; of no
            meaning where `head` is NONE.
        head: what answered.
        signals_used, signals_ignored: names of the signals that counted, and of those that came and did not.
    """

    p_match: float
    head: CheckHead
    signals_used: tuple[str, ...] = ()
    signals_ignored: tuple[str, ...] = ()


Ngrams = Callable[[str], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Text to its hashed word pieces: distinct ascending buckets, and how often each occurs."""


class CheckerModel:
    """The second look's graph, ready to check. Thread-safe; one ONNX thread a call, and no encoder runs.

    The graph holds both heads with their calibrators. Which kinds of signal count in which shapes of answer is in it
    too: a kind that training had in no such shape is ignored, and `Checked` says so.
    """

    def __init__(self, graph: bytes, ngrams: Ngrams) -> None:
        """Build the session from the bytes of `checker.onnx`; `ngrams` reads answers as the router reads prompts."""
        self._session = ort.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
        self._ngrams = ngrams

    def check(
        self,
        prompt_text: str,
        answer: Answer,
        signals: Signals,
        first_log_odds: float,
        is_out_of_distribution: bool,
    ) -> Checked:
        """Return what the second look says of an answer.

        Args:
            prompt_text: the request as the router reads it.
            answer: the weak model's; any text, the empty one and one of megabytes too: its head and tail are read.
            signals: what came with it.
            first_log_odds: of the first look's fast head, calibrated.
            is_out_of_distribution: whether the prompt is unlike the training data, so that only the signals count.

        Raises:
            ModelFault: the graph gave NaN or a number outside [0, 1].
        """
        values = signals_of(signals)
        buckets, counts = self._ngrams(answer.text)
        p_checker, p_signals, is_used = self._session.run(
            None,
            {
                "buckets": buckets,
                "counts": counts,
                "structure": structure_of(prompt_text, answer).astype(np.float32),
                "shape": np.array(shape_of(answer), np.int64),
                "first": np.array(first_log_odds, np.float32),
                "signals": values.astype(np.float32),
            },
        )
        used = tuple(name for name, counted in zip(SIGNALS, is_used, strict=True) if counted)
        ignored = tuple(name for name in came_with(signals) if name not in used)
        if is_out_of_distribution and not used:
            return Checked(0.0, CheckHead.NONE, used, ignored)
        head = CheckHead.SIGNALS if is_out_of_distribution else CheckHead.CHECKER
        p_match = float(p_signals if is_out_of_distribution else p_checker)
        if not 0.0 <= p_match <= 1.0:  # False for NaN too
            raise ModelFault(f"the checker's graph gave p_match = {p_match}, expected a number in [0, 1]")
        return Checked(p_match, head, used, ignored)
