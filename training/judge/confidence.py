"""Confidence of a label by a judge: measured on rows whose label is known, else what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PUBLISHED_DECIDED = 0.85
"""How often GPT-4, asked in both orders, agreed with people where neither called a tie (Zheng et al. 2023,
"Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 4.2, setup S2)."""

PUBLISHED_TIE = 0.66
"""The same with ties and flips counted (setup S1)."""

MIN_ROWS = 30
"""Known rows of a kind below which the published figure stands: at 30 the standard error is about 0.07."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Probability that a label is right: of a winner in both orders, and of a tie; whether they were measured."""

    decided: float = PUBLISHED_DECIDED
    tie: float = PUBLISHED_TIE
    decided_is_measured: bool = False
    tie_is_measured: bool = False

    def of(self, *, is_tie: bool) -> float:
        """Return the confidence of one label."""
        return self.tie if is_tie else self.decided


def measure_confidence(known: Sequence[tuple[int, int, bool]]) -> Confidence:
    """Count how often the judge was right, as (hits + 1) / (rows + 2).

    Args:
        known: of each row the known label, the judge's, and whether the judge's rests on a tie.
    """
    decided = [truth == judged for truth, judged, is_tie in known if not is_tie]
    ties = [truth == judged for truth, judged, is_tie in known if is_tie]
    return Confidence(
        _share(decided) if len(decided) >= MIN_ROWS else PUBLISHED_DECIDED,
        _share(ties) if len(ties) >= MIN_ROWS else PUBLISHED_TIE,
        len(decided) >= MIN_ROWS,
        len(ties) >= MIN_ROWS,
    )


def _share(hits: Sequence[bool]) -> float:
    return (sum(hits) + 1) / (len(hits) + 2)
