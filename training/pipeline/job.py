"""Job: what is to be done with every row, as the workers are told once."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from turnout.serving.bundles.manifest import Pair
from turnout.training.dataset.features.keep import Keeping
from turnout.training.dataset.features.schema import MADE_FIELDS
from turnout.training.labels.graders.code import RunLimits
from turnout.training.logs.reading import Reading


@dataclass(frozen=True)
class Job:
    """What is to be done with every row; sent to the workers once.

    Attributes:
        paths: of the logs, as records name them, by number.
        margin: by how much the weak score may fall below the strong one and still match.
        code_limits: within what answers' code may be run; None runs none.
        similarity: encoder that compares answers, as the operator names it; empty compares none.
        keeping: how features are made that training needs instead of prompts; None makes none.
        asks_judges: whether judges are asked about rows that nobody else decides.
        judges_known: whether they are asked about some of the others too.
        block_bytes: about how much text a stretch holds; 0 leaves it to us.
        n_buckets: over how many buckets rows that wait are spread.
        has_scores: whether some log holds scores of other rows.
    """

    pair: Pair
    reading: Reading
    paths: tuple[str, ...]
    margin: float = 0.0
    code_limits: RunLimits | None = None
    similarity: str = ""
    keeping: Keeping | None = None
    asks_judges: bool = False
    judges_known: bool = False
    block_bytes: int = 0
    n_buckets: int = 1
    has_scores: bool = False

    @property
    def encoder(self) -> str:
        """Encoder of prompts, as the operator names it; empty for none."""
        return self.keeping.encoder if self.keeping else ""

    @property
    def beside(self) -> list[pa.Field]:
        """The columns that a worker writes beside the labels."""
        return MADE_FIELDS if self.keeping else []
