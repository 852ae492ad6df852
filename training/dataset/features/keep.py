"""Keep: what `turnout label` keeps of the rows for training, and how it makes that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

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
    """How features are to be made; sent to the workers.

    Attributes:
        encoder: name or folder of what makes the vectors, and the counts by its tokenizer.
        harness_rules: version of the rules by which prompts lose their harness text.
        salt: of the digests; empty for one that follows from the logs.
        cache_dir: folder of the dense cache, which holds no text; None for none.
        redacts: whether personal identifiers become markers before anything is computed (`serving.router.redaction`).
    """

    encoder: str
    harness_rules: int
    salt: str = ""
    cache_dir: Path | None = None
    redacts: bool = False

    def salted(self, files: Mapping[str, str]) -> Keeping:
        """Return the same with a salt: without one given, what the same logs give again.

        Args:
            files: SHA-256 (hex) of each log by its name.
        """
        return replace(
            self, salt=self.salt or hashlib.sha256("\n".join(sorted(files.values())).encode()).hexdigest()[:32]
        )
