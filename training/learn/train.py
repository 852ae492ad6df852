"""Train: logs in, bundle out. The whole flow, one step after the other.

    logs -> labels -> groups -> embed -> answers out of fold -> fit on all -> calibrate -> policy -> evaluate -> export

Every labelled row teaches. Calibrators, exit band, unfamiliarity limit, policies and figures rest on what each row was
told by fits without its group (docs/decisions/training/0012).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.serving.bundles.bundle import (
    CARD,
    CHECKER,
    GOLDEN,
    GOLDEN_CHECKS,
    GRAPH,
    RUNGS,
    SEEN_GROUPS,
    TOKENIZER,
    load_bundle,
)
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.router.checker import CheckerModel
from turnout.serving.router.model import RouterModel
from turnout.training.bundle.golden import golden_checks, golden_lines
from turnout.training.bundle.publish import check_out, publish
from turnout.training.bundle.rungs import golden_with_rungs
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.dataset import Dataset, Loaded, digest_files
from turnout.training.dataset.ladder import load_ladder
from turnout.training.dataset.load import load_rows
from turnout.training.dataset.splits import Part
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.evaluation.dense_blocks import DENSE_BLOCKS, DenseBlocks
from turnout.training.evaluation.evaluation import Evaluation, write_evaluation
from turnout.training.fit.many_rows import some_groups
from turnout.training.labels.stored import label_files
from turnout.training.learn.learn import Learned, learn
from turnout.training.learn.rungs_between import refuse_too_few
from turnout.training.learn.settings import TrainSettings
from turnout.training.logs.quarantine import write_quarantine
from turnout.training.logs.stored_files import LogFile
from turnout.training.policy.default import carried
from turnout.training.progress import Reporter
from turnout.training.report import render_report
from turnout.training.report.card import render_card

MIN_GROUPS = 200


MIN_NON_MATCHES = 20
"""Fewer leave each of five folds with less than four cases of what costs quality."""


EVALUATION_JSON = "report/evaluation.json"


@dataclass(frozen=True)
class Trained:
    """What a training run leaves.

    Attributes:
        manifest: as published.
        evaluation: of all rows, each answered without its group.
        folder: the bundle.
        n_quarantined: rows that could not be read.
        unlabelled: rows without a label, by why.
        carries: which promises so many rows can carry, for people.
    """

    manifest: Manifest
    evaluation: Evaluation
    folder: Path
    n_quarantined: int
    unlabelled: dict[str, int]
    carries: str = ""


def train(
    paths: Sequence[LogFile], out: Path, encoder: EncoderModel, settings: TrainSettings, reporter: Reporter
) -> Trained:
    """Train a router on logs, or on files of features, and publish its bundle in `out`.

    Raises:
        DataRefused: the logs can't be read or labelled, are too few, `out` holds something else, or the
            exported graph misses the Python path.
    """
    check_out(out)
    if len(settings.names) > 2:
        return _train_ladder(paths, out, encoder, settings, reporter)
    loaded = load_rows(
        paths, settings.pair, settings.reading, settings.margin, encoder, settings.harness_rules, reporter
    )
    data, table, answers = _at_most(loaded, settings, reporter)
    refuse_too_little(data)
    part = np.full(len(data.rows), int(Part.FIT))
    digest = digest_files([*paths, *(path for path in (settings.scores, settings.reading.labels) if path)])
    learned = learn(data, part, encoder, settings, digest, reporter, table, answers)
    published = publish_learned(out, learned, encoder)
    if loaded.read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", loaded.read.quarantine)
    unlabelled = {str(why): count for why, count in loaded.labelled.unlabelled.items()}
    return Trained(
        published, learned.evaluation, out, len(loaded.read.quarantine), unlabelled, carried(data.groups.n_groups)
    )


def _train_ladder(
    paths: Sequence[LogFile], out: Path, encoder: EncoderModel, settings: TrainSettings, reporter: Reporter
) -> Trained:
    """Train a router over more than two models and publish its bundle; raises as `train`."""
    read = load_ladder(
        paths,
        settings.names,
        settings.reading,
        settings.margin,
        settings.harness_rules,
        reporter,
        settings.model_scores,
    )
    refuse_too_little(read.pair)
    refuse_too_few(read, settings.names)
    part = np.full(len(read.pair.rows), int(Part.FIT))
    tables = [path for path in (settings.scores, settings.model_scores) if path]
    digest = digest_files([*paths, *tables, *label_files(settings.reading.labels)])
    learned = learn(read.pair, part, encoder, settings, digest, reporter, ladder=read)
    published = publish_learned(out, learned, encoder)
    if read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", read.quarantine)
    n_groups = int(np.unique(read.group).size)
    return Trained(published, learned.evaluation, out, len(read.quarantine), read.unlabelled, carried(n_groups))


def _at_most(
    loaded: Loaded, settings: TrainSettings, reporter: Reporter
) -> tuple[Dataset, FeatureTable | None, Answers | None]:
    """Return the rows that teach, with what was read of their features and answers."""
    data, n = loaded.dataset, len(loaded.dataset.rows)
    if settings.max_rows is None or settings.max_rows >= n:
        return data, loaded.table, loaded.answers
    source = [record.source or "" for record in data.records]
    rows = some_groups(data.groups.group, source, settings.max_rows, settings.seed)
    reporter.say(f"{rows.size} of {n} labelled rows teach: whole groups by chance, of each source the same share")
    return data.take(rows), loaded.table and loaded.table.take(rows), loaded.answers and loaded.answers.take(rows)


def publish_learned(out: Path, learned: Learned, encoder: EncoderModel) -> Manifest:
    """Publish what was learned, and load it again: what was written is what will be served."""
    published = publish_trained(
        out,
        learned.manifest,
        learned.evaluation,
        encoder,
        learned.graph,
        learned.seen,
        learned.blocks,
        learned.checker,
        learned.rungs,
    )
    load_bundle(out)
    return published


def refuse_too_little(data: Dataset) -> None:
    """Refuse a dataset that no calibration can rest on; the message says what to collect."""
    n_groups, n_non_matches = data.groups.n_groups, int((data.match == 0).sum())
    if n_groups < MIN_GROUPS or n_non_matches < MIN_NON_MATCHES:
        raise DataRefused(
            f"{len(data.rows)} labelled rows in {n_groups} groups, {n_non_matches} with a worse weak answer; "
            f"training needs at least {MIN_GROUPS} groups and {MIN_NON_MATCHES} such rows; log more requests "
            "with both models' answers, of the kinds where the weak model fails"
        )


def publish_trained(
    out: Path,
    manifest: Manifest,
    evaluation: Evaluation,
    encoder: EncoderModel,
    graph: bytes,
    seen: bytes,
    blocks: DenseBlocks | None = None,
    checker: bytes | None = None,
    rungs: bytes | None = None,
) -> Manifest:
    """Publish the graph with tokenizer, golden prompts, report, card and the digests of the groups seen.

    `blocks` is what the dense vectors of live traffic are compared with, `checker` the graph of the second look,
    `rungs` that of the rungs between; None leaves any out.
    """
    model = RouterModel(graph, encoder.tokenizer_json, encoder.card.max_tokens, manifest.harness_rules)
    contents = report_files(manifest, evaluation) | {
        GRAPH: graph,
        TOKENIZER: encoder.tokenizer_json,
        GOLDEN: golden_lines(model),
        SEEN_GROUPS: seen,
        CARD: render_card(manifest, evaluation).encode(),
        **({} if blocks is None else {DENSE_BLOCKS: blocks.to_bytes()}),
    }
    if checker is not None:
        contents |= {CHECKER: checker, GOLDEN_CHECKS: golden_checks(CheckerModel(checker, model.featurize.ngrams))}
    if rungs is not None:
        contents |= {RUNGS: rungs, GOLDEN: golden_with_rungs(contents[GOLDEN], rungs, model.featurize)}
    return publish(out, manifest, contents)


def report_files(manifest: Manifest, evaluation: Evaluation) -> dict[str, bytes]:
    """Return the page, its figures and the evaluation, by their names in the bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch)
        render_report(manifest, evaluation, report)
        write_evaluation(report / Path(EVALUATION_JSON).name, evaluation)
        return {f"report/{file.name}": file.read_bytes() for file in sorted(report.iterdir())}
