"""Questions: the rows of one table, and which of them a router learns on in each fold.

Comes in: `FILE[,source=NAME][,hold-out=KEY][,strong=NAME,weak=NAME]`. Goes out: `Questions` and `Fold`. Folds keep
groups together; with `hold-out` whole values of that key of the column `extra` (such as subjects) are kept out, and
training rows that share a group with a test row are left out too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.encoders.embeddings import FeatureTable, default_cache_dir, embed
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.fit.difficulty import Difficulty, read_difficulty
from turnout.training.fit.fit import outcome_classes
from turnout.training.logs.tables import read_rows
from turnout.training.progress import Reporter

N_FOLDS = 5


@dataclass(frozen=True)
class Spec:
    """What the command line says of one table."""

    path: Path
    source: str | None = None
    hold_out: str | None = None
    pair: Pair = field(default_factory=Pair)

    @classmethod
    def parse(cls, text: str) -> Spec:
        path, *options = text.split(",")
        given = dict(option.split("=", 1) for option in options)
        if unknown := set(given) - {"source", "hold-out", "strong", "weak"}:
            expected = "FILE[,source=NAME][,hold-out=KEY][,strong=NAME,weak=NAME]"
            raise SystemExit(f"{text}: unknown {', '.join(unknown)}; expected {expected}")
        named = {one: given[one] for one in ("strong", "weak") if one in given}
        return cls(Path(path), given.get("source"), given.get("hold-out"), Pair(**named))

    @property
    def title(self) -> str:
        held_out = f"whole values of {self.hold_out} held out" if self.hold_out else "grouped folds"
        return f"{self.source or self.path.stem}, {held_out}"


@dataclass(frozen=True, eq=False)  # compared and cached by identity
class Questions:
    """Rows of one table; arrays are (n,), and `unit` says which rows a fold keeps together."""

    spec: Spec
    data: Dataset
    rows: np.ndarray
    table: FeatureTable
    unit: np.ndarray
    difficulty: Difficulty | None = None

    @cached_property
    def texts(self) -> list[str]:
        return [self.data.rows[row].record.prompt.text for row in self.rows]

    @cached_property
    def source(self) -> list[str]:
        return [self.data.rows[row].record.source or "" for row in self.rows]

    @property
    def match(self) -> np.ndarray:
        return self.data.match[self.rows]

    @property
    def group(self) -> np.ndarray:
        return self.data.groups.group[self.rows]

    @property
    def strong_score(self) -> np.ndarray:
        return self.data.strong_score[self.rows]

    @property
    def weak_score(self) -> np.ndarray:
        return self.data.weak_score[self.rows]

    @cached_property
    def classes(self) -> np.ndarray:
        """The four outcomes, as `turnout.training.fit.fit.outcome_classes` numbers them."""
        return outcome_classes(self.match, self.strong_score, self.weak_score)

    def folds(self, seed: int) -> Iterator[Fold]:
        splits = GroupKFold(N_FOLDS, shuffle=True, random_state=seed)
        for train, test in splits.split(self.rows, groups=self.unit):
            unseen = ~np.isin(self.group[train], self.group[test])
            yield Fold(self, train[unseen], test, seed)


@dataclass(frozen=True)
class Fold:
    """What a router may learn from and what it is asked: row numbers of `questions`."""

    questions: Questions
    train: np.ndarray
    test: np.ndarray
    seed: int


def load_questions(spec: Spec, scores: Path | None, reporter: Reporter) -> Questions:
    """Read, label, group and embed the rows of one table; dense vectors come from the cache where they are known."""
    data = _dataset(spec.path, spec.pair)
    rows = np.array([row for row, one in enumerate(data.rows) if spec.source in (None, one.record.source)])
    prompts = [data.rows[row].record.prompt for row in rows]
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        table = embed(prompts, encoder, cache_dir=default_cache_dir(), on_progress=advance)
    group = data.groups.group
    unit = _held_out(spec, data, rows) if spec.hold_out else group[rows]
    difficulty = read_difficulty(scores, spec.pair, data.records, group).take(rows) if scores else None
    return Questions(spec, data, rows, table, unit, difficulty)


@lru_cache(maxsize=2)
def _dataset(path: Path, pair: Pair) -> Dataset:
    return load_dataset([path], pair, None, 0.0, Reporter()).dataset


def _held_out(spec: Spec, data: Dataset, rows: np.ndarray) -> np.ndarray:
    extra = {raw.line: json.loads(raw.fields.get("extra") or "{}") for raw in read_rows(spec.path)}
    values = [str(extra[data.rows[row].record.line].get(spec.hold_out, "")) for row in rows]
    return np.unique(values, return_inverse=True)[1]
