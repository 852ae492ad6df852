"""Labels from a person's preference between the two answers."""

from __future__ import annotations

from turnout.training.logs.records import Label, Record

NAME = "preference"


def label_by_preference(record: Record) -> Label | None:
    """Return match = 1 unless the strong answer was preferred; a tie is a match. Confidence 1, as with scores."""
    if record.preference is None:
        return None
    return Label(int(record.preference != "strong"), NAME, 1.0)
