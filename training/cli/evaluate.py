"""`turnout evaluate`: a bundle measured on logs that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.cli.options import Flag
from turnout.training.cli.figures import print_evaluation
from turnout.training.cli.options import (
    LEARNING,
    OUTPUT,
    BundleFolder,
    EarlyExit,
    Flat,
    LearningOptions,
    Logs,
    Margin,
    Output,
    PolicyName,
    Seed,
)
from turnout.training.dataset.dataset import load_dataset
from turnout.training.evaluation.evaluation import write_evaluation
from turnout.training.learn.predict import evaluate_bundle
from turnout.training.logs.sources import find_logs
from turnout.training.progress import Reporter


def evaluate(
    bundle: BundleFolder,
    data: Logs,
    /,
    *,
    out: Path | None = None,
    policy: PolicyName = "",
    early_exit: EarlyExit = True,
    include_seen: Flag = False,
    margin: Margin | None = None,
    seed: Seed = 0,
    files: Annotated[LearningOptions, Flat] = LEARNING,
    output: Annotated[Output, Flat] = OUTPUT,
) -> None:
    """Measure a bundle on logs it has not seen, with intervals and baselines beside it.

    Args:
        out: JSON file to write.
        include_seen: Keep rows of groups the bundle was trained on; flatters it.
        margin: As in `train`; the margin that the bundle was trained with when not given.
    """
    reading, found = files.reading, find_logs(data)
    loaded, reporter = load_bundle(bundle), Reporter(quiet=output.quiet)
    rules = loaded.manifest.harness_rules
    margin = loaded.manifest.match_margin if margin is None else margin  # p_match is of that `match` and no other
    if len(loaded.manifest.ladder) > 2:
        reporter.say("A ladder: the figures are of its two ends; those of the rungs stand in its card")
    dataset = load_dataset(found, loaded.manifest.pair, reading, margin, reporter, rules).dataset
    evaluation = evaluate_bundle(
        loaded,
        dataset,
        loaded.manifest.policy(policy),
        early_exit=early_exit,
        include_seen=include_seen,
        seed=seed,
        reporter=reporter,
    )
    if out is not None:
        write_evaluation(out, evaluation)
    if include_seen and evaluation.n_seen_in_training:
        reporter.say(
            f"Warning: {evaluation.n_seen_in_training} rows were seen in training; the figures flatter the bundle"
        )
    if output.as_json:
        print(msgspec.json.encode(evaluation).decode())
    else:
        print_evaluation(evaluation)
