"""Savings: what routing spent against all-strong, with the router's own cost, switches and quality counted.

Comes in: the decision log of some days, and what the machine costs. Goes out: `Savings`.
"""

from __future__ import annotations

import datetime as dt

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from turnout.serving.decision.routes import Action, Verdict
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.rows import logged_rows
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.quality import Quality, quality
from turnout.training.offpolicy.savings.spend import Spend, spend_of
from turnout.training.offpolicy.tries import served_weak, shares_of_rungs


class Savings(msgspec.Struct, frozen=True):
    """What some days spent and saved, in USD.

    Attributes:
        first, last: UTC days of the first and the last request.
        requests: of the log in those days.
        share_weak: of them that the weak model answered; a try without a verdict counts as escalated.
        tried: requests whose weak answer was to be checked.
        escalated: of them, those whose answer was not accepted.
        unchecked: of them, those whose check never came.
        unpriced: requests that no amount counts.
        counted: of the others, those whose tokens the vendor counted; the rest is at expected cost.
        length_ratio: tokens of a strong answer over those of a weak one, as all-strong assumes.
        all_strong_usd: what the strong model alone would have cost, the caches of its sessions warm.
        spent_usd: what was spent, all of the following included.
        second_usd: of it, on second answers that exploration asked for.
        discarded_usd: of it, on weak answers that were not accepted.
        self_check_usd: of it, on asking the weak model whether its answer was right.
        switch_usd: of it, on caches that a switch of models left cold.
        router_usd: of the machine, beside `spent_usd`; a verdict takes as much as a decision.
        saved_usd: net: all-strong less spent, less the router.
        saved_share: of all-strong; None where that is 0.
        quality: what it did to the answers; None where every request was outside a rollout.
        share_rungs: share of the requests that each rung answered, by its name; unset where the log knows pairs alone.
        length_ratios: tokens of the top's answer over those of each rung below; None where too few are known and the
            price list says what either thinks; unset likewise.
    """

    first: dt.date
    last: dt.date
    requests: int
    share_weak: float
    tried: int
    escalated: int
    unchecked: int
    unpriced: int
    counted: int
    length_ratio: float
    all_strong_usd: float
    spent_usd: float
    second_usd: float
    discarded_usd: float
    self_check_usd: float
    switch_usd: float
    router_usd: float
    saved_usd: float
    saved_share: float | None
    quality: Quality | None
    share_rungs: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    length_ratios: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET


def between(table: pa.Table, first: dt.date | None, last: dt.date | None) -> pa.Table:
    """Return the decisions of the UTC days from `first` to `last`, both included; None for no end.

    Raises:
        DataRefused: there is none.
    """
    created = table["created"]
    kept = pc.is_valid(created)
    if first is not None:
        kept = pc.and_(kept, pc.greater_equal(created, _midnight_s(first)))
    if last is not None:
        kept = pc.and_(kept, pc.less(created, _midnight_s(last + dt.timedelta(days=1))))
    found = table.filter(kept)
    if not found.num_rows:
        days = pc.min_max(created).as_py()
        known = " to ".join(str(_day(days[end])) for end in ("min", "max"))
        raise DataRefused(f"no decision from {first or 'the beginning'} to {last or 'the end'}; the log has {known}")
    return found


def savings(table: pa.Table, machine: Machine) -> Savings:
    """Return what the decisions of a table, of which there is at least one, spent and saved."""
    spend = spend_of(table)
    rows = logged_rows(table)
    days = pc.min_max(table["created"]).as_py()
    verdicts, is_tried = table["verdict"].to_pylist(), [one == Action.TRY for one in table["action"].to_pylist()]
    n_verdicts = sum(one is not None for one in verdicts)
    router_usd = (table.num_rows + n_verdicts) * machine.usd_per_decision
    total = _totals(spend)
    saved = total["all_strong_usd"] - total["spent_usd"] - router_usd
    return Savings(
        first=_day(days["min"]),
        last=_day(days["max"]),
        requests=table.num_rows,
        share_weak=float(served_weak(table).mean()),
        tried=sum(is_tried),
        escalated=sum(tried and verdict == Verdict.ESCALATE for tried, verdict in zip(is_tried, verdicts, strict=True)),
        unchecked=sum(tried and verdict is None for tried, verdict in zip(is_tried, verdicts, strict=True)),
        unpriced=spend.n_unpriced,
        counted=int(spend.is_counted.sum()),
        length_ratio=spend.length_ratio,
        **total,
        router_usd=router_usd,
        saved_usd=saved,
        saved_share=saved / total["all_strong_usd"] if total["all_strong_usd"] > 0 else None,
        quality=quality(rows) if len(rows) else None,
        share_rungs=shares_of_rungs(table) or msgspec.UNSET,
        length_ratios=spend.length_ratios or msgspec.UNSET,
    )


def _totals(spend: Spend) -> dict[str, float]:
    return {
        "all_strong_usd": float(spend.all_strong.sum()),
        "spent_usd": float(spend.spent.sum()),
        "second_usd": float(spend.second.sum()),
        "discarded_usd": float(spend.discarded.sum()),
        "self_check_usd": float(spend.self_check.sum()),
        "switch_usd": float(spend.switch.sum()),
    }


def _midnight_s(day: dt.date) -> float:
    return dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()


def _day(created_s: float) -> dt.date:
    return dt.datetime.fromtimestamp(created_s, dt.UTC).date()
