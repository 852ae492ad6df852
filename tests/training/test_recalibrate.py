"""Recalibration: a bundle whose traffic has drifted gets its probabilities right again, and nothing else changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from tests.log_builders import write_log
from tests.training.runs import N_BOOTSTRAPS, QUIET, TrainingRun, light_run
from turnout.serving.bundles.bundle import GRAPH, SEEN_GROUPS, TOKENIZER, Bundle, load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.prompt import prompt_from_json
from turnout.training.bundle.export import export_router
from turnout.training.bundle.reopen import reopen, reopen_rare_weight
from turnout.training.dataset.costs import RequestCosts
from turnout.training.dataset.dataset import load_dataset
from turnout.training.dataset.splits import key_digests
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.evaluation.evaluate import Evaluation
from turnout.training.fit.calibrators import fit_none
from turnout.training.fit.fit import FitSettings, LinearRouter, fit_router
from turnout.training.fit.router import FittedRouter, HeadLogOdds
from turnout.training.fit.unfamiliar import MAX_FLAGGED
from turnout.training.learn.flow import crossfitted
from turnout.training.learn.predict import DIGEST_BYTES, seen_rows
from turnout.training.learn.recalibrate import RecalibrateSettings, recalibrate
from turnout.training.learn.train import EVALUATION_JSON, Trained
from turnout.training.policy.solve import LabelledLogOdds, solve
from turnout.training.sample.sample import STRONG, WEAK, make_sample

N_NEW, N_FRESH = 600, 300
SPOILT = 0.4
"""Share of the matches that turn into failures of the weak model: the drift."""

SETTINGS = RecalibrateSettings(seed=5)


def drifted_rows(n: int, seed: int) -> list[dict]:
    rows, rng = make_sample(n, seed), random.Random(seed)
    for row in rows:
        if rng.random() < SPOILT:
            row["responses"][STRONG]["score"], row["responses"][WEAK]["score"] = 1.0, 0.0
    return rows


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def parent(training_run: TrainingRun) -> Bundle:
    return load_bundle(training_run.bundle)


@pytest.fixture(scope="module")
def new_log(training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a drifted log; 60 rows of the training log stand in it too."""
    known = [json.loads(line) for line in training_run.log.read_bytes().splitlines()[:60]]
    return write_log(tmp_path_factory.mktemp("drift") / "log.jsonl", [*known, *drifted_rows(N_NEW, seed=41)])


@pytest.fixture(scope="module")
def before(training_run: TrainingRun) -> dict[str, bytes]:
    return files_of(training_run.bundle)


@pytest.fixture(scope="module")
def recalibrated(
    before: dict[str, bytes],
    parent: Bundle,
    new_log: Path,
    encoder: EncoderModel,
    dense_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    assert before
    settings = replace(SETTINGS, cache_dir=dense_cache)
    with light_run(N_BOOTSTRAPS):
        return recalibrate(parent, [new_log], tmp_path_factory.mktemp("new") / "bundle", encoder, settings, QUIET)


@pytest.fixture(scope="module")
def fresh(parent: Bundle, recalibrated: Trained) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p_match of the parent and of the new bundle, full stage, and the match of drifted rows of another seed."""
    rows = drifted_rows(N_FRESH, seed=42)
    prompts = [prompt_from_json(msgspec.json.encode(row["request"])) for row in rows]
    said = [
        np.array([bundle.model.predict(prompt, 0.5, early_exit=False).p_match for prompt in prompts])
        for bundle in (parent, load_bundle(recalibrated.folder))
    ]
    match = [row["responses"][WEAK]["score"] >= row["responses"][STRONG]["score"] for row in rows]
    return said[0], said[1], np.array(match, dtype=float)


@pytest.mark.slow
def test_calibration_error_on_fresh_rows_falls(fresh: tuple[np.ndarray, np.ndarray, np.ndarray]):
    old, new, match = fresh
    assert old.mean() - match.mean() > 0.2
    assert abs(new.mean() - match.mean()) < 0.06
    loss_of_old, loss_of_new = (-(match * np.log(p) + (1 - match) * np.log1p(-p)).mean() for p in (old, new))
    assert loss_of_new < loss_of_old - 0.1


def test_limit_of_what_is_out_of_distribution_is_that_of_the_new_rows(parent: Bundle, recalibrated: Trained):
    old, new = parent.manifest.out_of_distribution, recalibrated.manifest.out_of_distribution
    assert new.rare_below == old.rare_below
    assert new.share_calibrate <= MAX_FLAGGED
    assert new.share_test == recalibrated.evaluation.share_out_of_distribution
    assert reopen_rare_weight(parent) == reopen_rare_weight(load_bundle(recalibrated.folder))
    shares = np.zeros(100, np.float32)
    shares[-10:] = 0.5
    n = np.arange(100)
    rows = LabelledLogOdds(HeadLogOdds(n / 50 - 1, n / 50 - 1), n % 2, np.ones(100), n % 2.0, n, shares)
    assert solve(reopen(parent), rows, 0, np.float32(9.0)).router.familiarity.limit == np.float32(0.5)
    assert solve(reopen(parent), replace(rows, rare_share=None), 0).router.familiarity is None


def test_ranking_is_that_of_the_parent(fresh: tuple[np.ndarray, np.ndarray, np.ndarray]):
    old, new, _ = fresh
    assert (np.diff(new[np.argsort(old)]) > -1e-6).all()
    assert np.unique(new).size > 0.9 * np.unique(old).size


def test_manifest_names_the_parent_and_what_is_new(parent: Bundle, recalibrated: Trained):
    old, new = parent.manifest, load_bundle(recalibrated.folder).manifest
    assert new == recalibrated.manifest
    assert new.parent == old.bundle_id != new.bundle_id
    assert (new.name, new.pair, new.encoder, new.synthetic) == (old.name, old.pair, old.encoder, True)
    assert new.training.settings == old.training.settings
    assert new.training.data_sha256 != old.training.data_sha256
    assert set(new.training.rows) == {"calibrate"}
    n_used = N_NEW + 60 - recalibrated.evaluation.n_seen_in_training
    assert sum(new.training.rows.values()) == recalibrated.evaluation.n == n_used
    assert new.training.labellers == {"scores": n_used}
    assert [policy.name for policy in new.policies if policy.kind == "max_worse"] == [
        policy.name for policy in old.policies if policy.kind == "max_worse"
    ]
    card = (recalibrated.folder / "card.md").read_text()
    assert f"Recalibrated from `{old.bundle_id}`" in card
    assert "cross-fitted" in card
    assert "cross-fitted" in (recalibrated.folder / "report" / "index.html").read_text()


@pytest.mark.slow
def test_cost_policies_are_solved_again_on_the_new_rows(parent: Bundle, recalibrated: Trained):
    """A caller who names a budget finds it in the new bundle: logs that hold usage have costs in both."""
    new, old = ({one.name: one for one in of.manifest.policies} for of in (recalibrated, parent))
    assert all(one.cost_usd_per_1k is not None for one in [*new.values(), *old.values()])
    budgets = [one for one in new.values() if one.kind == "max_cost_usd_per_1k"]
    assert len(budgets) == sum(one.kind == "max_cost_usd_per_1k" for one in old.values()) == 3
    assert all(one.cost_usd_per_1k <= one.target for one in budgets)


def test_old_bundle_is_untouched(before: dict[str, bytes], training_run: TrainingRun, recalibrated: Trained):
    assert recalibrated.folder != training_run.bundle
    assert files_of(training_run.bundle) == before


def test_figures_are_cross_fitted_and_stand_beside_the_parents(recalibrated: Trained):
    raw = (recalibrated.folder / EVALUATION_JSON).read_bytes()
    evaluation = msgspec.json.decode(raw, type=Evaluation)
    was = evaluation.baselines["parent"]
    assert evaluation.ece < 0.5 * was.ece
    assert evaluation.log_loss < was.log_loss
    assert evaluation.match_rate == pytest.approx((1 - SPOILT) * 0.87, abs=0.06)


def test_ranking_figures_are_those_of_the_raw_log_odds_and_not_of_five_maps_pooled(
    recalibrated: Trained, parent: Bundle, linear: LinearRouter, new_log: Path, encoder: EncoderModel, dense_cache: Path
):
    data = load_dataset([new_log], Pair(), None, 0.0, QUIET).dataset
    kept = np.flatnonzero(~seen_rows(parent, data))
    table = embed([data.rows[row].record.prompt for row in kept], encoder, cache_dir=dense_cache)
    expected = roc_auc_score(data.match[kept], linear.log_odds(table)[1])
    assert recalibrated.evaluation.auroc == pytest.approx(expected, abs=1e-9)
    low, high = recalibrated.evaluation.intervals["auroc"]
    assert low < expected < high
    assert recalibrated.manifest.metrics["auroc"] == recalibrated.evaluation.auroc


def test_rows_of_the_parents_training_are_left_out_and_counted(
    recalibrated: Trained, parent: Bundle, training_run: TrainingRun, new_log: Path
):
    first = load_dataset([training_run.log], Pair(), None, 0.0, QUIET).dataset
    known = {record.id for record, seen in zip(first.records, seen_rows(parent, first), strict=True) if seen}
    data = load_dataset([new_log], Pair(), None, 0.0, QUIET).dataset
    ids = [record.id for record in data.records]
    assert recalibrated.evaluation.n_seen_in_training == sum(one in known for one in ids) > 30


def test_new_bundle_has_seen_what_its_parent_saw_and_the_new_rows(recalibrated: Trained, parent: Bundle, new_log: Path):
    old, new = ((folder / SEEN_GROUPS).read_bytes() for folder in (parent.folder, recalibrated.folder))
    digests = [{raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), DIGEST_BYTES)} for raw in (old, new)]
    assert digests[0] < digests[1]
    data = load_dataset([new_log], Pair(), None, 0.0, QUIET).dataset
    assert seen_rows(load_bundle(recalibrated.folder), data).sum() >= N_NEW


def test_figures_of_a_fold_rest_on_calibrators_that_never_saw_it(linear: LinearRouter):
    rows = drawn_rows(400)
    rows = replace(rows, fold=rows.group % 5)
    flipped = np.where(rows.fold == 2, 1 - rows.match, rows.match)
    before, after = (crossfitted(linear, one, None, 0.8) for one in (rows, replace(rows, match=flipped)))
    own = rows.fold == 2
    assert np.array_equal(before[0].full[own], after[0].full[own])
    assert np.array_equal(before[1][own], after[1][own])
    assert not np.allclose(before[0].full[~own], after[0].full[~own])


def test_policies_of_unevenly_explored_rows_are_solved_on_the_mix_of_the_traffic(linear: LinearRouter):
    rows = drawn_rows(400)
    propensity = np.where(rows.raw.full > 1, 0.2, 1.0)
    even, uneven = (solve(linear, replace(rows, pair_propensity=one), seed=1) for one in (None, propensity))
    assert even.router.full_calibrator == uneven.router.full_calibrator
    sure = [float((propensity[one.policy] < 1).mean()) for one in (even, uneven)]
    assert set(uneven.policy) < set(even.policy)
    assert sure[0] < 0.6 < sure[1]


def drawn_rows(n: int) -> LabelledLogOdds:
    rng = np.random.default_rng(3)
    full = rng.normal(1, 1.5, n)
    match = (rng.random(n) < expit(full - 1)).astype(np.int64)
    raw = HeadLogOdds(full + rng.normal(0, 0.3, n), full)
    return LabelledLogOdds(raw, match, np.ones(n), match.astype(float), np.arange(n) // 2)


def test_half_without_any_known_cost_has_no_cost_policies(linear: LinearRouter):
    rows = drawn_rows(400)
    nothing = np.full(400, np.nan)
    unknown = solve(linear, replace(rows, costs=RequestCosts(nothing, nothing)), seed=1)
    known = solve(linear, replace(rows, costs=RequestCosts(np.full(400, 2.0), np.full(400, 0.1))), seed=1)
    assert {one.cost_usd_per_1k for one in unknown.policies} == {None}
    assert [one.name for one in unknown.policies] == [one.name for one in solve(linear, rows, seed=1).policies]
    assert {one.kind for one in known.policies} - {one.kind for one in unknown.policies} == {"max_cost_usd_per_1k"}


@pytest.fixture(scope="module")
def linear(parent: Bundle) -> LinearRouter:
    return reopen(parent)


def test_reopened_regression_gives_the_served_probabilities(
    parent: Bundle, recalibrated: Trained, encoder: EncoderModel, linear: LinearRouter
):
    """The parent's and the new bundle's answers, taken back through their own maps, are one set of raw log-odds."""
    prompts = [prompt_from_json(msgspec.json.encode(row["request"])) for row in make_sample(40, seed=8)]
    _, raw = linear.log_odds(embed(prompts, encoder, cache_dir=None))
    for bundle in (parent, load_bundle(recalibrated.folder)):
        said = logit([bundle.model.predict(prompt, 0.5, early_exit=False).p_match for prompt in prompts])
        assert (np.diff(said[np.argsort(raw)]) > -1e-4).all()
        if bundle.manifest.calibrator not in {"none", "temperature", "platt"}:
            assert bundle is not parent  # whose map is a line: that one at least is held to it
            continue
        slope, intercept = np.polyfit(raw, said, 1)
        assert said == pytest.approx(slope * raw + intercept, abs=1e-4)


@pytest.mark.parametrize("form", ["binary", "four_outcomes"])
def test_exported_and_reopened_regression_gives_the_same_log_odds(
    parent: Bundle, encoder: EncoderModel, tmp_path: Path, form: str
):
    prompts = [prompt_from_json(msgspec.json.encode(row["request"])) for row in make_sample(120, seed=9)]
    table = embed(prompts, encoder, cache_dir=None)
    outcome = np.random.default_rng(0).integers(0, 2 if form == "binary" else 4, len(prompts))
    fitted = fit_router(table, outcome, FitSettings(form=form, dense_scale=0.3))
    none = fit_none(np.empty(0), np.empty(0))
    (tmp_path / GRAPH).write_bytes(export_router(FittedRouter(fitted, none, none, ExitBand.constant(0.1)), encoder))
    again = reopen(replace(parent, folder=tmp_path))
    for got, expected in zip(again.log_odds(table), fitted.log_odds(table), strict=True):
        assert np.abs(got - expected).max() < 1e-6
    assert np.array_equal(again.full.matches, fitted.full.matches)


def with_other_weights(encoder: EncoderModel) -> EncoderModel:
    return replace(encoder, card=msgspec.structs.replace(encoder.card, sha256="0" * 64))


def with_other_tokenizer(encoder: EncoderModel) -> EncoderModel:
    return replace(encoder, tokenizer_json=encoder.tokenizer_json + b"\n")


@pytest.mark.parametrize(("change", "what"), [(with_other_weights, "encoder"), (with_other_tokenizer, "tokenizer")])
def test_another_encoder_is_refused(
    parent: Bundle,
    new_log: Path,
    encoder: EncoderModel,
    tmp_path: Path,
    change: Callable[[EncoderModel], EncoderModel],
    what: str,
):
    with pytest.raises(DataRefused, match=f"{what} SHA-256"):
        recalibrate(parent, [new_log], tmp_path / "bundle", change(encoder), SETTINGS, QUIET)
    assert not (tmp_path / "bundle").exists()


def test_too_few_groups_or_failures_are_refused_with_what_is_needed(
    parent: Bundle, training_run: TrainingRun, encoder: EncoderModel, tmp_path: Path
):
    few = write_log(tmp_path / "few.jsonl", drifted_rows(80, seed=43))
    rows = make_sample(200, seed=44)
    for row in rows:
        row["responses"][WEAK]["score"] = 1.0
    flawless = write_log(tmp_path / "flawless.jsonl", rows)
    for log, says in (
        (few, "at least 100 groups"),
        (flawless, "0 with a worse weak answer"),
        (training_run.log, "rows were seen in its training"),
    ):
        known = parent if log != training_run.log else parent_that_saw_all(parent, tmp_path, log)
        with pytest.raises(DataRefused, match=says):
            recalibrate(known, [log], tmp_path / "bundle", encoder, SETTINGS, QUIET)
    assert not (tmp_path / "bundle").exists()


def parent_that_saw_all(parent: Bundle, tmp_path: Path, log: Path) -> Bundle:
    data = load_dataset([log], Pair(), None, 0.0, QUIET).dataset
    folder = tmp_path / "saw_all"
    folder.mkdir()
    for name in (GRAPH, TOKENIZER):
        (folder / name).write_bytes((parent.folder / name).read_bytes())
    digests = key_digests(data.groups.keys, parent.manifest.training.group_salt)
    (folder / SEEN_GROUPS).write_bytes(b"".join(digests))
    return replace(parent, folder=folder)


def test_bundle_is_not_written_over_itself(parent: Bundle, new_log: Path, encoder: EncoderModel):
    with pytest.raises(DataRefused, match="name another folder"):
        recalibrate(parent, [new_log], parent.folder, encoder, SETTINGS, QUIET)


def test_graph_that_training_did_not_write_is_refused(
    bundle: Bundle, new_log: Path, encoder: EncoderModel, tmp_path: Path
):
    with pytest.raises(DataRefused, match="no constant"):
        recalibrate(bundle, [new_log], tmp_path / "bundle", encoder, SETTINGS, QUIET)
