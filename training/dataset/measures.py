"""Measures: what figures and slices need of a prompt, so that they can be drawn without it.

Comes in: records. Goes out: `PromptMeasures`, kept beside the rows of a dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.serving.decision.routes import estimated_tokens
from turnout.serving.router.languages import script_of
from turnout.training.logs.records import Record


@dataclass(frozen=True)
class PromptMeasures:
    """Measures of n whole prompts, harness text included; arrays are (n,).

    Attributes:
        characters: of the rendered text.
        tokens: estimated.
        language: as the log names it, else the writing system.
    """

    characters: NDArray[np.int64]
    tokens: NDArray[np.int64]
    language: list[str]

    @classmethod
    def of(cls, records: Sequence[Record]) -> PromptMeasures:
        """Measure the prompts of records that hold them."""
        texts = [record.prompt.text for record in records]
        return cls(
            np.array([len(text) for text in texts], dtype=np.int64),
            np.array([estimated_tokens(text) for text in texts], dtype=np.int64),
            [record.language or script_of(text) for record, text in zip(records, texts, strict=True)],
        )

    def take(self, rows: NDArray[np.int64]) -> PromptMeasures:
        """Return those rows only."""
        return PromptMeasures(self.characters[rows], self.tokens[rows], [self.language[row] for row in rows])
