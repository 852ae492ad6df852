"""A ladder is trained, published and read again: graph and Python say the same, and a pair is as it was before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.training.ladders import (
    NAMES,
    ROWS,
    SETTINGS,
    TOP,
    LadderRun,
    three_model_rows,
    without,
    write_wide,
)
from tests.training.runs import QUIET, fewer_candidates, light_run
from turnout.serving.bundles.bundle import CARD, GRAPH, RUNGS
from turnout.serving.bundles.manifest import LADDER_FORMAT_VERSION, Pair
from turnout.serving.bundles.policy import NEVER
from turnout.serving.decision.routes import Route
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.bundle.rungs import check_rungs, export_rungs
from turnout.training.dataset.ladder import load_ladder
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.fit import FitSettings
from turnout.training.fit.rungs import RungFit, answer_rung, fit_rungs
from turnout.training.learn.predict import predict_rows, write_predictions
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record
from turnout.training.sample.sample import STRONG, WEAK


@pytest.fixture(scope="module")
def run(ladder_run: LadderRun) -> LadderRun:
    return ladder_run


def test_the_bundle_names_its_rungs_and_what_each_is_worth(run: LadderRun):
    manifest = run.manifest
    assert manifest.format_version == LADDER_FORMAT_VERSION
    assert manifest.pair == Pair(strong=TOP, weak=WEAK)
    first, between, top = manifest.ladder
    assert (first.name, between.name, top.name) == NAMES
    assert first.rows == ROWS
    assert 0.85 * ROWS < between.rows < 0.95 * ROWS
    assert top.rows == between.rows
    assert first.match_rate < between.match_rate < top.match_rate == 1.0
    assert between.metrics["auroc"] > 0.6
    assert between.metrics["ece"] < between.metrics["ece_floor"] + 0.03
    assert between.intervals["auroc"][0] < between.metrics["auroc"] < between.intervals["auroc"][1]
    assert first.metrics["auroc"] == manifest.metrics["auroc"]


def test_every_policy_says_what_the_rungs_between_need(run: LadderRun):
    manifest = run.manifest
    assert all(len(policy.t_rungs) == 1 for policy in manifest.policies)
    promised = next(policy for policy in manifest.policies if policy.name == "max_worse=0.05")
    assert promised.is_met
    assert promised.t_rungs[0] < NEVER
    assert promised.share_worse <= promised.share_worse_bound <= 0.05
    assert promised.checked is not None
    assert len(promised.checked.t_rungs) == 1
    assert manifest.policy("max_worse=0.0605").t_rungs[0] < NEVER
    assert manifest.default_policy in {policy.name for policy in manifest.policies}
    assert any(policy.kind == "max_worse_of_weak" for policy in manifest.policies)


def test_shares_of_the_rungs_stand_in_the_evaluation_and_the_card(run: LadderRun):
    ladder = run.evaluation.ladder
    assert ladder.n == run.manifest.ladder[-1].rows
    by_policy = {(one.policy, one.looks): one for one in ladder.policies}
    for one in ladder.policies:
        assert sum(one.shares) == pytest.approx(1.0)
    assert by_policy["threshold=0", 1].shares[0] > 0.9
    promised = by_policy["max_worse=0.05", 1]
    assert promised.shares[1] > 0.02
    assert promised.shares[0] > 0.02
    assert ("max_worse=0.05", 2) in by_policy
    page = (run.bundle.folder / "report" / "index.html").read_text()
    assert '<section id="ladder">' in page
    card = (run.bundle.folder / CARD).read_text()
    assert "## Ladder" in card
    assert f"| {STRONG} |" in card


def test_the_rungs_cost_less_than_a_mebibyte_each(run: LadderRun):
    assert run.manifest.files[RUNGS].size < 1 << 20


def test_the_served_heads_say_what_the_python_path_says(run: LadderRun, encoder: EncoderModel, dense_cache: Path):
    read = load_ladder([run.log], NAMES, Reading(), 0.0, SETTINGS.harness_rules, QUIET)
    table = embed(
        [record.prompt for record in read.records], encoder, cache_dir=dense_cache, harness_rules=SETTINGS.harness_rules
    )
    fit = fitted(read.match, read.group, table, read.weight)
    graph = export_rungs(fit)
    prompts = [record.prompt for record in read.records[:100]]
    assert check_rungs(graph, fit, run.bundle.model.featurize, prompts, table.take(np.arange(100))) < 5e-6
    odd = [prompt_from_text(text) for text in ("", "?", "word " * 3000, "日本語", "\x00\ud800")]
    odd_table = embed(odd, encoder, cache_dir=None, harness_rules=SETTINGS.harness_rules)
    assert check_rungs(graph, fit, run.bundle.model.featurize, odd, odd_table) < 5e-6
    shifted = dataclasses.replace(
        fit, calibrators=tuple(dataclasses.replace(line, intercept=line.intercept + 0.1) for line in fit.calibrators)
    )
    with pytest.raises(DataRefused, match=RUNGS):
        check_rungs(graph, shifted, run.bundle.model.featurize, prompts, table.take(np.arange(100)))


def fitted(match: np.ndarray, group: np.ndarray, table: object, weight: np.ndarray) -> RungFit:
    """Fit two rungs between, of which the second is the first's labels the other way round."""
    settings = FitSettings()
    match = np.column_stack((match[:, 1], 1 - match[:, 1]))
    rows = np.flatnonzero(match[:, 0] <= 1)
    rows = rows[match[rows, 0] >= 0]
    answers = [answer_rung(table, match[:, at], group, rows, weight, settings) for at in range(2)]
    fit = fit_rungs(table, match, weight, answers, settings)
    up, down = fit.p(table).T
    assert np.corrcoef(up, down)[0, 1] < -0.95
    return fit


def test_what_a_row_is_told_comes_from_fits_without_its_group(encoder: EncoderModel, dense_cache: Path, tmp_path: Path):
    rows = three_model_rows(400, 8)
    read = load_ladder([write_wide(tmp_path / "log.jsonl", rows)], NAMES, Reading(), 0.0, 0, QUIET)
    table = embed([record.prompt for record in read.records], encoder, cache_dir=dense_cache)
    every, settings = np.arange(read.group.size), FitSettings()
    told = answer_rung(table, read.match[:, 1], read.group, every, read.weight, settings)
    for group in np.unique(read.group):
        assert np.unique(told.fold[read.group == group]).size == 1
    held = np.flatnonzero(told.fold == 0)
    lied = read.match[:, 1].copy()
    lied[held] = 1 - lied[held]
    # the held-out rows' own labels choose nothing of what they are told, but for C, which is held to one value here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnout.training.fit.rungs.C_GRID", (1.0,))
        honest, lying = (
            answer_rung(table, labels, read.group, every, read.weight, settings).raw
            for labels in (read.match[:, 1], lied)
        )
    assert np.array_equal(honest[held], lying[held])
    assert not np.array_equal(honest, lying)


def test_too_few_rows_with_every_rung_are_refused_with_what_to_log(
    encoder: EncoderModel, dense_cache: Path, tmp_path: Path
):
    rows = three_model_rows(700, 9)
    halves = [*without(rows[:350], STRONG, 1.0, 0), *without(rows[350:], WEAK, 1.0, 0)]
    log = write_wide(tmp_path / "log.jsonl", halves)
    with pytest.raises(DataRefused, match="outcome of every rung"):
        train([log], tmp_path / "bundle", encoder, dataclasses.replace(SETTINGS, cache_dir=dense_cache), QUIET)


@pytest.mark.slow
def test_a_ladder_of_two_is_the_pair_to_the_byte(encoder: EncoderModel, dense_cache: Path, tmp_path: Path):
    log = write_wide(tmp_path / "log.jsonl", without(three_model_rows(700, 10), TOP, 1.0, 0))
    pair = TrainSettings(pair=Pair(strong=STRONG, weak=WEAK), seed=1, cache_dir=dense_cache, fit=FitSettings())
    graphs, policies = [], []
    with light_run(), fewer_candidates():
        for number, settings in enumerate((pair, dataclasses.replace(pair, models=(WEAK, STRONG)))):
            trained = train([log], tmp_path / str(number), encoder, settings, QUIET)
            graphs.append((trained.folder / GRAPH).read_bytes())
            policies.append((trained.manifest.policies, trained.manifest.risk, trained.manifest.format_version))
            assert b"rungs" not in msgspec.json.encode(trained.manifest)
            assert not (trained.folder / RUNGS).exists()
    assert graphs[0] == graphs[1]
    assert policies[0] == policies[1]


@pytest.mark.slow
def test_the_first_rung_of_a_ladder_is_the_pair_of_its_ends(
    run: LadderRun, encoder: EncoderModel, dense_cache: Path, tmp_path: Path
):
    settings = dataclasses.replace(SETTINGS, models=(), cache_dir=dense_cache)
    with light_run():
        trained = train([run.log], tmp_path / "pair", encoder, settings, QUIET)
    assert (trained.folder / GRAPH).read_bytes() == (run.bundle.folder / GRAPH).read_bytes()


def test_predictions_name_the_rung_that_the_policy_allows(run: LadderRun, tmp_path: Path):
    read = read_records([run.log], run.manifest.pair).records[:200]
    policy = run.manifest.policy("max_worse=0.05")
    rows = predict_rows(run.bundle, [*read, without_words()], policy, early_exit=True, reporter=QUIET)
    write_predictions(tmp_path / "said.parquet", rows)
    said = pq.read_table(tmp_path / "said.parquet").to_pylist()
    assert {row["rung"] for row in said[:-1]} == set(NAMES)
    for row in said[:-1]:
        may_climb = row["route"] == Route.STRONG and row["reason"] == "MODEL" and row["p_rungs"][0] >= policy.t_rungs[0]
        assert row["rung"] == (WEAK if row["route"] == Route.WEAK else STRONG if may_climb else TOP)
    assert said[-1]["rung"] is None


def without_words() -> Record:
    return Record("empty", prompt_from_text(""), "")
