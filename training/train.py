"""Train: logs in, bundle out. The whole flow, one step after the other.

    logs -> labels -> groups -> split -> embed -> select -> fit -> calibrate -> policy -> evaluate -> export -> publish

Settings, coefficients, calibrators and exit band see the fit and the calibration part (cross-fitted, so that
no calibrator reads an answer from a fit that saw the row); only thresholds see the policy part, only figures
the test part.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from serving.bundle import (
    CARD,
    FORMAT_VERSION,
    GOLDEN,
    GRAPH,
    SEEN_GROUPS,
    TOKENIZER,
    Manifest,
    OutOfDistribution,
    Pair,
    Policy,
    Training,
    load_bundle,
)
from serving.features import SCHEMA_VERSION
from serving.model import RouterModel
from serving.prompt import prompt_from_text
from training.baselines import dense_logistic_baseline
from training.card import render_card
from training.costs import CostsUnknown, RequestCosts, request_costs
from training.crossfit import fit_calibrated
from training.dataset import Dataset, Loaded, digest_files, load_dataset
from training.difficulty import OPINION_SHARE, Difficulty, read_difficulty
from training.embeddings import FeatureTable, embed
from training.encoders import EncoderModel
from training.errors import DataRefused
from training.evaluate import evaluate
from training.evaluation import Evaluation, flat, write_evaluation
from training.export import check_parity, export_router
from training.fit import FitSettings, outcome_classes
from training.golden import GOLDEN_PROMPTS, GOLDEN_TOLERANCE, golden_lines
from training.learning_curve import learning_curve
from training.policy import DEFAULT_POLICY, PolicyRows, solve_policies
from training.progress import Reporter
from training.publish import check_out, publish
from training.quarantine import write_quarantine
from training.reading import Reading
from training.report import render_report
from training.router import Router
from training.select import select_settings
from training.splits import Part, key_digests, split_groups
from training.threshold_table import Served
from training.unfamiliar import RARE_BELOW

MIN_GROUPS = 200
MIN_NON_MATCHES = 30
"""Fewer leave the policy part with three cases of what costs quality: no bound can rest on that."""

PARITY_ROWS = 500
EVALUATION_JSON = "report/evaluation.json"
LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "scipy", "tokenizers")


@dataclass(frozen=True)
class TrainSettings:
    """What the operator chooses.

    Attributes:
        pair: names of the two models.
        name: name of the bundle, the first half of its id.
        seed: of the split, the draws and the bootstraps; same logs and seed give the same router.
        margin: by how much the weak score may fall below the strong one and still match.
        wide_search: search every form and the whole grid.
        reading: how the logs are to be read.
        cache_dir: folder of the dense cache; None for none.
        scores: table of other models' scores on the same prompts (`training.difficulty`); None for none.
        learning_curve: fit on ever more rows too, and keep what each size was worth; takes as long again.
    """

    pair: Pair = field(default_factory=Pair)
    name: str = "router"
    seed: int = 0
    margin: float = 0.0
    wide_search: bool = False
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None
    scores: Path | None = None
    learning_curve: bool = False


@dataclass(frozen=True)
class Trained:
    """What a training run leaves.

    Attributes:
        manifest: as published.
        evaluation: of the test part.
        folder: the bundle.
        n_quarantined: rows that could not be read.
        unlabelled: rows without a label, by why.
    """

    manifest: Manifest
    evaluation: Evaluation
    folder: Path
    n_quarantined: int
    unlabelled: dict[str, int]


def train(
    paths: Sequence[Path], out: Path, encoder: EncoderModel, settings: TrainSettings, reporter: Reporter
) -> Trained:
    """Train a router on logs and publish its bundle in `out`.

    Raises:
        DataRefused: the logs can't be read or labelled, are too few, `out` holds something else, or the
            exported graph misses the Python path.
    """
    check_out(out)
    loaded = load_dataset(paths, settings.pair, settings.reading, settings.margin, reporter)
    data = loaded.dataset
    refuse_too_little(data)
    part = split_groups(data.records, data.groups.group, settings.seed)
    _refuse_one_sided(data, part)
    table = embed_dataset(data, encoder, settings.cache_dir, reporter)
    rows = {one: np.flatnonzero(part == one) for one in Part}

    difficulty = _difficulty(data, settings, reporter)
    router, chosen = _fit(data, table, rows, difficulty, settings, reporter)
    costs = request_costs([data.rows[row].record for row in rows[Part.POLICY]], settings.pair)
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No cost policies: {costs.reason}")
    policies = solve_policies(router, _policy_rows(data, table, rows[Part.POLICY], router, costs), settings.seed)
    threshold = next(policy.threshold for policy in policies if policy.name == DEFAULT_POLICY)
    evaluation = _evaluate(data, table, rows, router, policies, settings.seed, reporter)
    if settings.learning_curve:
        curve = learning_curve(data, table, part, seed=settings.seed, reporter=reporter)
        evaluation = msgspec.structs.replace(evaluation, learning_curve=curve)

    with reporter.stage("Exporting and checking parity"):
        graph = export_router(router, encoder)
        parity_rows = rows[Part.TEST][:: max(1, rows[Part.TEST].size // PARITY_ROWS)][:PARITY_ROWS]
        prompts = [data.rows[row].record.prompt for row in parity_rows]
        parity = check_parity(graph, encoder, router, prompts, table.take(parity_rows), threshold)
        odd = [prompt_from_text(text) for text in GOLDEN_PROMPTS]
        check_parity(graph, encoder, router, odd, embed(odd, encoder, cache_dir=None), threshold)
    reporter.say(f"Parity of graph and Python path over {parity.n} prompts: {parity.max_difference:.1e}")

    created = datetime.now(UTC)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        feature_schema=SCHEMA_VERSION,
        name=settings.name,
        version=f"{created:%Y%m%d}-{hashlib.sha256(graph).hexdigest()[:8]}",
        created=created.isoformat(timespec="seconds"),
        pair=settings.pair,
        encoder=encoder.manifest_entry,
        calibrator=router.full_calibrator.kind,
        exit_band=router.exit_band.widest,
        exit_band_by_threshold=router.exit_band,
        golden_tolerance=GOLDEN_TOLERANCE,
        default_policy=DEFAULT_POLICY,
        policies=policies,
        metrics={"n": float(evaluation.n), "match_rate": evaluation.match_rate, **flat(evaluation)},
        intervals={name: bounds for name, bounds in evaluation.intervals.items() if bounds is not None},
        training=_training(paths, loaded, part, chosen, settings),
        files={},
        synthetic=any(record.source == "synthetic" for record in data.records),
        out_of_distribution=describe_familiarity(router, evaluation),
    )
    published = publish_trained(
        out, manifest, evaluation, encoder, graph, _seen(data, part, manifest.training.group_salt)
    )
    load_bundle(out)  # what was written is what will be served
    if loaded.read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", loaded.read.quarantine)
    unlabelled = {str(why): count for why, count in loaded.labelled.unlabelled.items()}
    return Trained(published, evaluation, out, len(loaded.read.quarantine), unlabelled)


def refuse_too_little(data: Dataset) -> None:
    """Refuse a dataset that no calibration can rest on; the message says what to collect."""
    n_groups, n_non_matches = data.groups.n_groups, int((data.match == 0).sum())
    if n_groups < MIN_GROUPS or n_non_matches < MIN_NON_MATCHES:
        raise DataRefused(
            f"{len(data.rows)} labelled rows in {n_groups} groups, {n_non_matches} with a worse weak answer; "
            f"training needs at least {MIN_GROUPS} groups and {MIN_NON_MATCHES} such rows; log more requests "
            "with both models' answers, of the kinds where the weak model fails"
        )


def _refuse_one_sided(data: Dataset, part: NDArray[np.int64]) -> None:
    for one in (Part.FIT, Part.CALIBRATE):
        if np.unique(data.match[part == one]).size < 2:
            raise DataRefused(
                f"the {one.name.lower()} part holds one outcome only; log more requests or try another seed"
            )


def embed_dataset(data: Dataset, encoder: EncoderModel, cache_dir: Path | None, reporter: Reporter) -> FeatureTable:
    """Return the features of all rows, with a bar."""
    with reporter.stage("Embedding prompts", len(data.rows)) as advance:
        prompts = [record.prompt for record in data.records]
        return embed(prompts, encoder, cache_dir=cache_dir, on_progress=advance)


def _fit(
    data: Dataset,
    table: FeatureTable,
    rows: Mapping[Part, NDArray[np.int64]],
    difficulty: Difficulty | None,
    settings: TrainSettings,
    reporter: Reporter,
) -> tuple[Router, FitSettings]:
    learn = _learn_rows(rows)
    match, group = data.match[learn], data.groups.group[learn]
    targets = {"binary": match}
    if data.has_scores:
        classes = outcome_classes(data.match, data.strong_score, data.weak_score)
        targets = {"four_outcomes": classes[learn], **targets}
    learn_table = table.take(learn)
    chosen = select_settings(learn_table, targets, match, group, wide=settings.wide_search, reporter=reporter)
    with reporter.stage("Fitting and calibrating"):
        router = fit_calibrated(
            learn_table,
            targets[chosen.form],
            match,
            group,
            chosen,
            weight=data.weight[learn],
            difficulty=difficulty and difficulty.take(learn),
        )
    return router, chosen


def _difficulty(data: Dataset, settings: TrainSettings, reporter: Reporter) -> Difficulty | None:
    if settings.scores is None:
        return None
    with reporter.stage("Reading other models' scores"):
        found = read_difficulty(settings.scores, settings.pair, data.records, data.groups.group)
    n_scored = int(np.isfinite(found.scores).any(axis=1).sum())
    reporter.say(f"Scores of {found.scores.shape[1]} other models on {n_scored} of {len(data.rows)} rows")
    return found


def _learn_rows(rows: Mapping[Part, NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.sort(np.concatenate([rows[Part.FIT], rows[Part.CALIBRATE]]))


def describe_familiarity(router: Router, evaluation: Evaluation) -> OutOfDistribution | None:
    """Return what the manifest says of the fallback; None where there is none.

    Args:
        router: as published.
        evaluation: of rows that it has not seen.
    """
    if router.familiarity is None:
        return None
    return OutOfDistribution(
        rare_below=RARE_BELOW,
        limit=float(router.familiarity.limit),
        share_calibrate=router.familiarity.share_beyond,
        share_test=evaluation.share_out_of_distribution,
    )


def _policy_rows(
    data: Dataset,
    table: FeatureTable,
    rows: NDArray[np.int64],
    router: Router,
    costs: RequestCosts | CostsUnknown,
) -> PolicyRows:
    return PolicyRows(
        heads=router.log_odds(table.take(rows)),
        match=data.match[rows],
        strong_score=data.strong_score[rows],
        weak_score=data.weak_score[rows],
        group=data.groups.group[rows],
        costs=costs if isinstance(costs, RequestCosts) else None,
        is_out_of_distribution=router.is_out_of_distribution(table.take(rows)),
    )


def _evaluate(
    data: Dataset,
    table: FeatureTable,
    rows: Mapping[Part, NDArray[np.int64]],
    router: Router,
    policies: Sequence[Policy],
    seed: int,
    reporter: Reporter,
) -> Evaluation:
    learn, test = _learn_rows(rows), rows[Part.TEST]
    test_table = table.take(test)
    heads = router.log_odds(test_table)
    served = Served.of(policies, DEFAULT_POLICY, lambda threshold: router.cascade(heads, threshold).p_match)
    answered = router.cascade(heads, served.threshold)
    _, uncalibrated = router.linear.log_odds(test_table)
    is_out = router.is_out_of_distribution(test_table)
    outcomes = data.outcomes(
        test, answered.p_match, answered.is_full, expit(uncalibrated), is_out, structural=test_table.structural
    )
    encoder_only = dense_logistic_baseline(table.dense[learn], data.match[learn], test_table.dense)
    with reporter.stage("Evaluating on the test part") as advance:
        return evaluate(
            outcomes,
            n_seen=sum(numbers.size for one, numbers in rows.items() if one is not Part.TEST),
            seed=seed,
            on_progress=lambda *_: advance(1),
            extra_baselines={"encoder_lr": encoder_only},
            served=served,
        )


def _training(
    paths: Sequence[Path], loaded: Loaded, part: NDArray[np.int64], chosen: FitSettings, settings: TrainSettings
) -> Training:
    group = loaded.dataset.groups.group
    further = [path for path in (settings.scores, settings.reading.labels) if path]
    return Training(
        data_sha256=digest_files([*paths, *further]),
        rows={one.name.lower(): int((part == one).sum()) for one in Part},
        groups={one.name.lower(): int(np.unique(group[part == one]).size) for one in Part},
        group_salt=secrets.token_hex(16),
        seed=settings.seed,
        match_rate=float(loaded.dataset.match.mean()),
        labellers=dict(Counter(row.label.labeller for row in loaded.dataset.rows).most_common()),
        settings={
            "form": chosen.form,
            "c": chosen.c,
            "dense_scale": chosen.dense_scale,
            "structural_scale": chosen.structural_scale,
            "margin": settings.margin,
            "effective_rows": round(loaded.dataset.effective_rows, 1),
            "opinion_share": OPINION_SHARE if settings.scores and chosen.form == "four_outcomes" else 0.0,
        },
        libraries={library: version(library) for library in LIBRARIES},
    )


def _seen(data: Dataset, part: NDArray[np.int64], salt: str) -> bytes:
    keys = (data.groups.keys[row] for row in np.flatnonzero(part != Part.TEST))
    return b"".join(sorted(key_digests(keys, salt)))


def publish_trained(
    out: Path, manifest: Manifest, evaluation: Evaluation, encoder: EncoderModel, graph: bytes, seen: bytes
) -> Manifest:
    """Publish the graph with tokenizer, golden prompts, report, card and the digests of the groups seen."""
    model = RouterModel(graph, encoder.tokenizer_json, encoder.card.max_tokens)
    contents = report_files(manifest, evaluation) | {
        GRAPH: graph,
        TOKENIZER: encoder.tokenizer_json,
        GOLDEN: golden_lines(model),
        SEEN_GROUPS: seen,
        CARD: render_card(manifest).encode(),
    }
    return publish(out, manifest, contents)


def report_files(manifest: Manifest, evaluation: Evaluation) -> dict[str, bytes]:
    """Return the page, its figures and the evaluation, by their names in the bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch)
        render_report(manifest, evaluation, report)
        write_evaluation(report / Path(EVALUATION_JSON).name, evaluation)
        return {f"report/{file.name}": file.read_bytes() for file in sorted(report.iterdir())}
