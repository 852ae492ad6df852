"""Form: the interface that every reader of a gateway's log has.

Comes in: one row's fields as the gateway wrote them. Goes out: `Entry`s, one for each request of the row, with
the fields named as ours, so that `turnout.training.logs.rows` decodes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.quarantine import Reason

Fields = Mapping[str, Any]

FILE = "\x00file"
"""The field that names a row's file, for forms that need it; no log has one of this name."""


class EntryPart(Enum):
    """How much of a request an entry holds."""

    WHOLE = auto()
    REQUEST = auto()
    """The request alone; `responses` stand in another row."""
    ANSWER = auto()
    """`responses` alone; the request stands in another row."""
    SCORE = auto()
    """`score` and its `name`; the request and the answer stand in another row."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a row, or that part of it which the row holds.

    Attributes:
        fields: named as ours (`turnout.training.logs.rows.Row`); those of a score are `score` and `name`.
        part: how much of the request this is.
        key: what ties the parts of a request together; of a row about another pair, the names of that pair.
        reason: set where the entry is no request that could be read.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    part: EntryPart = EntryPart.WHOLE
    key: str = ""
    reason: Reason | None = None


@dataclass(frozen=True)
class Form:
    """One kind of log.

    Attributes:
        name: as the command line and the messages have it.
        recognises: whether a row's fields are those of this form; looks at names, never decodes.
        entries: the requests of a row; may raise what `turnout.training.logs.quarantine.reason_of` turns into a reason.
        title: what it is, in words.
        needs_file: whether the name of the file, under `FILE`, says what the row does not.
        has_scores: whether some rows are scores of other rows, of any file.
    """

    name: str
    recognises: Callable[[Fields], bool]
    entries: Callable[[Fields, Pair], list[Entry]]
    has_scores: bool = False
    title: str = ""
    needs_file: bool = False
