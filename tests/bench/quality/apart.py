"""Routers in environments of their own: their pins clash with ours, and some need torch.

Comes in: rows of a fold. Goes out: their answers. Each call writes what the other side reads into a temporary
folder, starts `environments/NAME/SCRIPT.py FOLDER` with the interpreter of `.venv-bench-quality-NAME`, and reads
`answers.npy`. An environment that is not there is skipped by name; `make bench-quality-peers` makes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.bench.quality.questions import Fold, Questions
from tests.bench.quality.routers import unit_length, vectors_lr
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.features import Featurizer
from turnout.training.encoders.embeddings import DenseCache, default_cache_dir
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder

ENVIRONMENTS = Path(__file__).parent / "environments"
REPOSITORY = Path(__file__).parents[3]
LAST_LAYER = hashlib.sha256(b"sentence-transformers/all-MiniLM-L6-v2, last layer, mean, fp32").hexdigest()
"""Names the cache of the last layer's vectors, which no file of ours makes."""

QUIET = {
    "OPENAI_API_KEY": "none",  # RouteLLM asks for one on import and makes no call with it here
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Environment:
    """One of `environments/`, by its folder's name."""

    name: str

    @property
    def folder(self) -> str:
        return f".venv-bench-quality-{self.name}"

    @property
    def python(self) -> Path:
        return REPOSITORY / self.folder / "bin" / "python"

    @property
    def is_there(self) -> bool:
        return self.python.exists()

    def run(self, script: str, texts: list[str], **arrays: np.ndarray) -> np.ndarray:
        """Return what the script answers to texts and arrays; the folder with them is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "texts.json").write_text(json.dumps(texts), encoding="utf-8")
            np.savez(Path(folder, "arrays.npz"), **arrays)
            command = [str(self.python), str(ENVIRONMENTS / self.name / f"{script}.py"), folder]
            done = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{self.name}/{script}.py ended with {done.returncode}:\n{done.stderr[-2000:]}")
            return np.load(Path(folder, "answers.npy"))


LITELLM, ROUTELLM, SETFIT = Environment("litellm"), Environment("routellm"), Environment("setfit")


def litellm_heuristics(questions: Questions) -> dict[str, np.ndarray]:
    """Return ease of each row as LiteLLM's two heuristics see it: rankings, nothing is fitted."""
    complexity, success = LITELLM.run("score", questions.texts).T
    return {"LiteLLM ComplexityRouter": -complexity, "LiteLLM TierSuccessPredictor": success}


def routellm_mf(fold: Fold) -> np.ndarray:
    """RouteLLM's matrix factorisation on our vectors and labels, by its own class."""
    return ROUTELLM.run(
        "score",
        [],
        vectors=unit_length(fold.questions.table.dense),
        match=fold.questions.match,
        train=fold.train,
        test=fold.test,
        seed=np.array(fold.seed),
    )


def setfit(fold: Fold) -> np.ndarray:
    """SetFit on a capped sample of the training rows; caps stand in its script."""
    return SETFIT.run(
        "score",
        fold.questions.texts,
        match=fold.questions.match,
        train=fold.train,
        test=fold.test,
        seed=np.array(fold.seed),
    )


def last_layer_lr(fold: Fold) -> np.ndarray:
    """Logistic regression on the last layer of all-MiniLM-L6-v2 in fp32, the usual first router."""
    return vectors_lr(fold, last_layer_vectors(fold.questions))


@lru_cache(maxsize=1)
def last_layer_vectors(questions: Questions) -> np.ndarray:
    """Return (n, 384) float32 unit vectors of the very tokens that our encoder reads, cached on disk."""
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens)
    token_ids = [featurize(questions.data.rows[row].record.prompt).token_ids for row in questions.rows]

    def encode(missing: list[np.ndarray]) -> Iterator[np.ndarray]:
        if not missing:
            return iter(())
        ids = np.concatenate(missing)
        return iter(SETFIT.run("vectors", [], ids=ids, lengths=np.array([len(one) for one in missing])))

    with closing(DenseCache(default_cache_dir(), LAST_LAYER)) as cache:
        return np.concatenate(
            [cache.fill(token_ids[start : start + 16_000], encode) for start in range(0, len(token_ids), 16_000)]
        )


APART: dict[str, tuple[Environment, Callable[[Fold], np.ndarray]]] = {
    "RouteLLM MF, re-trained": (ROUTELLM, routellm_mf),
    "SetFit (400 rows a fold)": (SETFIT, setfit),
    "MiniLM last layer + LR, C chosen": (SETFIT, last_layer_lr),
}
