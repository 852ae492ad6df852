"""The report's tables of slices: what stands in them, and where a mark is set.

Comes in: the evaluation's slices. Goes out: `SliceTable`, with the places of the small interval plots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.training.evaluation.evaluation import Evaluation, Slice
from turnout.training.report import words

MIN_CLASS_ROWS = 20
WIDEST = 0.3
"""Intervals reach further than 30 % in tiny slices only; beyond it they are cut off, so that others can be read."""

_SURE = 1.959963984540054
_NO_WIDTH = 0.01


@dataclass(frozen=True, slots=True)
class Forest:
    """Places, 0 to 100 from left to right, of no change, the interval's ends and the point; `is_loss` beyond chance."""

    zero: float
    low: float
    high: float
    point: float
    is_loss: bool


@dataclass(frozen=True, slots=True)
class SliceRow:
    """A slice with its change of quality against the strong model, as shares of that model's score."""

    slice: Slice
    change: float | None
    change_range: str
    change_if_weak: float | None
    forest: Forest | None


@dataclass(frozen=True, slots=True)
class SliceTable:
    """One way of slicing; `scale` says what the interval plots span, `has_policy` whether there are any."""

    title: str
    rows: list[SliceRow]
    has_policy: bool
    scale: str


def slice_tables(evaluation: Evaluation) -> list[SliceTable]:
    """Return the ways of slicing that tell more than one slice apart."""
    found = evaluation.slices
    ways = {
        "Task": found.task,
        "Language": found.language,
        "Length of the prompt": found.length,
        "Depth of the conversation": found.turns,
        "Source": found.source,
        "Stage": found.stage,
    }
    return [_table(title, slices) for title, slices in ways.items() if len(slices) > 1]


def weaknesses(found: Slice) -> list[str]:
    """What is wrong with the router on a slice, beyond what chance explains; empty where nothing is."""
    n_misses = found.n * (1 - found.match_rate)
    spread = np.sqrt(max(found.p_match * (1 - found.p_match), 1e-9) / found.n)
    notes = []
    if abs(found.p_match - found.match_rate) > max(0.02, _SURE * spread):
        notes.append("promises too much" if found.p_match > found.match_rate else "too cautious")
    if found.auroc is not None and found.auroc < 0.5 and min(n_misses, found.n - n_misses) >= MIN_CLASS_ROWS:
        notes.append("ranks no better than chance")
    return notes


def _table(title: str, slices: list[Slice]) -> SliceTable:
    ends = [-end for one in slices for end in one.intervals.get("drop") or ()] + [
        -one.drop for one in slices if one.drop is not None
    ]
    low, high = (float(np.clip(end, -WIDEST, WIDEST)) for end in (min([*ends, -_NO_WIDTH]), max([*ends, _NO_WIDTH])))
    return SliceTable(
        title=title,
        rows=[_row(one, low, high) for one in slices],
        has_policy=any(one.drop is not None for one in slices),
        scale=words.change_between(low, high),
    )


def _row(one: Slice, low: float, high: float) -> SliceRow:
    change = None if one.drop is None else -one.drop
    bounds = one.intervals.get("drop") if one.share_weak else None  # where nothing goes weak, nothing can change
    ends = None if bounds is None else (-bounds[1], -bounds[0])

    def place(value: float) -> float:
        return round(2 + 96 * (float(np.clip(value, low, high)) - low) / (high - low), 2)

    forest = None
    if change is not None and one.share_weak:
        left, right = ends or (change, change)
        forest = Forest(place(0.0), place(left), place(right), place(change), is_loss=right < 0)
    return SliceRow(
        slice=one,
        change=change,
        change_range="" if ends is None else words.change_between(*ends),
        change_if_weak=None if one.drop_if_weak is None else -one.drop_if_weak,
        forest=forest,
    )
