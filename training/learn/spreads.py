"""Spreads: how the measures of checked answers lie on the rows that the default policy would try.

Comes in: rows with what both looks said of them out of fold. Goes out: the fields `n_tried` and `spreads` of
`SecondLook`, which `turnout drift` holds live verdicts against. Only what would be tried counts: live verdicts are on
such answers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from turnout.serving.bundles.policy import CheckedPolicy
from turnout.serving.bundles.second_look import Spread
from turnout.serving.router.answer import NO_SIGNALS
from turnout.serving.router.answer_features import SIGNALS, signals_of
from turnout.training.arrays import Bools, Floats
from turnout.training.check.learn import FirstLook
from turnout.training.evaluation.drift_baseline import distribution
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of

MIN_ROWS = 500
"""On fewer, chance alone takes the PSI of ten bins beyond 0.1 too often to say anything."""


class Spreads(TypedDict):
    """Fields of `SecondLook`."""

    n_tried: int
    spreads: list[Spread]


def second_look_spreads(
    records: Sequence[Record], p_checked: Floats, first: FirstLook, checked: CheckedPolicy | None
) -> Spreads:
    """Return the spreads over the rows that a policy tries.

    Args:
        records: n rows.
        p_checked: (n,) of the second look; NaN without an answer, below 0 where nothing vouches for one.
        first: what the first look says of them.
        checked: the policy's rule over three actions; None for none, and then nothing is tried.
    """
    if checked is None or not checked.is_met:
        return Spreads(n_tried=0, spreads=[])
    is_tried = ~np.isnan(p_checked) & _tried(first, checked)
    answers = [answer_of(records[row]) for row in np.flatnonzero(is_tried).tolist()]
    signals = np.array([signals_of(NO_SIGNALS if one is None else one[1]) for one in answers]).reshape(-1, len(SIGNALS))
    p_match = p_checked[is_tried]
    values = {
        "p_match_checked": p_match[p_match >= 0.0],
        "log_characters": np.array([np.log1p(len(one[0].text)) for one in answers if one is not None]),
        **{name: column[~np.isnan(column)] for name, column in zip(SIGNALS, signals.T, strict=True)},
    }
    found = [distribution(name, column) for name, column in values.items() if column.size >= MIN_ROWS]
    return Spreads(n_tried=int(is_tried.sum()), spreads=[Spread(one.name, one.edges, one.n) for one in found])


def _tried(first: FirstLook, checked: CheckedPolicy) -> Bools:
    within = (first.p_route >= checked.t_strong) & (first.p_route < checked.t_weak)
    return np.asarray(within | first.is_unlike)
