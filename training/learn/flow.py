"""The flow that training and recalibration share: solve, evaluate, export, manifest.

Comes in: a regression and what rows were told by fits without their group. Goes out: `Learned`, all of a router but its
folder.

The figures are those of rows that nothing behind their answer has seen: calibrators, exit band and unfamiliarity limit
of the other folds answer each fold. Ranking figures are those of the raw log-odds, which every calibrator keeps in
order. The threshold is the published one, which was solved on these very rows: what it does to them is what its
promise is about, and the promise says more than the share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from turnout.serving.bundles.manifest import Manifest, Training
from turnout.serving.router.prompt import Prompt, prompt_from_json, prompt_from_text
from turnout.training.arrays import Floats
from turnout.training.bundle.export import Parity, check_parity, export_router
from turnout.training.bundle.golden import GOLDEN_PROMPTS
from turnout.training.bundle.manifest import Identity, build_manifest, with_rungs
from turnout.training.dataset.dataset import Dataset
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.evaluation.dense_blocks import DenseBlocks, dense_blocks
from turnout.training.evaluation.evaluate import evaluate, paired_difference
from turnout.training.evaluation.evaluation import Evaluation, Slice
from turnout.training.evaluation.figures import flat
from turnout.training.evaluation.threshold_table import ServedRows
from turnout.training.fit.calibrate import N_FOLDS
from turnout.training.fit.fit import LinearRouter
from turnout.training.fit.router import FittedRouter, HeadLogOdds, cascade
from turnout.training.learn.ladder import Climbing
from turnout.training.learn.second_look import LearnedSecondLook
from turnout.training.logs.cells import encode
from turnout.training.policy.by_task import said_of
from turnout.training.policy.solve import LabelledLogOdds, Solved, calibrate, calibrated, solve
from turnout.training.progress import Reporter
from turnout.training.sample.sample import make_sample

PARITY_ROWS = 500
RANKING_FIGURES = ("auroc", "auroc_within_source", "apgr", "cpt50", "cpt80", "quality_at_share", "share_at_quality")
DIFFERENCE = "auroc_minus_"
"""In the manifest, before a baseline's name: AUROC less the baseline's on the same rows, with its paired interval."""


@dataclass(frozen=True)
class Learned:
    """A router as it can be published.

    Attributes:
        manifest: without the digests of its files.
        evaluation: of all rows, each answered without its group.
        graph: the exported router.
        seen: digests of the groups that taught it, calibrated it or solved its policies.
        parity: of the graph with the Python path.
        blocks: of the rows' vectors, what drift is measured against; None of too few rows.
        checker: the second look's graph; None where there is none.
        rungs: of a ladder, the graph of the rungs between; None for a pair.
    """

    manifest: Manifest
    evaluation: Evaluation
    graph: bytes
    seen: bytes
    parity: Parity
    blocks: DenseBlocks | None
    checker: bytes | None = None
    rungs: bytes | None = None


@dataclass(frozen=True)
class AnsweredRows:
    """Rows of a dataset, (n,) each, with what they were told.

    Attributes:
        data: where the rows stand.
        kept: numbers of the rows in `data`.
        table: their features.
        rows: what was said of them, and their outcomes.
        baselines: name -> `p_match` of other rankers, none of which saw the row that it speaks of.
        has_text: whether the rows hold their prompts.
        rare_idf: weight from which an n-gram is rare; None where nothing is called out of distribution.
        n_seen: rows left out for having been seen before.
        is_rounded: whether the features' vectors are not the encoder's to the last bit.
    """

    data: Dataset
    kept: NDArray[np.int64]
    table: FeatureTable
    rows: LabelledLogOdds
    baselines: dict[str, Floats]
    has_text: bool
    rare_idf: np.float32 | None
    n_seen: int = 0
    is_rounded: bool = False


def complete(
    linear: LinearRouter,
    answered: AnsweredRows,
    encoder: EncoderModel,
    identity: Identity,
    training: Training,
    seen: bytes,
    *,
    seed: int,
    wanted: str,
    reporter: Reporter,
    by_task: str = "",
    look: Callable[[Solved], LearnedSecondLook | None] = lambda _: None,
    climb: Callable[[Solved, LearnedSecondLook | None], Climbing] | None = None,
) -> Learned:
    """Solve, evaluate, export and describe a router.

    Args:
        linear: the regression that will be served.
        answered: the rows.
        encoder: that stands inside.
        identity: what the bundle is called.
        training: what it says of the rows.
        seen: digests of the groups behind it.
        seed: of draws and bootstraps.
        wanted: name of the default policy; empty leaves it to the rule.
        reporter: shows the stages.
        by_task: promise that is solved task by task too; empty for none.
        look: learns the second look, given what was solved for the first.
        climb: learns the rungs between, and solves the policies over all rungs; None for a pair.

    Raises:
        DataRefused: an exported graph misses the Python path, or there is no policy of the wanted name.
    """
    with reporter.stage("Calibrating and solving policies"):
        task = np.array([answered.data.rows[row].record.task or "" for row in answered.kept])
        ends = (wanted, by_task) if climb is None else ("", "")  # a ladder's are solved over all rungs, below
        solved = solve(linear, answered.rows, seed, answered.rare_idf, *ends, task)
    if solved.by_task is not None:
        reporter.say(said_of(solved.by_task, by_task))
    if solved.policy.size < answered.kept.size:
        reporter.say(
            f"Policies are solved on {solved.policy.size} of {answered.kept.size} rows, mixed as the traffic is"
        )
    looked = look(solved)
    if looked is not None:
        solved = dataclasses.replace(solved, policies=looked.policies)
    climbing = None if climb is None else climb(solved, looked)
    if climbing is not None:
        solved = climbing.solved
    evaluation, differences = _evaluate(linear, answered, solved, seed, reporter)
    if looked is not None:
        evaluation = msgspec.structs.replace(evaluation, two_looks=looked.judged)
    if climbing is not None:
        evaluation = msgspec.structs.replace(evaluation, ladder=climbing.figures)
    with reporter.stage("Exporting and checking parity"):
        graph = export_router(solved.router, encoder)
        parity = _check_parity(graph, encoder, solved, answered, identity.harness_rules, seed)
    reporter.say(f"Parity of graph and Python path over {parity.n} prompts: {parity.max_difference:.1e}")
    manifest = build_manifest(identity, solved, evaluation, training, encoder, graph, differences)
    blocks = dense_blocks(answered.table.dense, answered.rows.group, seed)
    if climbing is not None:
        manifest = with_rungs(manifest, climbing.rungs, graph + climbing.graph)
    if looked is not None:
        manifest = msgspec.structs.replace(manifest, second_look=looked.described)
    checker = None if looked is None else looked.graph
    rungs = None if climbing is None else climbing.graph
    return Learned(manifest, evaluation, graph, seen, parity, blocks, checker, rungs)


def crossfitted(
    linear: LinearRouter, rows: LabelledLogOdds, rare_idf: np.float32 | None, threshold: float
) -> tuple[HeadLogOdds, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what the other folds' calibrators, exit bands and limits make of each row at a threshold.

    Returns:
        Calibrated log-odds of both heads, (n,) `p_match` of the cascade, whether the encoder ran, and what is out of
        distribution.
    """
    n = rows.match.size
    fast, full, p_match = np.empty((3, n))
    is_full, is_out = np.empty((2, n), dtype=bool)
    for others, held_out in _folds(rows):
        router, theirs = calibrate(linear, rows.take(others), rare_idf), rows.take(held_out)
        heads = calibrated(router, theirs.raw)
        answer = router.cascade(heads, threshold)
        fast[held_out], full[held_out] = heads.fast, heads.full
        p_match[held_out], is_full[held_out] = answer.p_match, answer.is_full
        is_out[held_out] = theirs.is_out_of_distribution(router)
    return HeadLogOdds(fast, full), p_match, is_full, is_out


def _folds(rows: LabelledLogOdds) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    if rows.fold is None:
        return list(GroupKFold(N_FOLDS).split(rows.match, groups=rows.group))
    return [(np.flatnonzero(rows.fold != one), np.flatnonzero(rows.fold == one)) for one in np.unique(rows.fold)]


def _evaluate(
    linear: LinearRouter, answered: AnsweredRows, solved: Solved, seed: int, reporter: Reporter
) -> tuple[Evaluation, dict[str, tuple[float, tuple[float, float] | None]]]:
    data, kept, rows = answered.data, answered.kept, answered.rows
    heads, p_match, is_full, is_out = crossfitted(linear, rows, answered.rare_idf, solved.default_threshold)
    p_raw = expit(rows.raw.full)
    calibration = data.outcomes(kept, p_match, is_full, p_raw, is_out, answered.table.structural)
    ranking = data.outcomes(kept, p_raw, is_full, is_out_of_distribution=is_out)
    band = solved.router.exit_band
    served = ServedRows.of(solved.policies, solved.default, lambda threshold: cascade(heads, threshold, band).p_match)
    with reporter.stage("Evaluating, each row answered without its group") as advance:
        judged = evaluate(
            calibration,
            n_seen=answered.n_seen,
            seed=seed,
            on_progress=lambda *_: advance(1),
            extra_baselines=answered.baselines,
            served=served,
        )
        ranked = evaluate(ranking, n_seen=answered.n_seen, seed=seed, on_progress=lambda *_: advance(1))
        differences = {}
        for name, said in answered.baselines.items():
            found = paired_difference(ranking, data.outcomes(kept, said, is_full), "auroc", seed=seed)
            if found.difference is not None:
                differences[DIFFERENCE + name] = found.difference, found.interval
    return with_ranking_of(judged, ranked), differences


def with_ranking_of(judged: Evaluation, ranked: Evaluation) -> Evaluation:
    """Return the calibration figures of the one and the ranking figures of the other.

    Five maps pooled rank rows of different folds by which map they got, and that one leans against the match rate
    of its fold: AUROC 0.46 where each map alone, and so the published bundle, has 0.54. The ranking is that of the
    full head's raw log-odds.
    """
    flat_names = [name for name in flat(ranked) if name.split(".")[0] in RANKING_FIGURES]
    return msgspec.structs.replace(
        judged,
        **{name: getattr(ranked, name) for name in RANKING_FIGURES},
        intervals=judged.intervals | {name: ranked.intervals[name] for name in flat_names},
        curves=msgspec.structs.replace(
            judged.curves,
            cost_quality=msgspec.structs.replace(
                ranked.curves.cost_quality, baselines=judged.curves.cost_quality.baselines
            ),
        ),
        slices=msgspec.structs.replace(
            judged.slices,
            **{
                name: _aurocs_of(getattr(judged.slices, name), getattr(ranked.slices, name))
                for name in ("task", "source", "stage", "language", "length", "turns")
            },
        ),
    )


def _aurocs_of(judged: list[Slice], ranked: list[Slice]) -> list[Slice]:
    by_name = {one.name: one for one in ranked}
    return [
        msgspec.structs.replace(
            one,
            auroc=by_name[one.name].auroc,
            intervals=one.intervals | {"auroc": by_name[one.name].intervals.get("auroc")},
        )
        for one in judged
    ]


def _check_parity(
    graph: bytes, encoder: EncoderModel, solved: Solved, answered: AnsweredRows, rules: int, seed: int
) -> Parity:
    """Compare graph and Python path on odd prompts, then on those of the rows; on made-up ones without prompts."""
    router: FittedRouter = solved.router
    threshold = solved.default_threshold

    def checked(some: list[Prompt], of_some: FeatureTable) -> Parity:
        return check_parity(graph, encoder, router, some, of_some, threshold, rules)

    def made_up(some: list[Prompt]) -> Parity:
        return checked(some, embed(some, encoder, cache_dir=None, harness_rules=rules))

    made_up([prompt_from_text(text) for text in GOLDEN_PROMPTS])
    if not answered.has_text:
        bodies = (encode(row["request"]) for row in make_sample(PARITY_ROWS, seed))
        return made_up([prompt_from_json(body) for body in bodies])
    n = answered.kept.size
    some = np.arange(n)[:: max(1, n // PARITY_ROWS)][:PARITY_ROWS]
    prompts = [answered.data.rows[answered.kept[place]].record.prompt for place in some]
    return made_up(prompts) if answered.is_rounded else checked(prompts, answered.table.take(some))
