"""Learn: fit, calibrate, solve the policies, evaluate and export: all of a router but its folder.

Comes in: labelled rows, divided. Goes out: `Learned`, which `training.learn.train` publishes and `training.retrain`
judges.
"""

from __future__ import annotations

import hashlib
import secrets
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

from turnout.serving.bundles.bundle import (
    FORMAT_VERSION,
    Manifest,
    OutOfDistribution,
    Pair,
    Policy,
    SecondLook,
    Training,
)
from turnout.serving.router.features import SCHEMA_VERSION, Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.serving.router.prompt import Prompt, prompt_from_json, prompt_from_text
from turnout.training.assess.learning_curve import learning_curve
from turnout.training.bundle.export import Parity, check_parity, export_router
from turnout.training.bundle.golden import GOLDEN_PROMPTS, GOLDEN_TOLERANCE
from turnout.training.check.learn import FirstLook, LearnedCheck, NoCheck, learn_check
from turnout.training.check.signals import with_signals
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset, Loaded
from turnout.training.dataset.splits import Part
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.evaluation.baselines import dense_logistic_baseline
from turnout.training.evaluation.dense_blocks import DenseBlocks, dense_blocks
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import Evaluation, flat
from turnout.training.evaluation.threshold_table import Served
from turnout.training.fit.crossfit import CrossFitted, fit_calibrated
from turnout.training.fit.difficulty import OPINION_SHARE, Difficulty, read_difficulty
from turnout.training.fit.fit import FitSettings, outcome_classes
from turnout.training.fit.router import HeadLogOdds, Router, largest_weak_threshold
from turnout.training.fit.select import select_settings
from turnout.training.fit.unfamiliar import RARE_BELOW
from turnout.training.logs.cells import encode
from turnout.training.logs.reading import Reading
from turnout.training.policy.policy import DEFAULT_POLICY, PolicyRows, as_in_traffic, solve_policies
from turnout.training.policy.three_actions import Costs, LookedAt, with_second_look
from turnout.training.progress import Reporter
from turnout.training.sample.sample import make_sample

PARITY_ROWS = 500
DEFAULT_WEAK_COST_SHARE = 1 / 16.7
"""Of gpt-4o-mini and gpt-4o at their list prices, input and output alike; where the log's own costs are unknown."""


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
        scores: table of other models' scores on the same prompts (`turnout.training.fit.difficulty`); None for none.
        signals: table of what came with the answers (`turnout.training.check.signals`); None for what the logs hold.
        learning_curve: fit on ever more rows too, and keep what each size was worth; takes as long again.
        fit: form, C and scales to fit with; None chooses them by cross-validation.
        harness_rules: version of the rules by which prompts lose their harness text (`turnout.serving.router.harness`).
        note: for the card: intended use, origin and licences of the logs; Markdown.
    """

    pair: Pair = field(default_factory=Pair)
    name: str = "router"
    seed: int = 0
    margin: float = 0.0
    wide_search: bool = False
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None
    scores: Path | None = None
    signals: Path | None = None
    learning_curve: bool = False
    fit: FitSettings | None = None
    harness_rules: int = LATEST_HARNESS_RULES
    note: str = ""


@dataclass(frozen=True)
class Learned:
    """A router as it can be published.

    Attributes:
        manifest: without the digests of its files.
        evaluation: of the test part.
        graph: the exported router.
        seen: digests of the groups that taught it, calibrated it or solved its policies.
        parity: of the graph with the Python path, over rows of the test part.
        blocks: of the test part's vectors, what drift is measured against; None of too few rows.
        checker: the second look's graph; None where the log holds too few answers.
    """

    manifest: Manifest
    evaluation: Evaluation
    graph: bytes
    seen: bytes
    parity: Parity
    blocks: DenseBlocks | None
    checker: bytes | None = None


def learn(
    data: Dataset,
    part: NDArray[np.int64],
    encoder: EncoderModel,
    settings: TrainSettings,
    data_sha256: str,
    reporter: Reporter,
    features: FeatureTable | None = None,
) -> Learned:
    """Learn a router from labelled rows; nothing is written.

    Args:
        data: the rows.
        part: (n,) of `Part`; rows of none of them are left out.
        encoder: which reads the prompts.
        settings: what the operator chose.
        data_sha256: what the manifest says of where the rows come from.
        reporter: shows the stages.
        features: of the rows, where they hold no prompts; None embeds the prompts.

    Raises:
        DataRefused: the exported graph misses the Python path.
    """
    if settings.signals is not None:
        data = with_signals(data, settings.signals, settings.pair, reporter)
    table = features
    if table is None:
        table = embed_dataset(data, encoder, settings.cache_dir, reporter, settings.harness_rules)
    rows = {one: np.flatnonzero(part == one) for one in Part}

    difficulty = _difficulty(data, settings, reporter)
    fitted, chosen = _fit(data, table, rows, difficulty, settings, reporter)
    router = fitted.router
    policy = as_in_traffic(rows[Part.POLICY], data.pair_propensity, settings.seed)
    if policy.size < rows[Part.POLICY].size:
        reporter.say(f"Policies are solved on {policy.size} of {rows[Part.POLICY].size} rows, mixed as the traffic is")
    costs = request_costs([data.rows[row].record for row in policy], settings.pair)
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No cost policies: {costs.reason}")
    policies = solve_policies(router, _policy_rows(data, table, policy, router, costs), settings.seed)
    check = _second_look(data, table, rows, fitted, encoder, settings, features, reporter)
    if check is not None:
        policies = _with_second_look(policies, data, table, rows, policy, fitted, check, costs, settings.seed)
    threshold = next(policy.threshold for policy in policies if policy.name == DEFAULT_POLICY)
    evaluation = _evaluate(data, table, rows, router, policies, settings.seed, reporter)
    if settings.learning_curve:
        curve = learning_curve(data, table, part, seed=settings.seed, reporter=reporter)
        evaluation = msgspec.structs.replace(evaluation, learning_curve=curve)

    with reporter.stage("Exporting and checking parity"):
        graph = export_router(router, encoder)
        prompts = None if features is not None else [record.prompt for record in data.records]
        parity = _check_parity(graph, encoder, router, prompts, table, rows[Part.TEST], threshold, settings)
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
        intervals=_known(evaluation),
        training=_training(data, data_sha256, part, chosen, settings),
        files={},
        synthetic=any(record.source == "synthetic" for record in data.records),
        out_of_distribution=describe_familiarity(router, evaluation),
        harness_rules=settings.harness_rules,
        second_look=None if check is None else describe_check(data, rows[Part.TEST], check, settings.seed, reporter),
    )
    test = rows[Part.TEST]
    blocks = dense_blocks(table.dense[test], data.groups.group[test], settings.seed)
    seen = _seen(data, part, manifest.training.group_salt)
    return Learned(manifest, evaluation, graph, seen, parity, blocks, check.graph if check else None)


def _check_parity(
    graph: bytes,
    encoder: EncoderModel,
    router: Router,
    prompts: list[Prompt] | None,
    table: FeatureTable,
    test: NDArray[np.int64],
    threshold: float,
    settings: TrainSettings,
) -> Parity:
    """Compare graph and Python path on odd prompts, then on those of the test part; on made-up ones without prompts."""
    rules = settings.harness_rules

    def checked(some: list[Prompt], of_some: FeatureTable) -> Parity:
        return check_parity(graph, encoder, router, some, of_some, threshold, rules)

    def made_up(some: list[Prompt]) -> Parity:
        return checked(some, embed(some, encoder, cache_dir=None, harness_rules=rules))

    made_up([prompt_from_text(text) for text in GOLDEN_PROMPTS])
    if prompts is None:
        bodies = (encode(row["request"]) for row in make_sample(PARITY_ROWS, settings.seed))
        return made_up([prompt_from_json(body) for body in bodies])
    rows = test[:: max(1, test.size // PARITY_ROWS)][:PARITY_ROWS]
    return checked([prompts[row] for row in rows], table.take(rows))


def features_of(
    loaded: Loaded, encoder: EncoderModel, cache_dir: Path | None, reporter: Reporter, harness_rules: int
) -> FeatureTable:
    """Return the features of all rows: those that were read, or of the prompts, with a bar."""
    if loaded.table is not None:
        return loaded.table
    return embed_dataset(loaded.dataset, encoder, cache_dir, reporter, harness_rules)


def embed_dataset(
    data: Dataset, encoder: EncoderModel, cache_dir: Path | None, reporter: Reporter, harness_rules: int = 0
) -> FeatureTable:
    """Return the features of all rows, with a bar."""
    with reporter.stage("Embedding prompts", len(data.rows)) as advance:
        prompts = [record.prompt for record in data.records]
        return embed(prompts, encoder, cache_dir=cache_dir, harness_rules=harness_rules, on_progress=advance)


def _fit(
    data: Dataset,
    table: FeatureTable,
    rows: Mapping[Part, NDArray[np.int64]],
    difficulty: Difficulty | None,
    settings: TrainSettings,
    reporter: Reporter,
) -> tuple[CrossFitted, FitSettings]:
    learn = _learn_rows(rows)
    match, group = data.match[learn], data.groups.group[learn]
    targets = {"binary": match}
    if data.has_scores:
        classes = outcome_classes(data.match, data.strong_score, data.weak_score)
        others = {} if difficulty else targets  # other models' scores soften the four outcomes, and no binary label
        targets = {"four_outcomes": classes[learn], **others}
    learn_table = table.take(learn)
    chosen = settings.fit or select_settings(
        learn_table, targets, match, group, wide=settings.wide_search, reporter=reporter
    )
    with reporter.stage("Fitting and calibrating"):
        fitted = fit_calibrated(
            learn_table,
            targets[chosen.form],
            match,
            group,
            chosen,
            weight=data.weight[learn],
            difficulty=difficulty and difficulty.take(learn),
        )
    return fitted, chosen


def _second_look(
    data: Dataset,
    table: FeatureTable,
    rows: Mapping[Part, NDArray[np.int64]],
    fitted: CrossFitted,
    encoder: EncoderModel,
    settings: TrainSettings,
    features: FeatureTable | None,
    reporter: Reporter,
) -> LearnedCheck | None:
    """Learn the second look where the log holds answers; say why where it doesn't."""
    if features is not None:
        return None  # files of features hold no answers
    with reporter.stage("Learning the second look"):
        ngrams = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, settings.harness_rules).ngrams
        first = _first_look(table, _learn_rows(rows), fitted)
        found = learn_check(data, _learn_rows(rows), first, ngrams)
    if isinstance(found, NoCheck):
        reporter.say(f"No second look: {found.reason}")
        return None
    reporter.say(f"Second look: learned from {found.n_rows} answers, {found.n_signals} of them with a signal")
    return found


def _first_look(table: FeatureTable, learn: NDArray[np.int64], fitted: CrossFitted) -> FirstLook:
    """Return what the first look says of all rows: out of fold of those that taught it."""
    router = fitted.router
    heads = router.log_odds(table)
    fast, full = heads.fast.copy(), heads.full.copy()
    fast[learn], full[learn] = fitted.heads.fast, fitted.heads.full
    p_route = expit(largest_weak_threshold(HeadLogOdds(fast, full), router.exit_band))
    return FirstLook(fast, p_route, router.is_out_of_distribution(table))


def _with_second_look(
    policies: list[Policy],
    data: Dataset,
    table: FeatureTable,
    rows: Mapping[Part, NDArray[np.int64]],
    policy: NDArray[np.int64],
    fitted: CrossFitted,
    check: LearnedCheck,
    costs: RequestCosts | CostsUnknown,
    seed: int,
) -> list[Policy]:
    """Solve the policies over three actions: the path from rows that taught, out of fold, its test on the policy rows.

    Rows without an answer are tried as if nothing could be said of their answers, which escalates them.
    """
    learn = _learn_rows(rows)
    first = _first_look(table, learn, fitted)
    weak_share = _weak_cost_share(costs)

    def looked_at(some: NDArray[np.int64]) -> LookedAt:
        ones = np.ones(some.size)
        return LookedAt(
            first.p_route[some],
            np.nan_to_num(check.p_checked[some], nan=-1.0),
            data.match[some],
            data.weak_score[some],
            data.strong_score[some],
            data.groups.group[some],
            Costs(ones * weak_share, ones, np.zeros(some.size)),
            first.is_unlike[some],
        )

    return with_second_look(policies, looked_at(learn), looked_at(policy), seed)


MIN_SIGNAL_ROWS = 200
"""Test rows with a signal from which their figures are shown on their own."""


def describe_check(
    data: Dataset, test: NDArray[np.int64], check: LearnedCheck, seed: int, reporter: Reporter
) -> SecondLook:
    """Return what the manifest says of the second look: its figures on the test rows with an answer."""
    answered = test[~np.isnan(check.p_checked[test])]
    signalled = answered[check.has_signal[answered]]

    def figures(rows: NDArray[np.int64]) -> Evaluation:
        p_match = np.clip(check.p_checked[rows], 1e-6, 1 - 1e-6)
        outcomes = data.outcomes(rows, p_match, np.ones(rows.size, dtype=bool))
        return evaluate(outcomes, n_seen=0, seed=seed)

    with reporter.stage("Evaluating the second look"):
        whole = figures(answered)
        alone = figures(signalled) if signalled.size >= MIN_SIGNAL_ROWS else None
    return SecondLook(
        rows=check.n_rows,
        signals=check.n_signals,
        sources=check.n_sources_with_signals,
        n=int(answered.size),
        metrics=flat(whole),
        intervals=_known(whole),
        n_signals=int(signalled.size),
        metrics_signals={} if alone is None else flat(alone),
        intervals_signals={} if alone is None else _known(alone),
    )


def _known(evaluation: Evaluation) -> dict[str, tuple[float, float]]:
    return {name: bounds for name, bounds in evaluation.intervals.items() if bounds is not None}


def _weak_cost_share(costs: RequestCosts | CostsUnknown) -> float:
    """Return what the weak model costs of what the strong one does, by the log's own tokens where they are known."""
    if isinstance(costs, RequestCosts):
        known = costs.is_known
        return float(costs.weak[known].sum() / costs.strong[known].sum())
    return DEFAULT_WEAK_COST_SHARE


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
    data: Dataset, data_sha256: str, part: NDArray[np.int64], chosen: FitSettings, settings: TrainSettings
) -> Training:
    group = data.groups.group
    return Training(
        data_sha256=data_sha256,
        rows={one.name.lower(): int((part == one).sum()) for one in Part},
        groups={one.name.lower(): int(np.unique(group[part == one]).size) for one in Part},
        group_salt=data.groups.salt or secrets.token_hex(16),
        seed=settings.seed,
        match_rate=float(data.match.mean()),
        labellers=dict(Counter(row.label.labeller for row in data.rows).most_common()),
        settings={
            "form": chosen.form,
            "c": chosen.c,
            "dense_scale": chosen.dense_scale,
            "structural_scale": chosen.structural_scale,
            "margin": settings.margin,
            "effective_rows": round(data.effective_rows, 1),
            "opinion_share": OPINION_SHARE if settings.scores and chosen.form == "four_outcomes" else 0.0,
        },
        libraries={library: version(library) for library in LIBRARIES},
        note=settings.note,
    )


def _seen(data: Dataset, part: NDArray[np.int64], salt: str) -> bytes:
    return b"".join(sorted(data.groups.digests(np.flatnonzero(part != Part.TEST), salt)))
