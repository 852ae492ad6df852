"""Similar: the labels by similarity of answers, whose threshold is known only when all rows have been seen.

Comes in: finished rows with the cosines of their answers. Goes out: the rule, and the rows with the labels it gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.training.labels import Unlabelled
from turnout.training.pipeline.duplicates import digest_numbers

if TYPE_CHECKING:
    from turnout.training.labels.similarity import SimilarityRule


class Similarity:
    """Cosines of the rows whose truth is known: 17 bytes a row, from which the threshold is fitted."""

    def __init__(self) -> None:
        self._cosine = list[NDArray[Any]]()
        self._match = list[NDArray[Any]]()
        self._digest = list[NDArray[np.uint64]]()

    def add(self, rows: pa.Table) -> None:
        """Learn from finished rows."""
        known = rows.filter(pc.and_(pc.is_valid(rows["similarity"]), pc.is_valid(rows["match"])))
        self._cosine.append(known["similarity"].to_numpy())
        self._match.append(known["match"].to_numpy())
        self._digest.append(digest_numbers(known))

    def rule(self) -> SimilarityRule | None:
        """Return the rule that the known rows teach; None where they teach none."""
        if not self._cosine:
            return None
        from turnout.training.labels.similarity import fit_similarity  # noqa: PLC0415  # SciPy is for those who ask for it

        digest = np.concatenate(self._digest)
        is_first = digest == 0
        is_first[np.unique(digest, return_index=True)[1]] = True
        cosine, match = (np.concatenate(column)[is_first] for column in (self._cosine, self._match))
        return fit_similarity(cosine, match.astype(np.int64))


def with_similar(table: pa.Table, rule: SimilarityRule | None) -> pa.Table:
    """Return rows with the undecided ones labelled whose answers lie close enough."""
    if rule is None:
        return table
    from turnout.training.labels.similarity import LABELLER  # noqa: PLC0415  # the same

    undecided = pc.equal(table["abstained"], str(Unlabelled.UNDECIDED))
    is_similar = pc.fill_null(pc.and_(undecided, pc.greater_equal(table["similarity"], rule.threshold)), False)  # noqa: FBT003
    labels = {"match": 1, "labeller": LABELLER, "label_confidence": rule.confidence, "abstained": None}
    for name, value in labels.items():
        column = table.schema.get_field_index(name)
        kind = table.schema.field(name)
        given = pc.if_else(is_similar, pa.scalar(value, kind.type), table[name])
        table = table.set_column(column, kind, given)
    return table
