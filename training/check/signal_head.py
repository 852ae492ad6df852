"""The signal head: what answers where prompt or answer are unlike the training data.

Comes in: `CheckRows` with signals. Goes out: `SignalHead`, fitted and judged with whole sources left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from turnout.serving.router.answer_features import SIGNALS, Shape
from turnout.training.arrays import Floats, Ints
from turnout.training.check.fit import MIN_CELL_ROWS, SignalGate
from turnout.training.check.rows import CheckRows

N_FOLDS = 5


@dataclass(frozen=True)
class SignalHead:
    """slope * curve + an intercept for each kind: what answers where the prompt is unlike the training data.

    It is served as fitted. A line fitted on sources left out whole made it worse: ECE 0.040, 0.097, 0.084 and 0.020 on
    the four held out, 0.045, 0.032, 0.037 and 0.020 without.

    Attributes:
        base, slope: of the regression; a more certain model never counts as a worse one.
        offsets: (2,) of the kinds.
        gate: which kinds count in which shapes.
        held_out: (n,) log-odds of each row from a fit without its source; NaN without a signal.
    """

    base: float
    slope: float
    offsets: Floats
    gate: SignalGate
    held_out: Floats = field(repr=False, default_factory=lambda: np.empty(0))

    def log_odds(self, rows: CheckRows) -> Floats:
        """Return (n,) log-odds; NaN where no signal counts."""
        features = self.gate.features(rows)
        odds = self.base + self.slope * features[:, 0] + features[:, 1:] @ self.offsets
        return np.where(features[:, 1:].sum(axis=1) > 0, odds, np.nan)


NO_SIGNAL_HEAD = SignalHead(0.0, 0.0, np.zeros(2), SignalGate(np.zeros((len(Shape), len(SIGNALS)), dtype=bool)))


def fit_signal_head(rows: CheckRows, match: Ints, source: NDArray[np.str_], group: Ints) -> SignalHead:
    """Fit on the rows with a signal; each also gets what a fit without its source says of it, its groups left out.

    Where only one source has signals, its groups are left out by folds instead.
    """
    gate = SignalGate.fitted(rows)
    features = gate.features(rows)
    known = np.flatnonzero(features[:, 1:].sum(axis=1) > 0)
    if known.size < MIN_CELL_ROWS or np.unique(match[known]).size < 2:
        return NO_SIGNAL_HEAD
    held = np.full(match.size, np.nan)
    for out in _left_out(known, source, group):
        rest = known[~np.isin(group[known], group[out])]
        if np.unique(match[rest]).size == 2:
            held[out] = _linear(features[rest], match[rest]).decision_function(features[out])
    whole = _linear(features[known], match[known])
    slope, *offsets = whole.coef_[0]
    return SignalHead(float(whole.intercept_[0]), float(slope), np.array(offsets), gate, held)


def _left_out(known: Ints, source: NDArray[np.str_], group: Ints) -> list[Ints]:
    names = np.unique(source[known])
    if names.size > 1:
        return [known[source[known] == name] for name in names]
    n_folds = min(N_FOLDS, np.unique(group[known]).size)
    return [known[out] for _, out in GroupKFold(n_folds).split(known, groups=group[known])]


def _linear(features: Floats, match: Ints) -> LogisticRegression:
    return LogisticRegression(C=1.0, max_iter=500).fit(features, match)
