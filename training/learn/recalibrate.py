"""Recalibrate: a bundle and a few hundred new labelled rows in, a new bundle with the same regression and encoder out.

    bundle, logs -> reopen -> labels -> groups -> leave seen rows out -> embed -> halves -> calibrate -> policy
    -> export -> publish

For traffic whose match rate has moved while what is hard has not: the ranking stays. The probabilities, the
thresholds and the limit of what is out of distribution are fitted again, since the new rows are what is to be served.
Half of the groups calibrate, the other half solve the policies.

No rows are left for a test part: three parts of 300 rows would be too small for any of the three. The
calibration figures are cross-fitted instead: five times over, the whole procedure (halves, calibrators, exit band,
policies) runs on four fifths of the groups and is judged on the fifth that it never saw. They are those of
the procedure on four fifths of the rows, not of the very calibrators that are published. Ranking figures are
those of the raw log-odds, which no new label touches and every calibrator keeps in order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from turnout.serving.bundles.bundle import FORMAT_VERSION, SEEN_GROUPS, Bundle, Manifest, Policy, Training, load_bundle
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.bundle.export import check_parity, export_router
from turnout.training.bundle.golden import GOLDEN_PROMPTS, GOLDEN_TOLERANCE
from turnout.training.bundle.publish import check_out
from turnout.training.bundle.reopen import check_encoder, reopen, reopen_rare_weight
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset, digest_files, load_dataset
from turnout.training.dataset.splits import key_digests
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.evaluation.dense_blocks import dense_blocks
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import Evaluation, Slice, flat
from turnout.training.evaluation.threshold_table import Served
from turnout.training.fit.calibrate import N_FOLDS, exit_band, fit_calibrator
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import LinearRouter
from turnout.training.fit.router import HeadLogOdds, Router
from turnout.training.fit.unfamiliar import Familiarity, rare_share
from turnout.training.learn.learn import LIBRARIES, PARITY_ROWS, describe_familiarity
from turnout.training.learn.predict import DIGEST_BYTES, seen_rows
from turnout.training.learn.train import Trained, publish_trained
from turnout.training.logs.quarantine import write_quarantine
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.policy.policy import DEFAULT_POLICY, PolicyRows, as_in_traffic, solve_policies
from turnout.training.progress import Reporter

MIN_GROUPS = 100
MIN_NON_MATCHES = 10
"""Fewer leave each half with five cases of what costs quality: the rate that is to be put right is then unknown."""


RANKING_FIGURES = ("auroc", "auroc_within_source", "apgr", "cpt50", "cpt80", "quality_at_share", "share_at_quality")


@dataclass(frozen=True)
class RecalibrateSettings:
    """What the operator chooses.

    Attributes:
        seed: of the halves, the draws and the bootstraps.
        reading: how the logs are to be read.
        cache_dir: folder of the dense cache; None for none.
    """

    seed: int = 0
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None


@dataclass(frozen=True)
class LabelledLogOdds:
    """New rows as the parent's regression sees them: raw log-odds of both heads, outcomes and groups, (n,) each.

    Attributes:
        rare_share: (n,) float32 of `training.fit.unfamiliar`; None where the parent calls nothing out of distribution.
        costs: of the requests at either model; None where they are unknown.
        pair_propensity: (n,) as in `Dataset`; None where all are alike.
    """

    raw: HeadLogOdds
    match: NDArray[np.int64]
    strong_score: NDArray[np.float64]
    weak_score: NDArray[np.float64]
    group: NDArray[np.int64]
    rare_share: NDArray[np.float32] | None = None
    costs: RequestCosts | None = None
    pair_propensity: NDArray[np.float64] | None = None

    def is_out_of_distribution(self, router: Router) -> NDArray[np.bool_]:
        """Return (n,) what a router calls so."""
        if router.familiarity is None or self.rare_share is None:
            return np.zeros(self.match.size, dtype=bool)
        return self.rare_share > router.familiarity.limit

    def take(self, rows: NDArray[np.int64]) -> LabelledLogOdds:
        """Return those rows only."""
        return LabelledLogOdds(
            HeadLogOdds(self.raw.fast[rows], self.raw.full[rows]),
            self.match[rows],
            self.strong_score[rows],
            self.weak_score[rows],
            self.group[rows],
            None if self.rare_share is None else self.rare_share[rows],
            self.costs and self.costs.take(rows),
            None if self.pair_propensity is None else self.pair_propensity[rows],
        )


@dataclass(frozen=True)
class FreshRows:
    """The new rows: (n,) their numbers in the dataset, what the regression says of them, and their measures."""

    data: Dataset
    kept: NDArray[np.int64]
    rows: LabelledLogOdds
    structural: NDArray[np.float32]


@dataclass(frozen=True)
class Solved:
    """A router calibrated on one half of the groups, its policies from the other; (m,) row numbers of each."""

    router: Router
    policies: list[Policy]
    calibrate: NDArray[np.int64]
    policy: NDArray[np.int64]

    @property
    def default_threshold(self) -> float:
        """The threshold at which the figures are taken."""
        return next(policy.threshold for policy in self.policies if policy.name == DEFAULT_POLICY)


def recalibrate(
    parent: Bundle,
    paths: Sequence[LogFile],
    out: Path,
    encoder: EncoderModel,
    settings: RecalibrateSettings,
    reporter: Reporter,
) -> Trained:
    """Calibrate a bundle again on new logs and publish the result in `out`; the parent stays as it is.

    The labels use the parent's margin: `p_match` keeps its meaning.

    Raises:
        DataRefused: the logs can't be read or hold too little that the parent has not seen, the encoder is
            another one, `out` is the parent or holds something else, or the graph misses the Python path.
    """
    check_out(out)
    if out.resolve() == parent.folder.resolve():
        raise DataRefused(f"{out}: is the bundle to recalibrate; name another folder, so that it can be gone back to")
    linear, rare_idf = reopen(parent), reopen_rare_weight(parent)
    check_encoder(parent, encoder)
    margin = float(parent.manifest.training.settings.get("margin", 0.0))
    rules = parent.manifest.harness_rules
    loaded = load_dataset(paths, parent.manifest.pair, settings.reading, margin, reporter, rules)
    data, seen = loaded.dataset, seen_rows(parent, loaded.dataset)
    kept = np.flatnonzero(~seen)
    _refuse_too_little(data, kept)
    prompts = [data.rows[row].record.prompt for row in kept]
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        table = embed(prompts, encoder, cache_dir=settings.cache_dir, harness_rules=rules, on_progress=advance)

    costs = request_costs([data.rows[row].record for row in kept], parent.manifest.pair)
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No cost policies: {costs.reason}")
    rows = LabelledLogOdds(
        HeadLogOdds(*linear.log_odds(table)),
        data.match[kept],
        data.strong_score[kept],
        data.weak_score[kept],
        data.groups.group[kept],
        None if rare_idf is None else rare_share(linear.scaler, rare_idf, table),
        costs if isinstance(costs, RequestCosts) else None,
        data.pair_propensity[kept],
    )
    with reporter.stage("Calibrating and solving policies"):
        solved = solve(linear, rows, settings.seed, rare_idf)
    fresh = FreshRows(data, kept, rows, table.structural)
    evaluation = _evaluate(parent, linear, fresh, solved.policies, settings.seed, rare_idf, reporter)

    with reporter.stage("Exporting and checking parity"):
        graph = export_router(solved.router, encoder)
        some = np.arange(kept.size)[:: max(1, kept.size // PARITY_ROWS)][:PARITY_ROWS]
        threshold = solved.default_threshold
        check_parity(graph, encoder, solved.router, [prompts[row] for row in some], table.take(some), threshold, rules)
        odd = [prompt_from_text(text) for text in GOLDEN_PROMPTS]
        of_odd = embed(odd, encoder, cache_dir=None, harness_rules=rules)
        check_parity(graph, encoder, solved.router, odd, of_odd, threshold, rules)

    labellers = dict(Counter(data.rows[row].label.labeller for row in kept))
    stored = [settings.reading.labels] if settings.reading.labels else []
    training = _training(parent, digest_files([*paths, *stored]), labellers, rows, solved, settings.seed)
    manifest = _manifest(parent.manifest, graph, solved, evaluation, training)
    manifest = msgspec.structs.replace(manifest, out_of_distribution=describe_familiarity(solved.router, evaluation))
    if any(data.rows[row].record.source == "synthetic" for row in kept):
        manifest = msgspec.structs.replace(manifest, synthetic=True)
    blocks = dense_blocks(table.dense, rows.group, settings.seed)
    published = publish_trained(out, manifest, evaluation, encoder, graph, _seen(parent, data, kept), blocks)
    load_bundle(out)  # what was written is what will be served
    if loaded.read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", loaded.read.quarantine)
    unlabelled = {str(why): count for why, count in loaded.labelled.unlabelled.items()}
    return Trained(published, evaluation, out, len(loaded.read.quarantine), unlabelled)


def solve(linear: LinearRouter, rows: LabelledLogOdds, seed: int, rare_idf: np.float32 | None = None) -> Solved:
    """Calibrate on a random half of the groups and solve the policies on the other.

    Args:
        linear: the parent's regression.
        rows: with rare shares where `rare_idf` is given.
        seed: of the halves and the draws.
        rare_idf: the weight from which the parent's n-grams are rare; None where it calls nothing out of distribution.
    """
    groups = np.unique(rows.group)
    drawn = np.random.default_rng(seed).permutation(groups)[: groups.size // 2]
    is_policy = np.isin(rows.group, drawn)
    calibrate, policy = np.flatnonzero(~is_policy), np.flatnonzero(is_policy)
    if rows.pair_propensity is not None:
        policy = as_in_traffic(policy, rows.pair_propensity, seed)
    ours, theirs = rows.take(calibrate), rows.take(policy)
    fast = fit_platt(ours.raw.fast, ours.match)
    full = fit_calibrator(ours.raw.full, ours.match, ours.group)
    familiarity = None
    if rare_idf is not None and ours.rare_share is not None:
        familiarity = Familiarity.fitted(rare_idf, ours.rare_share)
    router = Router(linear, fast, full, exit_band(fast(ours.raw.fast), full(ours.raw.full)), familiarity)
    policy_rows = PolicyRows(
        heads=calibrated(router, theirs.raw),
        match=theirs.match,
        strong_score=theirs.strong_score,
        weak_score=theirs.weak_score,
        group=theirs.group,
        costs=theirs.costs,
        is_out_of_distribution=theirs.is_out_of_distribution(router),
    )
    return Solved(router, solve_policies(router, policy_rows, seed), calibrate, policy)


def calibrated(router: Router, raw: HeadLogOdds) -> HeadLogOdds:
    """Return the calibrated log-odds of raw ones."""
    return HeadLogOdds(router.fast_calibrator(raw.fast), router.full_calibrator(raw.full))


def _refuse_too_little(data: Dataset, kept: NDArray[np.int64]) -> None:
    n_groups, n_non_matches = np.unique(data.groups.group[kept]).size, int((data.match[kept] == 0).sum())
    if n_groups < MIN_GROUPS or n_non_matches < MIN_NON_MATCHES:
        raise DataRefused(
            f"{kept.size} labelled rows in {n_groups} groups that the bundle has not seen, {n_non_matches} with a "
            f"worse weak answer ({len(data.rows) - kept.size} rows were seen in its training and left out); "
            f"recalibration needs at least {MIN_GROUPS} groups and {MIN_NON_MATCHES} such rows"
        )


def _evaluate(
    parent: Bundle,
    linear: LinearRouter,
    fresh: FreshRows,
    policies: Sequence[Policy],
    seed: int,
    rare_idf: np.float32 | None,
    reporter: Reporter,
) -> Evaluation:
    """Figures of the procedure, cross-fitted, beside those of the parent as served on the same rows."""
    data, kept, rows = fresh.data, fresh.kept, fresh.rows
    p_match, is_full, is_out = np.empty(kept.size), *np.empty((2, kept.size), dtype=bool)
    for others, held_out in GroupKFold(N_FOLDS).split(rows.match, groups=rows.group):
        solved, theirs = solve(linear, rows.take(others), seed, rare_idf), rows.take(held_out)
        answered = solved.router.cascade(calibrated(solved.router, theirs.raw), solved.default_threshold)
        p_match[held_out], is_full[held_out] = answered.p_match, answered.is_full
        is_out[held_out] = theirs.is_out_of_distribution(solved.router)
    threshold = parent.manifest.policy("").threshold
    with reporter.stage("Asking the parent", kept.size) as advance:
        said_before = np.empty(kept.size)
        for place, row in enumerate(kept):
            said_before[place] = parent.model.predict(data.rows[row].record.prompt, threshold).p_match
            advance(1)
    p_raw = expit(rows.raw.full)
    calibration = data.outcomes(kept, p_match, is_full, p_raw, is_out, fresh.structural)
    ranking = data.outcomes(kept, p_raw, is_full, is_out_of_distribution=is_out)
    served = Served.of(policies, DEFAULT_POLICY, lambda _: p_match)  # each fold had an exit band of its own
    n_seen = len(data.rows) - kept.size
    with reporter.stage("Evaluating, cross-fitted") as advance:
        judged = evaluate(
            calibration,
            n_seen=n_seen,
            seed=seed,
            on_progress=lambda *_: advance(1),
            extra_baselines={"parent": said_before},
            served=served,
        )
        ranked = evaluate(ranking, n_seen=n_seen, seed=seed, on_progress=lambda *_: advance(1))
    return with_ranking_of(judged, ranked)


def with_ranking_of(judged: Evaluation, ranked: Evaluation) -> Evaluation:
    """Return the calibration figures of the one and the ranking figures of the other.

    Five maps pooled rank rows of different folds by which map they got, and that one leans against the match rate
    of its fold: AUROC 0.46 where each map alone, and so the published bundle, has the parent's 0.54. The ranking
    is that of the full head's raw log-odds, which no new label has touched.
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


def _manifest(parent: Manifest, graph: bytes, solved: Solved, evaluation: Evaluation, training: Training) -> Manifest:
    created = datetime.now(UTC)
    return msgspec.structs.replace(
        parent,
        format_version=FORMAT_VERSION,
        version=f"{created:%Y%m%d}-{hashlib.sha256(graph).hexdigest()[:8]}",
        created=created.isoformat(timespec="seconds"),
        calibrator=solved.router.full_calibrator.kind,
        exit_band=solved.router.exit_band.widest,
        exit_band_by_threshold=solved.router.exit_band,
        golden_tolerance=GOLDEN_TOLERANCE,
        default_policy=DEFAULT_POLICY,
        policies=solved.policies,  # solved anew, for one look: the second look was calibrated on other traffic
        metrics={"n": float(evaluation.n), "match_rate": evaluation.match_rate, **flat(evaluation)},
        intervals={name: bounds for name, bounds in evaluation.intervals.items() if bounds is not None},
        training=training,
        files={},
        parent=parent.bundle_id,
        verdict=None,
        second_look=None,
    )


def _training(
    parent: Bundle, digest: str, labellers: dict[str, int], rows: LabelledLogOdds, solved: Solved, seed: int
) -> Training:
    """Say what the calibrators and policies rest on; the rows of the regression stand in the parent's manifest."""
    parts = {"calibrate": solved.calibrate, "policy": solved.policy}
    return msgspec.structs.replace(
        parent.manifest.training,
        data_sha256=digest,
        rows={name: int(part.size) for name, part in parts.items()},
        groups={name: int(np.unique(rows.group[part]).size) for name, part in parts.items()},
        seed=seed,
        match_rate=float(rows.match.mean()),
        labellers=labellers,
        libraries={library: version(library) for library in LIBRARIES},
    )


def _seen(parent: Bundle, data: Dataset, kept: NDArray[np.int64]) -> bytes:
    """Digests of the groups that the parent has seen and of these, under the parent's salt."""
    raw = (parent.folder / SEEN_GROUPS).read_bytes()
    known = {raw[start : start + DIGEST_BYTES] for start in range(0, len(raw), DIGEST_BYTES)}
    fresh = key_digests((data.groups.keys[row] for row in kept), parent.manifest.training.group_salt)
    return b"".join(sorted(known | fresh))
