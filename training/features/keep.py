"""Keep: what `turnout label` keeps of the rows for training, and how it makes that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.encoders import EncoderModel  # brings onnxruntime

MAX_SALT_BYTES = 64
"""The longest key that BLAKE2b takes."""


class Keep(StrEnum):
    """What `turnout label` writes for training, beside labels."""

    PROMPTS = "prompts"
    """Nothing: training reads the prompts in the logs again."""
    FEATURES = "features"
    """Vectors, counts and salted digests: training needs no log."""


@dataclass(frozen=True)
class Keeping:
    """How features are to be made.

    Attributes:
        encoder: makes the vectors, and the counts by its tokenizer.
        harness_rules: version of the rules by which prompts lose their harness text.
        salt: of the digests; empty for one that follows from the logs.
        cache_dir: folder of the dense cache, which holds no text; None for none.
        redacts: whether personal identifiers become markers before anything is computed (`serving.redaction`).
    """

    encoder: EncoderModel
    harness_rules: int
    salt: str = ""
    cache_dir: Path | None = None
    redacts: bool = False
