"""Readers: what each gateway writes, turned into rows with our names for their fields.

Comes in: `RawRow`s of `training.tables`. Goes out: `Entry`s for `training.rows`. Each module knows one gateway;
the first form below that recognises the rows of a file reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from training.errors import DataRefused
from training.readers.arena import ARENA
from training.readers.batch import BATCH
from training.readers.benchmarks import ROUTELLM, ROUTERBENCH
from training.readers.form import Entry, Form, Part
from training.readers.langfuse import LANGFUSE
from training.readers.litellm import LITELLM
from training.readers.openai import OPENAI
from training.readers.otel import OTEL
from training.readers.turnout import TURNOUT
from training.reading import AUTO
from training.tables import RawRow

__all__ = ["FORMS", "TURNOUT", "Entry", "Form", "Part", "form_named", "recognise"]

FORMS = (OTEL, BATCH, LITELLM, OPENAI, LANGFUSE, ARENA, ROUTERBENCH, ROUTELLM, TURNOUT)


def form_named(name: str) -> Form:
    """Return the form of that name.

    Raises:
        DataRefused: there is none; the message lists them.
    """
    for form in FORMS:
        if form.name == name:
            return form
    raise DataRefused(f"no log format {name!r}; known are: {AUTO}, {', '.join(form.name for form in FORMS)}")


def recognise(rows: Iterable[RawRow]) -> Form:
    """Return the form that most of these rows have; ours where there is nothing to tell by."""
    votes = Counter(next(form.name for form in FORMS if form.recognises(row.fields)) for row in rows if row.fields)
    return form_named(votes.most_common(1)[0][0]) if votes else TURNOUT
