"""Evaluate a published bundle on labelled rows, as it would be served: the graph, one prompt at a time.

Comes in: a bundle and labelled rows. Goes out: an `Evaluation` of those that it has not seen; of a ladder over all of
its rungs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.policy import Policy
from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.model import Prediction, RouterModel, Stage
from turnout.serving.router.prompt import Prompt
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.dataset.costs import CostsUnknown
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.ladder import LadderRead
from turnout.training.dataset.ladder_costs import ladder_check_usd, ladder_costs
from turnout.training.errors import DataRefused
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.evaluation.figures import flat
from turnout.training.evaluation.ladder import LadderFigures
from turnout.training.evaluation.threshold_table import ServedRows
from turnout.training.evaluation.two_looks import BothLooks
from turnout.training.fit.router import HeadLogOdds, cascade, largest_weak_threshold
from turnout.training.learn.ladder_figures import ladder_figures
from turnout.training.learn.looks_of_bundle import ask_second_look, judge_looks
from turnout.training.learn.predict import in_threads, seen_rows
from turnout.training.learn.rungs_between import RungBetween, labelled
from turnout.training.policy.ladder import LadderRows
from turnout.training.policy.ladder_path import nominal_usd
from turnout.training.policy.unread import testable
from turnout.training.progress import Reporter

NOWHERE = 1.0
"""A threshold so far from every `p_match` that the exit band around it holds none: the fast head answers alone."""


def evaluate_bundle(
    bundle: Bundle,
    data: Dataset | LadderRead,
    policy: Policy,
    *,
    early_exit: bool,
    include_seen: bool,
    seed: int,
    reporter: Reporter,
) -> Evaluation:
    """Evaluate a bundle on labelled rows, those of groups it was trained on left out and counted.

    Args:
        bundle: to evaluate.
        data: the rows; of a ladder labelled rung by rung, and then its two ends are judged as a pair, and under
            `ladder` all rungs.
        policy: at whose threshold the figures are taken; shares are of all policies.
        early_exit: let the fast head answer where it is sure, as served.
        include_seen: keep rows of groups that it was trained on.
        seed: of bootstraps and draws.
        reporter: shows the stages.

    Raises:
        DataRefused: no row is left.
    """
    if isinstance(data, LadderRead):
        found = _evaluate_ladder(bundle, data, policy, seed, reporter, early_exit=early_exit, include_seen=include_seen)
    else:
        seen = seen_rows(bundle, data)
        rows, n_seen = np.arange(seen.size) if include_seen else np.flatnonzero(~seen), int(seen.sum())
        found = _evaluated(bundle, data, rows, policy, n_seen, seed, reporter, early_exit=early_exit).evaluation
    return msgspec.structs.replace(found, bundle=bundle.manifest.bundle_id)


def _evaluate_ladder(
    bundle: Bundle,
    read: LadderRead,
    policy: Policy,
    seed: int,
    reporter: Reporter,
    *,
    early_exit: bool,
    include_seen: bool,
) -> Evaluation:
    seen = seen_rows(bundle, read)
    read = read if include_seen else read.take(np.flatnonzero(~seen))
    if not read.in_pair.size:
        names = [rung.name for rung in bundle.manifest.ladder]
        raise DataRefused(
            f"{int(seen.sum())} labelled rows are of groups that the bundle was trained on, and no other compares "
            f"{names[0]} with {names[-1]}; give logs that it has not seen"
        )
    every = np.arange(read.in_pair.size)
    done = _evaluated(bundle, read.pair, every, policy, int(seen.sum()), seed, reporter, early_exit=early_exit)
    with reporter.stage("Evaluating the rungs"):
        figures = _over_rungs(bundle, read, done, seed, reporter, early_exit=early_exit)
    first = msgspec.structs.replace(
        figures.rungs[0],
        figures=flat(done.evaluation),
        intervals={name: bounds for name, bounds in done.evaluation.intervals.items() if bounds is not None},
    )
    figures = msgspec.structs.replace(figures, rungs=[first, *figures.rungs[1:]])
    return msgspec.structs.replace(done.evaluation, ladder=figures)


@dataclass(frozen=True)
class _Done:
    """An evaluation of (m,) rows, what the first look said of them, and what both did; None without a second look."""

    evaluation: Evaluation
    heads: HeadLogOdds
    falls_back: Bools
    looks: BothLooks | None


def _evaluated(
    bundle: Bundle,
    data: Dataset,
    rows: Ints,
    policy: Policy,
    n_seen: int,
    seed: int,
    reporter: Reporter,
    *,
    early_exit: bool,
) -> _Done:
    prompts = [data.rows[row].record.prompt for row in rows]

    def answer(prompt: Prompt) -> _Answer:
        return _answer(bundle.model, prompt, policy.threshold, early_exit=early_exit)

    with reporter.stage("Predicting", len(prompts)) as advance:
        answers = list(in_threads(answer, prompts, advance))
    p_match = np.array([one.served.p_match for one in answers])
    is_full = np.array([one.served.stage == Stage.FULL for one in answers], dtype=bool)
    heads = HeadLogOdds(logit([one.fast for one in answers]), logit([one.full for one in answers]))
    band = _exit_band(bundle)
    served = ServedRows(
        policy.threshold,
        tuple(one.threshold for one in bundle.manifest.policies),
        lambda threshold: cascade(heads, threshold, band, early_exit=early_exit).p_match,
    )
    outcomes = data.outcomes(
        rows,
        p_match,
        is_full,
        is_out_of_distribution=np.array([one.served.is_out_of_distribution for one in answers], dtype=bool),
        structural=np.array([one.structural for one in answers]),
    )
    with reporter.stage("Evaluating") as advance:
        found = evaluate(outcomes, n_seen=n_seen, seed=seed, on_progress=lambda *_: advance(1), served=served)
    if bundle.checker is None:
        return _Done(found, heads, outcomes.falls_back, None)
    with reporter.stage("Asking and judging the second look"):
        looks = ask_second_look(bundle, data, rows, heads, outcomes.falls_back)
        judged = looks and judge_looks(looks, bundle, data, rows, policy.name, seed)
    if judged is None:
        reporter.say(
            "No figures of the second look: it vouches for too few answers of the weak model, or all of them match"
        )
    return _Done(msgspec.structs.replace(found, two_looks=judged), heads, outcomes.falls_back, looks)


def _exit_band(bundle: Bundle) -> ExitBand:
    return bundle.manifest.exit_band_by_threshold or ExitBand.constant(bundle.manifest.exit_band)


def _over_rungs(
    bundle: Bundle, read: LadderRead, done: _Done, seed: int, reporter: Reporter, *, early_exit: bool
) -> LadderFigures:
    """Return what the rungs' p are worth, and what the policies do, thresholds and p as they are served."""
    rungs = bundle.manifest.ladder
    names = [rung.name for rung in rungs]
    assert bundle.rung_heads is not None
    p_rungs = np.array([bundle.rung_heads.p_rungs(bundle.model.featurize(one.prompt)) for one in read.records])
    full = read.complete
    if not full.size:
        reporter.say(f"No row holds an outcome of each of {', '.join(names)}: nothing can be said of the policies")
    at = np.searchsorted(read.in_pair, full)  # all of them have rung 0's label
    costs = ladder_costs(read.requests, rungs)
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No costs: {costs.reason}")
    usd = nominal_usd(full.size, len(names)) if isinstance(costs, CostsUnknown) else costs[full]
    full_alone = done.heads.full[at]
    heads = HeadLogOdds(done.heads.fast[at] if early_exit else full_alone, full_alone)
    unlike = done.falls_back[at]
    first = expit(largest_weak_threshold(heads, _exit_band(bundle)))
    one = LadderRows(
        first,
        p_rungs[full],
        read.match[full],
        read.score[full],
        usd,
        read.group[full],
        not isinstance(costs, CostsUnknown),
        heads,
        _exit_band(bundle),
        is_unlike=unlike,
    )
    return ladder_figures(
        read,
        names,
        _told(read, p_rungs),
        one,
        _both_looks(bundle, read, done, one, at, seed),
        bundle.manifest.policies,
        seed,
    )


def _told(read: LadderRead, p_rungs: Floats) -> list[RungBetween]:
    """Return what was said of the rungs: none of the rows had a part in it, so that p is fair as it is."""
    told = []
    for rung in range(1, read.match.shape[1]):
        p, rows = p_rungs[:, rung - 1], labelled(read, rung)
        told.append(RungBetween(p, rows, p[rows], p[rows]))
    return told


def _both_looks(
    bundle: Bundle, read: LadderRead, done: _Done, one: LadderRows, at: Ints, seed: int
) -> LadderRows | None:
    """Return the rows with all labels as policies over two looks see them; None where there are no answers."""
    if done.looks is None or not at.size:
        return None
    has_answer = np.zeros(done.heads.fast.size, dtype=bool)
    has_answer[done.looks.answered] = True
    records = [read.pair.rows[row].record for row in at]
    check_usd = ladder_check_usd(records, bundle.manifest.pair, one.usd, is_priced=one.is_priced)
    two = replace(one, second=done.looks.rows.second[at], check_usd=check_usd)
    tests = testable(one.first, one.unlike, has_answer[at], np.arange(at.size), seed)
    return replace(two.take(tests.rows), is_unread=tests.is_unread) if tests.rows.size else None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the graph says of one prompt: as served, by each head alone, and the measures it read."""

    served: Prediction
    fast: float
    full: float
    structural: NDArray[np.float32]


def _answer(model: RouterModel, prompt: Prompt, threshold: float, *, early_exit: bool) -> _Answer:
    features = model.featurize(prompt)
    return _Answer(
        served=model.predict_features(features, threshold, early_exit=early_exit),
        fast=model.predict_features(features, NOWHERE).p_match,
        full=model.predict_features(features, NOWHERE, early_exit=False).p_match,
        structural=features.structural,
    )
