"""Where requests of a log went, by rung, and how probable that was: columns of all that has one value a rung.

Comes in: the table of `training.offpolicy.log`. Goes out: `LoggedRungs`. A pair is the ladder of two, and its
propensities follow from its two draws; of a ladder the log says those of each rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.decision.routes import Reason, Route
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.offpolicy.answers import WEAK

LADDER_SEPARATOR = "\n"
"""Between the names of a ladder: none of them holds it."""
COLUMNS = (
    *("route", "reason", "route_propensity", "pair_propensity", "wants_both", "weak_cost_usd", "strong_cost_usd"),
    *("rung", "rungs", "p_rungs", "t_rungs", "usd_rungs", "other_rung", "chosen_rung", "take_rungs", "ask_rungs"),
    "both_propensity",
)


@dataclass(frozen=True, slots=True)
class LoggedRungs:
    """Where n requests went, k being the rungs of the longest ladder.

    Attributes:
        ladder: (n,) names of the rungs, joined; empty for a pair.
        taken: (n,) column of where they went first.
        chosen: (n,) column of where they would have gone without exploration.
        escalates_to: (n,) column that the policy of the day sends what is not accepted to.
        p_rungs: (n, k - 2) of the rungs between; NaN where none is known.
        asked: (n, k) whether the answer was obtained by design.
        propensity: (n, k) probability of that.
        propensity_of_first: (n,) probability that the weak model was taken.
        pair_propensity: (n,) probability that a second answer was wanted.
        expected_usd: (n, k) NaN without prices.
    """

    ladder: NDArray[Any]
    taken: Ints
    chosen: Ints
    escalates_to: Ints
    p_rungs: Floats
    asked: Bools
    propensity: Floats
    propensity_of_first: Floats
    pair_propensity: Floats
    expected_usd: Floats

    @property
    def k(self) -> int:
        """Columns."""
        return int(self.asked.shape[1])

    def column(self, place: int, top: int) -> int:
        """Return the column of a rung of a ladder whose top stands at `top`: all tops share the last one."""
        return self.k - 1 if place == top else place


def logged_rungs(table: pa.Table) -> LoggedRungs:
    """Return where the requests of a table went."""
    rows = table.select(COLUMNS).to_pylist()
    k = max((len(row["rungs"]) for row in rows if row["rungs"]), default=2)
    made = _empty(len(rows), k)
    for place, row in enumerate(rows):
        if row["rungs"]:
            _fill_ladder(made, place, row)
    is_pair = np.array([not row["rungs"] for row in rows], dtype=bool)
    _fill_pairs(made, is_pair, table)
    return made


def weak_propensity(route_propensity: Floats, is_weak: Bools) -> Floats:
    """Return (n,) how probable it was that a request is routed weak."""
    return np.where(is_weak, route_propensity, 1.0 - route_propensity)


def asked_propensity(route_propensity: Floats, pair_propensity: Floats, is_weak: Bools) -> Floats:
    """Return (n, 2) how probable it was that an answer is asked for: routed there, or both wanted.

    The two draws are independent: 1 - (1 - p) (1 - pair), p being the probability of the tier.
    """
    at_weak = weak_propensity(route_propensity, is_weak)
    at_tier = np.column_stack([at_weak, 1.0 - at_weak])
    return np.asarray(1.0 - (1.0 - at_tier) * (1.0 - pair_propensity)[:, None])


def _empty(n: int, k: int) -> LoggedRungs:
    return LoggedRungs(
        ladder=np.array([""] * n, dtype=object),  # texts of any length are filled in
        taken=np.zeros(n, dtype=np.int64),
        chosen=np.zeros(n, dtype=np.int64),
        escalates_to=np.full(n, k - 1),
        p_rungs=np.full((n, k - 2), np.nan),
        asked=np.zeros((n, k), dtype=bool),
        propensity=np.zeros((n, k)),
        propensity_of_first=np.zeros(n),
        pair_propensity=np.zeros(n),
        expected_usd=np.full((n, k), np.nan),
    )


def _fill_pairs(made: LoggedRungs, which: Bools, table: pa.Table) -> None:
    """Fill in the rows of pairs: their two columns are the first and the last."""
    route, reason, wants_both = (table[name].to_pylist() for name in ("route", "reason", "wants_both"))
    is_weak = np.array([one == Route.WEAK for one in route], dtype=bool)[which]
    both = np.array([bool(one) for one in wants_both], dtype=bool)[which]
    moved = np.array([one == Reason.EXPLORATION for one in reason], dtype=bool)[which]
    routed, pair = _floats(table, "route_propensity")[which], np.nan_to_num(_floats(table, "pair_propensity"))[which]
    top, ends = made.k - 1, np.array([0, made.k - 1])
    made.taken[which] = np.where(is_weak, WEAK, top)
    made.chosen[which] = np.where(is_weak ^ moved, WEAK, top)
    at = np.ix_(which, ends)
    made.asked[at] = np.column_stack([is_weak | both, ~is_weak | both])
    made.propensity[at] = asked_propensity(routed, pair, is_weak)
    made.propensity_of_first[which] = weak_propensity(routed, is_weak)
    made.pair_propensity[which] = pair
    costs = np.column_stack([_floats(table, "weak_cost_usd"), _floats(table, "strong_cost_usd")])
    made.expected_usd[at] = costs[which]


def _fill_ladder(made: LoggedRungs, at: int, row: dict[str, Any]) -> None:
    names, top = row["rungs"], len(row["rungs"]) - 1
    place = {name: made.column(number, top) for number, name in enumerate(names)}
    columns = np.array(list(place.values()))
    taken = place.get(row["rung"], made.k - 1)
    made.ladder[at] = LADDER_SEPARATOR.join(names)
    made.taken[at], made.chosen[at] = taken, place.get(row["chosen_rung"] or row["rung"], taken)
    made.asked[at, taken] = True
    if row["wants_both"] and row["other_rung"] in place:
        made.asked[at, place[row["other_rung"]]] = True
    if row["ask_rungs"]:
        made.propensity[at, columns] = row["ask_rungs"]
        made.propensity_of_first[at] = row["take_rungs"][0]
        made.pair_propensity[at] = row["both_propensity"] or 0.0
    else:  # nothing could be explored
        made.propensity[at, taken], made.propensity_of_first[at] = 1.0, float(taken == WEAK)
    if row["usd_rungs"]:
        made.expected_usd[at, columns] = [np.nan if usd is None else usd for usd in row["usd_rungs"]]
    if row["p_rungs"]:
        made.p_rungs[at, : top - 1] = row["p_rungs"]
        made.escalates_to[at] = _first_allowed(row, made.k - 1)


def _first_allowed(row: dict[str, Any], top: int) -> int:
    """Return the column of the first rung between that the thresholds of the day allow, else of the top."""
    if row["reason"] == Reason.OUT_OF_DISTRIBUTION:
        return top
    between = zip(row["p_rungs"], row["t_rungs"] or (), strict=False)
    return next((place for place, (p, threshold) in enumerate(between, 1) if p >= threshold), top)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
