"""Readers: what each gateway writes, turned into rows with our names for their fields.

Comes in: `RawRow`s of `training.logs.tables`. Goes out: `Entry`s for `training.logs.rows`. Each module knows one
gateway; the first form below that recognises the rows of a file reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from turnout.training.errors import DataRefused
from turnout.training.logs.readers.arena import ARENA
from turnout.training.logs.readers.batch import BATCH
from turnout.training.logs.readers.benchmarks import ROUTELLM, ROUTERBENCH
from turnout.training.logs.readers.evals import INSPECT, LM_EVAL, PROMPTFOO
from turnout.training.logs.readers.flat import FLAT
from turnout.training.logs.readers.form import FILE, Entry, EntryPart, Form
from turnout.training.logs.readers.langfuse import LANGFUSE
from turnout.training.logs.readers.litellm import LITELLM
from turnout.training.logs.readers.openai import HELICONE, OPENAI, PORTKEY
from turnout.training.logs.readers.otel import OTEL, OTEL_LOGS, SPANS
from turnout.training.logs.readers.turnout import TURNOUT
from turnout.training.logs.reading import AUTO
from turnout.training.logs.tables import RawRow

__all__ = ["FILE", "FORMS", "TURNOUT", "Entry", "EntryPart", "Form", "form_named", "recognise"]

FORMS = (
    *(OTEL, OTEL_LOGS, SPANS, INSPECT, LM_EVAL, PROMPTFOO, BATCH, LITELLM, HELICONE, PORTKEY, OPENAI, LANGFUSE, ARENA),
    *(ROUTERBENCH, ROUTELLM, FLAT, TURNOUT),
)


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
