"""The second look: prompt, the weak model's answer and its signals in, a calibrated `p_match` out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from turnout.serving.router.answer import Answer, Signals


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


class CheckerModel(Protocol):
    """What serving asks of a second look. Thread-safe."""

    def check(
        self,
        prompt_text: str,
        answer: Answer,
        signals: Signals,
        first_log_odds: float,
        is_out_of_distribution: bool,
    ) -> Checked:
        """Return what the second look says; `first_log_odds` are those of the first look's fast head."""
        ...
