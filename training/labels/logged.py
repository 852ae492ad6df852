"""Labels from scores that came with the log."""

from __future__ import annotations

from turnout.training.logs.records import Label, Record

NAME = "scores"


def label_by_scores(record: Record, margin: float = 0.0) -> Label | None:
    """Return match = `weak_score >= strong_score - margin`; None unless both answers were scored.

    The confidence is 1: the score is the operator's own measure. (It may be noisy all the same; only scoring
    twice shows how much.)
    """
    strong = record.strong.score if record.strong else None
    weak = record.weak.score if record.weak else None
    if strong is None or weak is None:
        return None
    return Label(int(weak >= strong - margin), NAME, 1.0, strong, weak)
