"""One line of the scorecard: what was measured, against what, over how many trials."""

from __future__ import annotations

import math

import msgspec


class Line(msgspec.Struct, frozen=True):
    """A figure and whether it will do.

    Attributes:
        check: `R1` to `R32`, or `S0`.
        what: what was measured, with its unit.
        value: the figure; NaN and infinity become null in the JSON.
        threshold: what it has to be, as printed; empty where the figure is only reported.
        trials: how many calls, files, stops or whatever was tried.
        passed: whether it is so.
    """

    check: str
    what: str
    value: float
    threshold: str
    trials: int
    passed: bool

    def __str__(self) -> str:
        verdict = "" if not self.threshold else "pass" if self.passed else "FAIL"
        return (
            f"{self.check:4s} {self.what:62s} {self.value:>10.4g}  {self.threshold:>12s}  {self.trials:>8,d}  {verdict}"
        )


def at_most(check: str, what: str, value: float, limit: float, trials: int) -> Line:
    """Return a line that passes when there were trials and the value is at most the limit."""
    return Line(check, what, value, f"<= {limit:.4g}", trials, trials > 0 and value <= limit)


def at_least(check: str, what: str, value: float, limit: float, trials: int) -> Line:
    """Return a line that passes when there were trials and the value is at least the limit."""
    return Line(check, what, value, f">= {limit:.4g}", trials, trials > 0 and value >= limit)


def none_of(check: str, what: str, count: int, trials: int) -> Line:
    """Return a line that passes when there were trials and none of them went wrong."""
    return Line(check, what, count, "= 0", trials, trials > 0 and count == 0)


def all_of(check: str, what: str, count: int, trials: int) -> Line:
    """Return a line that passes when there were trials and all of them went well."""
    return Line(check, what, count, f"= {trials:,d}", trials, trials > 0 and count == trials)


def reported(check: str, what: str, value: float, trials: int) -> Line:
    """Return a line that is there to be read."""
    return Line(check, what, value if math.isfinite(value) else -1.0, "", trials, passed=True)
