"""What the out-of-distribution fallback is worth on traffic that was never seen: whole families of sources held out.

    python -m tests.bench.unfamiliar LOGS... [--family NAME=PATTERN,PATTERN ...] [--policy max_worse=0.05] [--seed 0]

Each family in turn is left out, a router is fitted, calibrated and its policies solved on the other rows, with the
fallback and without, and asked about the family. Rows that share a group with the others are left out of it.
Figures of the reference rows, and what other scores did there: docs/decisions/training/0008.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from rich.table import Table
from sklearn.metrics import roc_auc_score

from turnout.serving.bundles.bundle import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.encoders.embeddings import FeatureTable, default_cache_dir, embed
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.evaluation import metrics
from turnout.training.fit.crossfit import fit_calibrated
from turnout.training.fit.fit import FitSettings, outcome_classes
from turnout.training.fit.router import Router
from turnout.training.fit.unfamiliar import rare_share
from turnout.training.policy.policy import PolicyRows, solve_policies
from turnout.training.progress import Reporter

FAMILIES = {
    "medicine": "medagents-*,*-medmcqa",
    "translation": "eamt-*",
    "maths": "zeroeval-*,*-gsm8k",
    "code": "tdp-*",
    "entities": "ner-*",
    "tables": "tabann-*",
    "Japanese chat": "shaberi-*",
    "sentiment": "parlasent-*",
    "function calls": "bfcl-*",
    "MMLU": "mzelling-mmlu",
    "trivia": "*-triviaqa",
}
"""Patterns over the sources of the reference rows, by subject."""

PARTS = (0.6, 0.7, 0.8)
"""Ends of the fit, calibration and policy parts; the rest is the test part in distribution."""

MIN_ECE_ROWS = 50
COLUMNS = ("family", "rows", "AUROC", "flagged", "flagged seen", "to weak", "quality without", "quality with", "ECE")


@dataclass(frozen=True)
class Rows:
    """Everything that is known of all rows."""

    data: Dataset
    table: FeatureTable
    classes: np.ndarray
    source: np.ndarray


def main() -> None:
    """Hold out each family and print one table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--family", action="append", help="NAME=PATTERN,PATTERN over the sources")
    arguments.add_argument("--policy", default="max_worse=0.05")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    families = dict(one.split("=", 1) for one in given.family) if given.family else FAMILIES
    rows, reporter = read(given.logs), Reporter()
    shown = Table(*COLUMNS, title=f"Families held out, policy {given.policy}; ECE of what is still routed (its floor)")
    with reporter.stage("Holding out families", len(families)) as advance:
        for name, patterns in families.items():
            is_out = np.array([any(fnmatch(one, pattern) for pattern in patterns.split(",")) for one in rows.source])
            shown.add_row(name, *held_out(rows, is_out, given.policy, given.seed))
            advance(1)
    console().print(shown)


def read(logs: list[Path]) -> Rows:
    """Read, label and embed all rows."""
    reporter = Reporter()
    data = load_dataset(logs, Pair(), None, 0.0, reporter).dataset
    prompts = [record.prompt for record in data.records]
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
        table = embed(prompts, encoder, cache_dir=default_cache_dir(), on_progress=advance)
    classes = outcome_classes(data.match, data.strong_score, data.weak_score)
    return Rows(data, table, classes, np.array([record.source or "" for record in data.records]))


def held_out(rows: Rows, is_out: np.ndarray, policy: str, seed: int) -> list[str]:
    """Return the cells of one family."""
    group = rows.data.groups.group
    out = np.flatnonzero(is_out & ~np.isin(group, group[~is_out]))
    fit, calibrate, policy_part, test = split(group, np.flatnonzero(~is_out), seed)
    router = fitted(rows, np.sort(np.concatenate((fit, calibrate))))
    assert router.familiarity is not None
    shares = [
        rare_share(router.linear.scaler, router.familiarity.rare_idf, rows.table.take(one)) for one in (test, out)
    ]
    flagged = [router.is_out_of_distribution(rows.table.take(one)) for one in (test, out)]
    is_stranger = np.concatenate((np.zeros(test.size), np.ones(out.size)))
    without = served(rows, replace(router, familiarity=None), policy_part, out, policy)
    falling_back = served(rows, router, policy_part, out, policy)
    return [
        f"{out.size:,}",
        f"{roc_auc_score(is_stranger, np.concatenate(shares)):.3f}",
        f"{flagged[1].mean():.1%}",
        f"{flagged[0].mean():.1%}",
        f"{falling_back.share_weak:.1%}",
        f"{without.quality:.4f}",
        f"{falling_back.quality:.4f}",
        ece_of(falling_back.p_match[~flagged[1]], rows.data.match[out][~flagged[1]]),
    ]


def split(group: np.ndarray, rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the row numbers of the four parts, whole groups at random."""
    names, numbers = np.unique(group[rows], return_inverse=True)
    part = np.searchsorted(PARTS, np.random.default_rng(seed).random(names.size))[numbers]
    return [rows[part == one] for one in range(len(PARTS) + 1)]


def fitted(rows: Rows, learn: np.ndarray) -> Router:
    """Fit, calibrate and set the limit, as `train` does with the settings of the shipped bundle."""
    match, group = rows.data.match[learn], rows.data.groups.group[learn]
    return fit_calibrated(rows.table.take(learn), rows.classes[learn], match, group, FitSettings(dense_scale=0.5))


@dataclass(frozen=True)
class Served:
    """A router on rows of a family: (n,) p_match, the share to the weak model and the quality kept."""

    p_match: np.ndarray
    share_weak: float
    quality: float


def served(rows: Rows, router: Router, policy_part: np.ndarray, asked: np.ndarray, policy: str) -> Served:
    """Solve the policies on their part and route the rows asked about."""
    parts = [
        PolicyRows(
            heads=router.log_odds(rows.table.take(one)),
            match=rows.data.match[one],
            strong_score=rows.data.strong_score[one],
            weak_score=rows.data.weak_score[one],
            group=rows.data.groups.group[one],
            is_out_of_distribution=router.is_out_of_distribution(rows.table.take(one)),
        )
        for one in (policy_part, asked)
    ]
    threshold = next(one.threshold for one in solve_policies(router, parts[0], 0) if one.name == policy)
    p_match = router.cascade(parts[1].heads, threshold).p_match
    weak = (p_match >= threshold) & ~parts[1].is_out_of_distribution
    kept = np.where(weak, parts[1].weak_score, parts[1].strong_score).sum() / parts[1].strong_score.sum()
    return Served(p_match, float(weak.mean()), float(kept))


def ece_of(p_match: np.ndarray, match: np.ndarray) -> str:
    """Return ECE, its floor and the rows, as text."""
    if match.size < MIN_ECE_ROWS:
        return f"({match.size} rows)"
    found = metrics.ece(metrics.Ranking.of(p_match), p_match, match.astype(float))
    return f"{found:.3f} ({metrics.ece_floor(p_match, 0):.3f}, {match.size:,} rows)"


if __name__ == "__main__":
    main()
