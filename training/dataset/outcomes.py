"""Outcomes: what a router said of some rows, and what came true.

Comes in: columns over the rows of the test part. Goes out: `Outcomes`, checked, for `training.evaluation.evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.training.arrays import Floats, Ints
from turnout.training.errors import DataRefused


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rows with what the router said of them and what came true; arrays are (n,).

    Attributes:
        p_match: in [0, 1], from the cascade as served.
        match: 0 or 1.
        strong_score, weak_score: 0 to 1; where the labeller gave none, 1 and `match`.
        source, task: names; empty where unknown.
        group: rows with the same number are drawn together.
        prompt_length: in characters.
        is_full: whether the encoder ran.
        p_uncalibrated: what the fit said before calibration, in [0, 1].
        is_out_of_distribution: rows that go strong whatever the threshold; None for none.
        language: names; of the writing system where the log names no language.
        tokens: estimated, of the prompt.
        turns: user messages of the conversation, 1 or more.
        confidence: probability in [0, 1] that `match` is right, as far as its labeller knows.
        structural: (n, 16) raw measures in the order of `turnout.serving.router.features.STRUCTURAL`.
    """

    p_match: Floats
    match: Ints
    strong_score: Floats
    weak_score: Floats
    source: list[str]
    group: Ints
    prompt_length: Floats
    task: list[str]
    is_full: NDArray[np.bool_]
    p_uncalibrated: Floats | None = None
    is_out_of_distribution: NDArray[np.bool_] | None = None
    language: list[str] | None = None
    tokens: Floats | None = None
    turns: Ints | None = None
    confidence: Floats | None = None
    structural: NDArray[np.float32] | None = None

    @property
    def falls_back(self) -> NDArray[np.bool_]:
        """(n,) whether a row goes strong whatever the threshold."""
        if self.is_out_of_distribution is None:
            return np.zeros(len(self.p_match), dtype=bool)
        return self.is_out_of_distribution

    @property
    def rank_by(self) -> Floats:
        """The order in which rows go weak, as served: what is out of distribution comes last."""
        return self.p_match - 1.0 * self.falls_back

    def goes_weak(self, p_match: Floats, threshold: float) -> NDArray[np.bool_]:
        """(n,) what goes weak at a threshold, given the cascade's `p_match` there."""
        return np.asarray((p_match >= threshold) & ~self.falls_back)

    def __post_init__(self) -> None:
        n = len(self.p_match)
        if n == 0:
            raise DataRefused("evaluation: expected at least one row, got none; were all of them seen in training?")
        for name in self.__slots__:
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise DataRefused(f"evaluation: {name} has {len(column)} rows, p_match has {n}; give one value a row")
        refuse_outside_unit("p_match", self.p_match)
        refuse_outside_unit("match", self.match)
        if self.p_uncalibrated is not None:
            refuse_outside_unit("p_uncalibrated", self.p_uncalibrated)
        if self.confidence is not None:
            refuse_outside_unit("confidence", self.confidence)
        if not (np.isfinite(self.strong_score).all() and np.isfinite(self.weak_score).all()):
            raise DataRefused("evaluation: a score is not a finite number; leave out rows without scores")


def refuse_outside_unit(name: str, values: NDArray[np.generic]) -> None:
    """Refuse values that are no probability and no label; NaN is neither."""
    inside = np.asarray(values, dtype=np.float64)
    if not ((inside >= 0) & (inside <= 1)).all():
        raise DataRefused(
            f"evaluation: {name} holds a value outside [0, 1] or NaN; it must be a probability or a label"
        )
