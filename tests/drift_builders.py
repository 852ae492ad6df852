"""Baselines of drift, as a bundle's evaluation holds them, and bundles with one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from tests.builders import digest_of, tiny_bundle, write_manifest
from turnout.serving.bundles.baseline import EVALUATION, Baseline, read_baseline
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.manifest import MANIFEST, Manifest
from turnout.serving.router.features import STRUCTURAL
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.evaluation.drift_baseline import distribution

N_MEASURED = 4000


def evaluation_json(p_match: np.ndarray, structural: np.ndarray, share_out_of_distribution: float = 0.04) -> bytes:
    """Return the part of an `evaluation.json` that a baseline is read from, for (n,) and (n, 16) values."""
    columns = zip(("p_match", *STRUCTURAL), (p_match, *structural.T.astype(np.float64)), strict=True)
    drift = [distribution(name, column) for name, column in columns]
    found = {"n": p_match.size, "drift": drift, "share_out_of_distribution": share_out_of_distribution}
    return msgspec.json.encode(found)


def traffic(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return `p_match` (n,) and structural measures (n, 16) of made-up requests; `shift` in standard deviations.

    Tools, JSON and images never vary, as in a log without them.
    """
    logits = rng.normal(2.0 - shift, 1.0, n)
    structural = rng.gamma(4.0, 0.5, (n, len(STRUCTURAL))).astype(np.float32) + np.float32(shift)
    structural[:, -3:] = 0
    return 1 / (1 + np.exp(-logits)), structural


def baseline_of(p_match: np.ndarray, structural: np.ndarray, share_out_of_distribution: float) -> Baseline:
    """Return the baseline of (n,) and (n, 16) values, as a bundle measured on them has it."""
    baseline = read_baseline(evaluation_json(p_match, structural, share_out_of_distribution))
    assert baseline is not None
    return baseline


def made_up_baseline(seed: int = 0, n: int = N_MEASURED) -> Baseline:
    """Return a baseline of `n` requests of `traffic` without a shift."""
    return baseline_of(*traffic(np.random.default_rng(seed), n), 0.04)


def add_evaluation(folder: Path, evaluation: bytes) -> Path:
    """Put an `evaluation.json` into a bundle and its manifest; return the folder."""
    (folder / EVALUATION).parent.mkdir(exist_ok=True)
    (folder / EVALUATION).write_bytes(evaluation)
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    files = manifest.files | {EVALUATION: digest_of(folder / EVALUATION)}
    write_manifest(folder, msgspec.structs.replace(manifest, files=files))
    return folder


def measured_bundle(folder: Path, texts: list[str], n: int = N_MEASURED, **options: object) -> Path:
    """Write a tiny bundle that was measured on `n` rows drawn from these texts; return its folder."""
    model = load_bundle(tiny_bundle(folder, **options)).model
    features = [model.featurize(prompt_from_text(text)) for text in texts]
    p_match = np.array([model.predict_features(one, 0.5).p_match for one in features])
    structural = np.array([one.structural for one in features])
    drawn = np.random.default_rng(0).integers(len(texts), size=n)
    return add_evaluation(folder, evaluation_json(p_match[drawn], structural[drawn], 0.0))
