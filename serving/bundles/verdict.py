"""Verdict: how a retrained bundle did against the champion of its day, as its manifest and card keep it.

Written by `turnout.training.retrain`, read by whoever asks why a version was, or was not, put into service.
"""

from __future__ import annotations

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of a promotion and what was found.

    Attributes:
        name: of the condition.
        is_met: whether it holds.
        figure: what is held against the limit: of comparisons challenger less champion.
        limit: beyond which the condition fails.
        champion, challenger: the figure of each; None where there is one for both.
        interval: 95 % of `figure`, paired, over groups; None where it is no estimate.
        where: the task or language that the figure is of; empty for all rows.
    """

    name: str
    is_met: bool
    figure: float | None
    limit: float
    champion: float | None = None
    challenger: float | None = None
    interval: tuple[float, float] | None = None
    where: str = ""


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a challenger may take the champion's place.

    Attributes:
        champion: `name/version` that it was held against.
        policy: at whose thresholds both were asked.
        rows, groups: of the test, none of which either of them learned from.
        from_s, to_s: moments of its first and last row, in seconds since 1970 (UTC); None where rows had none, and
            the test was drawn and is not later than what was learned from.
        is_met: whether every check is.
        is_forced: whether it was to be promoted whatever the checks say.
        checks: in the order of the table.
    """

    champion: str
    policy: str
    rows: int
    groups: int
    from_s: float | None
    to_s: float | None
    is_met: bool
    is_forced: bool
    checks: list[Check]
