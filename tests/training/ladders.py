"""Logs of three models: the project's own sample, with a model between its two and one above them."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.training.runs import QUIET, SEED, light_run
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.manifest import Manifest, Pair
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train
from turnout.training.sample.sample import STRONG, WEAK, make_sample, true_p_match

TOP = "o3"
NAMES = (WEAK, STRONG, TOP)
LOGIT_OF_STRONG = 1.2
"""By how much the model between is better than the cheapest, in log-odds of being right where the top is."""
P_TOP_RIGHT = 0.95

ROWS = 1800
SETTINGS = TrainSettings(
    pair=Pair(strong=TOP, weak=WEAK), seed=SEED, models=NAMES, fit=FitSettings(dense_scale=1.0), name="three"
)


@dataclass(frozen=True)
class LadderRun:
    """A trained ladder with the log it was trained on; neither is to be written to."""

    log: Path
    folder: Path
    evaluation: Evaluation

    @cached_property
    def bundle(self) -> Bundle:
        return load_bundle(self.folder)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest


def train_ladder(folder: Path, encoder: EncoderModel, cache: Path) -> LadderRun:
    """Train on rows a tenth of which lack the answer of the model between."""
    log = write_wide(folder / "log.jsonl", without(three_model_rows(ROWS, 5), STRONG, 0.1, 6))
    with light_run():
        trained = train([log], folder / "bundle", encoder, dataclasses.replace(SETTINGS, cache_dir=cache), QUIET)
    return LadderRun(log, trained.folder, trained.evaluation)


def three_model_rows(rows: int, seed: int) -> list[dict[str, Any]]:
    """Return wide rows: the answers of all three by name, each with its score."""
    rng = random.Random(seed)
    made = make_sample(rows, seed)
    for row in made:
        logit = math.log(true_p_match(row) / (1 - true_p_match(row)))
        shared, is_top_right = rng.random(), rng.random() < P_TOP_RIGHT
        for name, bonus in ((WEAK, 0.0), (STRONG, LOGIT_OF_STRONG)):
            is_right = is_top_right and (shared if rng.random() < 0.7 else rng.random()) < 1 / (
                1 + math.exp(-logit - bonus)
            )
            row["responses"][name] |= {"score": float(is_right), "content": "right" if is_right else f"wrong {name}"}
            row["responses"][name].pop("tool_calls", None)
        usage = dict(row["responses"][STRONG]["usage"])
        usage["completion_tokens"] += 400
        content = "right" if is_top_right else "wrong"
        row["responses"][TOP] = {"content": content, "score": float(is_top_right), "usage": usage}
        row.pop("reference", None)
    return made


def write_wide(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write one row a request."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_answers(path: Path, rows: list[dict[str, Any]], seed: int) -> Path:
    """Write one row an answer, in any order: `model`, `prompt`, `response`, `score`."""
    lines = [
        {
            "prompt": row["request"]["messages"][-1]["content"],
            "model": name,
            "response": said["content"],
            "score": said["score"],
            "source": "synthetic",
        }
        for row in rows
        for name, said in row["responses"].items()
    ]
    random.Random(seed).shuffle(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def without(rows: list[dict[str, Any]], name: str, share: float, seed: int) -> list[dict[str, Any]]:
    """Return the rows, a share of which lack the answer of a model."""
    rng = random.Random(seed)
    return [
        row | {"responses": {model: said for model, said in row["responses"].items() if model != name}}
        if rng.random() < share
        else row
        for row in rows
    ]


def write_scores(path: Path, rows: list[dict[str, Any]], *names: str) -> Path:
    """Write the long table of some models' scores, by the ids of the rows."""
    lines = [
        {"id": row["id"], "model": name, "score": row["responses"][name]["score"]}
        for row in rows
        for name in names
        if name in row["responses"]
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
