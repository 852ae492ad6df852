"""Answers kept between runs: a killed run goes on where it stopped, and a second one only measures.

Comes in: a fold, a router's name and how to ask it. Goes out: its answers, from `--answers DIR` where the same rows
and labels were asked before. The code of a router is not part of the key: after a change of code take a new folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.quality.questions import Fold


@dataclass(frozen=True)
class KeptAnswers:
    """Files `KEY.npy` in a folder; nothing is kept where it is None."""

    folder: Path | None

    def of(self, name: str, fold: Fold, ask: Callable[[Fold], np.ndarray]) -> np.ndarray:
        """Return what the router answers on the fold, asked now or before."""
        if self.folder is None:
            return ask(fold)
        path = self.folder / f"{_key(name, fold)}.npy"
        if not path.exists():
            answers = ask(fold)
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                np.save(file, answers)
            temporary.replace(path)
        return np.load(path)


def _key(name: str, fold: Fold) -> str:
    questions = fold.questions
    digest = hashlib.blake2b(name.encode(), digest_size=12)
    for array in (questions.rows[fold.train], questions.rows[fold.test], questions.match, np.array(fold.seed)):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    digest.update(questions.table.dense.tobytes())
    return digest.hexdigest()
