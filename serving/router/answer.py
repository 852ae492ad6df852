"""An answer of the weak model and the numbers that came with it: what a second look reads beside the prompt.

Comes in: what a gateway or a log knows of an answer. Goes out: `Answer` and `Signals`, plain values without any model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What the weak model answered.

    Attributes:
        text: the answer's text, valid Unicode without lone surrogates; empty where it only calls tools.
        tool_calls: number of calls of tools in it, at least 0.
        is_refusal: whether the vendor marks it as a refusal.
        finish_reason: why it ended, such as "stop", "length", "tool_calls" or "content_filter"; empty for unknown.
    """

    text: str = ""
    tool_calls: int = 0
    is_refusal: bool = False
    finish_reason: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing in it that could be shown."""
        return not (self.text.strip() or self.tool_calls)


@dataclass(frozen=True, slots=True)
class Signals:
    """Numbers that came with an answer; None for each that did not, which is normal.

    Attributes:
        token_logprobs: natural log-probability of each token of the answer, in order.
        mean_logprob: mean of them, where only that is known.
        self_check: log-probability that the model itself calls its answer right, signed: values below log 0.5 mean
            that it called it wrong.
        top_margins: of each token, its log-probability less that of the next best token.
    """

    token_logprobs: tuple[float, ...] | None = None
    mean_logprob: float | None = None
    self_check: float | None = None
    top_margins: tuple[float, ...] | None = None


NO_SIGNALS = Signals()
