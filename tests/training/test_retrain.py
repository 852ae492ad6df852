"""Retraining: what the champion has lost a challenger learns again, and only what is no worse comes into service."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.log_builders import write_log
from tests.training.runs import QUIET, TrainingRun
from turnout.serving.bundles.bundle import CARD, SEEN_GROUPS, load_bundle, read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.verdict import Check, GateVerdict
from turnout.serving.errors import BundleRefused
from turnout.training.cli.retrain import outcome_line, result_json, verdict_table
from turnout.training.dataset.dataset import load_dataset
from turnout.training.dataset.splits import group_records, key_digests
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import RetrainUnderWay, TooFewYet
from turnout.training.files import alone
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.predict import seen_rows
from turnout.training.logs.reading import Reading
from turnout.training.retrain.gate import GateLimits
from turnout.training.retrain.kept import KeptOrigin, read_kept
from turnout.training.retrain.pool import Aging, pool_rows
from turnout.training.retrain.run import Retrained, known_rows, retrain
from turnout.training.retrain.settings import RetrainSettings
from turnout.training.sample.sample import STRONG, WEAK, make_sample

DAY_S = 86_400.0
START_S = 1.79e9
N_FIRST, N_SECOND = 700, 450
SETTINGS = RetrainSettings(seed=2, min_test_rows=120, fit=FitSettings(), limits=GateLimits(latency_ms=1e4))
SPOILT = 0.4
"""Share of the matches that have turned into failures of the weak model since the champion was trained."""


def later_rows(n: int, seed: int, *, first_day: float) -> list[dict]:
    """Return drifted traffic of ten days."""
    rows, rng = make_sample(n, seed), random.Random(seed)
    for number, row in enumerate(rows):
        row["id"] = f"{seed}-{number}"
        row["created"] = START_S + DAY_S * (first_day + 10 * number / n)
        if rng.random() < SPOILT:
            row["responses"][STRONG]["score"], row["responses"][WEAK]["score"] = 1.0, 0.0
    return rows


def registry(folder: Path, run: TrainingRun) -> Entry:
    """Return a registry with the champion in service."""
    manifest = read_manifest(run.bundle)
    shutil.copytree(run.bundle, folder / "router" / manifest.version)
    entry = Entry(folder, "router")
    entry.promote(manifest.version)
    return entry


class Story:
    """A champion, a first retraining that repairs it, and the files that all of that leaves."""

    def __init__(self, folder: Path, run: TrainingRun, encoder: EncoderModel) -> None:
        self.run, self.encoder = run, encoder
        self.entry = registry(folder / "models", run)
        self.champion = self.entry.current()
        self.kept = folder / "kept.parquet"
        known = [json.loads(line) for line in run.log.read_bytes().splitlines()[:60]]
        known = [row | {"created": START_S + 9.9 * DAY_S} for row in known]
        self.first_log = write_log(folder / "first.jsonl", [*known, *later_rows(N_FIRST, 71, first_day=0)])
        self.second_log = write_log(folder / "second.jsonl", later_rows(N_SECOND, 72, first_day=10))
        self.settings = replace(SETTINGS, cache_dir=run.settings.cache_dir)
        self.first = retrain([self.first_log], self.entry, self.kept, encoder, self.settings, QUIET)
        self.kept_first = Path(shutil.copyfile(self.kept, folder / "kept-first.parquet"))

    def again(self, *logs: Path, **changes: object) -> Retrained:
        return retrain(logs, self.entry, self.kept, self.encoder, replace(self.settings, **changes), QUIET)


@pytest.fixture(scope="module")
def story(
    training_run: TrainingRun,
    encoder: EncoderModel,
    tmp_path_factory: pytest.TempPathFactory,
    light_runs: None,  # noqa: ARG001  # those of the story
) -> Story:
    return Story(tmp_path_factory.mktemp("story"), training_run, encoder)


def check(verdict: GateVerdict, name: str) -> Check:
    return next(one for one in verdict.checks if one.name == name)


def test_challenger_that_learned_what_changed_is_promoted_and_can_be_taken_back(story: Story):
    done = story.first
    assert done.is_promoted
    assert done.verdict.is_met
    assert [(change.action, change.before) for change in story.entry.history()][:2] == [
        ("promote", ""),
        ("promote", story.champion),
    ]
    assert story.entry.before() == story.champion
    assert story.entry.history()[1].version == done.manifest.version
    losses = check(done.verdict, "log loss")
    assert losses.challenger < losses.champion - 0.05
    assert outcome_line(done) == f"promoted {done.manifest.bundle_id} in place of router/{story.champion}"


def test_rows_compared_on_are_new_to_both_and_later_than_what_was_learned(story: Story):
    first = read_manifest(story.entry.folder / story.first.manifest.version)
    verdict, champion = first.verdict, load_bundle(story.entry.folder / story.champion)
    data = load_dataset([story.first_log], first.pair, None, 0.0, QUIET).dataset
    challenger = load_bundle(story.first.folder)
    fresh = ~seen_rows(champion, data) & ~seen_rows(challenger, data)
    moments = np.array([record.created for record in data.records])
    compared = fresh & (moments >= verdict.from_s) & (moments <= verdict.to_s)
    assert compared.sum() == verdict.rows >= 120
    assert moments[seen_rows(challenger, data) & ~seen_rows(champion, data)].max() < verdict.from_s


def test_bundle_says_against_whom_it_was_held_and_with_what_figures(story: Story):
    manifest = read_manifest(story.first.folder)
    assert manifest.verdict == story.first.verdict
    assert manifest.parent == f"router/{story.champion}" == manifest.verdict.champion
    compared = [
        "log loss",
        "quality at the policy",
        "quality of each task",
        "log loss of each task",
        "calibration error above chance",
    ]
    assert [one.name for one in manifest.verdict.checks] == [
        *compared,
        "second look kept",
        "second look: rows to compare on",
        *(f"second look: {name}" for name in compared),
        "latency of 95 %, ms",
        "parity with the Python path",
    ]
    card = (story.first.folder / "card.md").read_text()
    assert f"Held against `router/{story.champion}`" in card
    assert "Recalibrated" not in card
    assert "every check is met" in card


def test_kept_rows_are_all_that_had_a_label_and_are_not_new_again(story: Story):
    origin = KeptOrigin(story.first.manifest.pair, 0.0)
    assert len(read_kept(story.kept_first, origin)) == N_FIRST + 60 == story.first.n_new
    pool = pool_rows([story.first_log, story.second_log], story.kept_first, origin, SETTINGS.reading, Aging(), QUIET)
    assert (pool.n_new, int(pool.is_old.sum())) == (N_SECOND, N_FIRST + 60)


def test_window_leaves_out_old_rows_and_half_life_makes_them_light(story: Story):
    origin = KeptOrigin(story.first.manifest.pair, 0.0)
    logs = [story.first_log, story.second_log]
    pool = pool_rows(logs, story.kept_first, origin, SETTINGS.reading, Aging(window_days=8, half_life_days=2), QUIET)
    age_days = (START_S + 20 * DAY_S - np.array([one.moment_s for one in pool.rows])) / DAY_S
    assert 7.9 < age_days.max() < 8.1
    assert pool.data.weight == pytest.approx(pool.weight * 0.5 ** (age_days / 2), rel=0.02)


def test_a_row_dated_ahead_of_the_clock_makes_no_other_old(tmp_path: Path):
    rows = later_rows(40, 92, first_day=0)
    now_s = time.time()
    for number, row in enumerate(rows):
        row["created"] = now_s - DAY_S * (number + 0.5) / 10
    rows[7]["created"] = now_s + 3650 * DAY_S
    log = write_log(tmp_path / "log.jsonl", rows)
    pool = pool_rows([log], None, KeptOrigin(Pair(), 0.0), Reading(), Aging(window_days=3, half_life_days=1), QUIET)
    assert len(pool.rows) == 30
    assert (pool.data.weight / pool.weight).max() == 1.0


def test_same_log_again_is_too_little_and_changes_nothing(story: Story):
    before = story.entry.current()
    with pytest.raises(TooFewYet, match="0 labelled rows that are new, of which 0 to compare on"):
        story.again(story.first_log)
    assert story.entry.current() == before


@pytest.mark.slow
def test_dry_run_writes_nothing(story: Story, tmp_path: Path, training_run: TrainingRun):
    entry = registry(tmp_path / "models", training_run)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    settings = replace(story.settings, is_dry_run=True)
    done = retrain([story.first_log], entry, tmp_path / "kept.parquet", story.encoder, settings, QUIET)
    assert (done.verdict.is_met, done.is_promoted, done.folder) == (True, False, None)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "would be promoted; nothing is written" in outcome_line(done)


@pytest.fixture(scope="module")
def refused(story: Story) -> Retrained:
    """Retrain again with a latency that no router can keep."""
    return story.again(story.second_log, limits=GateLimits(latency_ms=0.0))


def test_challenger_that_misses_one_check_is_published_and_not_put_into_service(story: Story, refused: Retrained):
    assert not refused.is_promoted
    assert story.entry.current() == story.first.manifest.version
    assert not check(refused.verdict, "latency of 95 %, ms").is_met
    assert outcome_line(refused).startswith(f"kept {story.first.manifest.bundle_id}; {refused.manifest.bundle_id} did")
    assert load_bundle(refused.folder).manifest.verdict == refused.verdict
    assert (refused.n_new, refused.n_old) == (N_SECOND, N_FIRST + 60)
    assert refused.manifest.training.rows["fit"] > N_FIRST


@pytest.mark.slow
def test_forced_promotion_says_so_in_the_bundle(story: Story, training_run: TrainingRun, tmp_path: Path):
    entry = registry(tmp_path / "models", training_run)
    log = write_log(tmp_path / "log.jsonl", later_rows(450, 73, first_day=0))
    settings = replace(story.settings, is_forced=True, may_lose_second_look=True, limits=GateLimits(latency_ms=0.0))
    done = retrain([log], entry, None, story.encoder, settings, QUIET)
    assert done.is_promoted
    assert entry.current() == done.manifest.version
    found = read_manifest(done.folder)
    assert (found.verdict.is_forced, found.verdict.is_met) == (True, False)
    assert "promoted by force" in (done.folder / CARD).read_text()
    assert "forced past: latency of 95 %, ms" in outcome_line(done)


def test_second_retraining_at_the_same_time_is_refused(story: Story):
    for held in (story.entry.folder, story.kept):
        with alone(held), pytest.raises(RetrainUnderWay, match="another turnout retrain is at work"):
            story.again(story.second_log)


def test_champion_that_changed_meanwhile_is_not_replaced(story: Story, tmp_path: Path, training_run: TrainingRun):
    entry = registry(tmp_path / "models", training_run)
    shutil.copytree(story.first.folder, entry.folder / story.first.manifest.version)
    with pytest.raises(BundleRefused, match=r"is in service by now, and .* was held against 20200101-0"):
        entry.promote(story.first.manifest.version, instead_of="20200101-0")
    assert entry.current() == story.champion
    entry.promote(story.first.manifest.version, instead_of=story.champion)


@pytest.mark.slow
def test_table_and_json_hold_every_check(refused: Retrained):
    said = msgspec.json.decode(result_json(refused))
    assert (said["promoted"], said["dry_run"], said["bundle_id"]) == (False, False, refused.manifest.bundle_id)
    assert (said["n_new"], said["n_kept"]) == (N_SECOND, N_FIRST + 60)
    assert msgspec.convert(said["verdict"], GateVerdict) == refused.verdict
    rows = list(verdict_table(refused.verdict).columns[-1].cells)
    assert [cell == "yes" for cell in rows] == [one.is_met for one in refused.verdict.checks]


def test_verdict_stays_out_of_bundles_without_one(training_run: TrainingRun):
    manifest = read_manifest(training_run.bundle)
    assert manifest.verdict is None
    assert "champion" not in (training_run.bundle / CARD).read_text()
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=type(manifest)) == manifest


def test_champion_from_before_harness_rules_knows_the_rows_it_learned_with_harness_text(
    training_run: TrainingRun, tmp_path: Path
):
    rows = later_rows(40, 91, first_day=0)
    for row in rows:
        row.pop("session_id", None)
        row["request"]["messages"][-1]["content"] += "\n\n<system-reminder>\nNothing to do.\n</system-reminder>"
    log = write_log(tmp_path / "log.jsonl", rows)
    pool = pool_rows([log], None, KeptOrigin(Pair(), 0.0), Reading(), Aging(), QUIET)
    folder = shutil.copytree(training_run.bundle, tmp_path / "champion")
    champion = load_bundle(folder)
    champion = replace(champion, manifest=msgspec.structs.replace(champion.manifest, harness_rules=0))
    as_learned = group_records(pool.data.records, 0)
    digests = key_digests(as_learned.keys[:25], champion.manifest.training.group_salt)
    (folder / SEEN_GROUPS).write_bytes(b"".join(sorted(digests)))
    assert not seen_rows(champion, pool.data).any()
    assert known_rows(champion, pool)[:25].all()
    assert not known_rows(champion, pool).all()
