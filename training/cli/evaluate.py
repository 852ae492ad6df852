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
    ModelScores,
    OutputFormat,
    PolicyName,
    Seed,
    ladder_names,
)
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.dataset.ladder import LadderRead, load_ladder
from turnout.training.evaluation.evaluation import write_evaluation
from turnout.training.learn.evaluating import evaluate_bundle
from turnout.training.logs.sources import check_out, find_logs
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
    model_scores: ModelScores = None,
    seed: Seed = 0,
    files: Annotated[LearningOptions, Flat] = LEARNING,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Measure a bundle on logs it has not seen, with intervals and baselines beside it; of a ladder all rungs.

    Args:
        out: JSON file to write.
        include_seen: Keep rows of groups the bundle was trained on; flatters it.
        margin: As in `train`; the margin that the bundle was trained with when not given.
    """
    reading, found = files.reading, find_logs(data)
    check_out(out, found, model_scores, bundle, reading.labels)
    loaded, reporter = load_bundle(bundle), Reporter(quiet=output.quiet)
    rules = loaded.manifest.harness_rules
    margin = loaded.manifest.match_margin if margin is None else margin  # p_match is of that `match` and no other
    named = loaded.manifest.policy(policy)
    names = ladder_names(loaded.manifest, model_scores)
    rows: Dataset | LadderRead
    if names:
        rows = load_ladder(found, names, reading, margin, rules, reporter, model_scores, may_lack_between=True)
    else:
        rows = load_dataset(found, loaded.manifest.pair, reading, margin, reporter, rules).dataset
    evaluation = evaluate_bundle(
        loaded, rows, named, early_exit=early_exit, include_seen=include_seen, seed=seed, reporter=reporter
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
