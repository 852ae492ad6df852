"""Summary: the figures to judge the judges by."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from turnout.training.judge.labelling import JudgedLabels
from turnout.training.judge.noise import agreements, ceiling, compare
from turnout.training.judge.opinions import NO_MATCH, JudgeCounts, Votes


class Known(msgspec.Struct, frozen=True):
    """The judges' joint label against known labels.

    Attributes:
        rows: with both.
        agreement: share of them on which they agree.
        kappa: Cohen's; None where only one label was given.
        right_on_match, right_on_worse: share of agreement where the known label is 1, and 0.
    """

    rows: int
    agreement: float
    kappa: float | None
    right_on_match: float | None
    right_on_worse: float | None


class JudgeFigures(msgspec.Struct, frozen=True):
    """Of one judge: verdicts, flips (ties because the orders disagreed), abstentions by why.

    `first_share`: of all decided orders, the share won by the answer shown first; 0.5 without a bias by position.
    """

    verdicts: dict[str, int]
    flips: int
    abstained: dict[str, int]
    first_share: float | None


class Summary(msgspec.Struct, frozen=True):
    """All figures of a judging.

    Attributes:
        rows: judged or tried, those with a known label included.
        labelled: rows that have their label from it.
        usd, calls: of these rows, over all runs.
        is_capped: whether a cap left rows out.
        judges: figures by judge.
        known: against known labels; None where none were judged.
        pairs: agreement of the judges, two by two.
        noise: what that implies; None with one judge.
        confidence: of a decided label and of a tie, and whether each was measured.
    """

    rows: int
    labelled: int
    usd: float
    calls: int
    is_capped: bool
    judges: dict[str, JudgeFigures]
    known: Known | None
    pairs: list[dict[str, Any]]
    noise: dict[str, float] | None
    confidence: dict[str, float | bool]


def summarise(judged: JudgedLabels) -> Summary:
    """Return the figures of a judging."""
    votes = judged.votes
    pairs = agreements(votes.by_judge)
    has_label = votes.joint != NO_MATCH
    noise = ceiling(pairs, len(votes.counts), float(np.mean(votes.joint[has_label]))) if pairs else None
    return Summary(
        rows=len(votes),
        labelled=int(np.sum(has_label & (votes.known == NO_MATCH))),
        usd=judged.usd,
        calls=judged.calls,
        is_capped=judged.is_capped,
        judges={model: _figures(counts) for model, counts in votes.counts.items()},
        known=_known(votes),
        pairs=[msgspec.to_builtins(pair) for pair in pairs],
        noise=None if noise is None else msgspec.to_builtins(noise),
        confidence=msgspec.to_builtins(judged.confidence),
    )


def summary_lines(summary: Summary) -> list[str]:
    """Return the figures as sentences."""
    lines = [
        f"judge: {summary.labelled} of {summary.rows} rows labelled, {summary.calls} calls, {summary.usd:.4f} USD "
        f"for these rows in all runs" + ("; a cap left rows out" if summary.is_capped else "")
    ]
    if summary.known is not None:
        known = summary.known
        lines.append(
            f"against {known.rows} known labels: agreement {known.agreement:.3f}, kappa {_figure(known.kappa)}; "
            f"{_figure(known.right_on_match)} of the matches and {_figure(known.right_on_worse)} of the others found"
        )
    if summary.noise is not None:
        noise = summary.noise
        lines.append(
            f"noise by the judges' agreement: {noise['judge_noise']:.3f} a judge, {noise['label_noise']:.3f} a label; "
            f"at match rate {noise['match_rate']:.3f} no router can exceed AUROC {noise['auroc_ceiling']:.3f} on these "
            "labels (independent, symmetric mistakes assumed: shared ones make it lower)"
        )
    return lines


def summary_table(summary: Summary) -> Table:
    """Return a line for each judge, and one for each two."""
    table = Table(title="Judges", title_justify="left")
    for name in ("judge", "strong", "weak", "tie", "of them flips", "abstained", "first shown wins"):
        table.add_column(name, justify="left" if name == "judge" else "right")
    for model, figures in summary.judges.items():
        counts = [str(figures.verdicts.get(winner, 0)) for winner in ("strong", "weak", "tie")]
        abstained = ", ".join(f"{why} {count}" for why, count in figures.abstained.items()) or "0"
        table.add_row(model, *counts, str(figures.flips), abstained, _figure(figures.first_share))
    for pair in summary.pairs:
        found = f"agreement {pair['agreement']:.3f}, kappa {_figure(pair['kappa'])} on {pair['rows']} rows"
        table.add_row(f"{pair['first']} and {pair['second']}", found)
    return table


def _figures(counts: JudgeCounts) -> JudgeFigures:
    decided = counts.first_wins + counts.second_wins
    return JudgeFigures(
        verdicts=dict(counts.winners),
        flips=counts.flips,
        abstained=dict(counts.abstained.most_common()),
        first_share=counts.first_wins / decided if decided else None,
    )


def _known(votes: Votes) -> Known | None:
    both = (votes.known != NO_MATCH) & (votes.joint != NO_MATCH)
    if not both.any():
        return None
    truth, given = (votes.known[both].astype(np.float64), votes.joint[both].astype(np.float64))
    agreement, kappa = compare(truth, given)
    right = [float(np.mean(given[truth == label] == label)) if (truth == label).any() else None for label in (1, 0)]
    return Known(int(both.sum()), agreement, kappa, *right)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
