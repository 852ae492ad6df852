"""A ladder is retrained: all rungs of the champion are learned again, and compared by what the policy answers."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.digest_logs import decision_log, unlike_texts
from tests.training.ladders import NAMES, TOP, LadderRun, three_model_rows, without, write_wide
from tests.training.runs import QUIET, light_run
from turnout.serving.bundles.bundle import CARD, RUNGS, load_bundle, read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import LADDER_FORMAT_VERSION, Pair
from turnout.serving.bundles.verdict import Check, GateVerdict
from turnout.training.compaction.forget import Whom, forget_kept
from turnout.training.dataset.ladder import label_requests, load_ladder
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused, TooFewYet
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.predict import predict_rows, seen_rows
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Response
from turnout.training.retrain.gate import GateLimits, GateRows, ServedAnswers, compare
from turnout.training.retrain.kept import KeptOrigin, LadderOrigin, read_kept
from turnout.training.retrain.kept_ladder import KeptRequest, read_kept_ladder, write_kept_ladder
from turnout.training.retrain.pool import Aging
from turnout.training.retrain.pool_ladder import pool_ladder
from turnout.training.retrain.run import Retrained, retrain
from turnout.training.retrain.settings import RetrainSettings
from turnout.training.sample.sample import STRONG, WEAK

pytestmark = pytest.mark.slow

DAY_S = 86_400.0
START_S = 1.79e9
N_FIRST = 1000
SETTINGS = RetrainSettings(seed=2, min_test_rows=150, fit=FitSettings(), limits=GateLimits(latency_ms=1e4))
SPOILT = 0.4
"""Share of the rows on which every rung but the top has become wrong since the champion was trained."""


def later_rows(n: int, seed: int, *, first_day: float) -> list[dict]:
    """Return drifted traffic of ten days."""
    rows, rng = three_model_rows(n, seed), random.Random(seed)
    for number, row in enumerate(rows):
        row["id"] = f"{seed}-{number}"
        row["created"] = START_S + DAY_S * (first_day + 10 * number / n)
        if rng.random() < SPOILT:
            for name in (WEAK, STRONG):
                row["responses"][name] |= {"score": 0.0, "content": f"wrong now {name}"}
            row["responses"][TOP] |= {"score": 1.0, "content": "right"}
    return rows


def registry(folder: Path, run: LadderRun) -> Entry:
    """Return a registry with the champion in service."""
    shutil.copytree(run.folder, folder / "three" / run.manifest.version)
    entry = Entry(folder, "three")
    entry.promote(run.manifest.version)
    return entry


class Story:
    """A champion, and a first retraining that repairs it."""

    def __init__(self, folder: Path, run: LadderRun, encoder: EncoderModel, cache: Path) -> None:
        self.run, self.encoder = run, encoder
        self.entry = registry(folder / "models", run)
        self.kept = folder / "kept.parquet"
        self.log = write_wide(folder / "first.jsonl", without(later_rows(N_FIRST, 71, first_day=0), STRONG, 0.1, 72))
        self.settings = replace(SETTINGS, cache_dir=cache)
        with light_run():
            self.first = retrain([self.log], self.entry, self.kept, encoder, self.settings, QUIET)

    def again(self, *logs: Path, kept: Path | None = None, **changes: object) -> Retrained:
        with light_run():
            return retrain(logs, self.entry, kept, self.encoder, replace(self.settings, **changes), QUIET)


@pytest.fixture(scope="module")
def story(
    ladder_run: LadderRun, encoder: EncoderModel, dense_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    return Story(tmp_path_factory.mktemp("story"), ladder_run, encoder, dense_cache)


def check(verdict: GateVerdict, name: str) -> Check:
    return next(one for one in verdict.checks if one.name == name)


def test_challenger_has_all_rungs_of_the_champion_and_takes_its_place(story: Story):
    done = story.first
    assert done.is_promoted
    assert story.entry.current() == done.manifest.version
    bundle = load_bundle(done.folder)
    manifest = bundle.manifest
    assert manifest.format_version == LADDER_FORMAT_VERSION
    assert [rung.name for rung in manifest.ladder] == list(NAMES)
    assert bundle.manifest.files[RUNGS].size > 0
    assert manifest.parent == manifest.verdict.champion == story.run.manifest.bundle_id
    assert all(len(policy.t_rungs) == 1 for policy in manifest.policies)
    assert manifest.ladder[1].match_rate < story.run.manifest.ladder[1].match_rate - 0.1
    assert "Held against" in (done.folder / CARD).read_text()


def test_every_rung_is_compared(story: Story):
    verdict = story.first.verdict
    for name in ("log loss", f"{STRONG}: log loss"):
        losses = check(verdict, name)
        assert losses.challenger < losses.champion - 0.05
    assert check(verdict, f"{STRONG}: calibration error above chance").is_met
    names = [one.name for one in verdict.checks]
    assert names[:2] == ["log loss", "quality at the policy"]
    assert "second look: quality at the policy" in names
    assert names[-2:] == ["latency of 95 %, ms", "parity with the Python path"]


def test_quality_is_the_score_of_the_rung_that_answers_on_rows_new_to_both(story: Story):
    verdict = story.first.verdict
    champion, challenger = story.run.bundle, load_bundle(story.first.folder)
    read = load_ladder([story.log], NAMES, Reading(), 0.0, challenger.manifest.harness_rules, QUIET)
    created = np.array([record.created for record in read.records])
    is_new = ~seen_rows(champion, read) & ~seen_rows(challenger, read)
    compared = read.complete[(is_new & (created >= verdict.from_s) & (created <= verdict.to_s))[read.complete]]
    assert compared.size == verdict.rows >= 150
    for bundle, said in (
        (champion, check(verdict, "quality at the policy").champion),
        (challenger, check(verdict, "quality at the policy").challenger),
    ):
        policy = bundle.manifest.policy(verdict.policy)
        told = predict_rows(bundle, [read.records[row] for row in compared], policy, early_exit=True, reporter=QUIET)
        rung = np.array([NAMES.index(one.rung) for one in told])
        assert said == pytest.approx(read.score[compared, rung].mean(), abs=1e-9)
    assert verdict.policy == champion.manifest.default_policy


def test_gate_counts_what_answers_where_more_than_two_may():
    n = 400
    rng = np.random.default_rng(0)
    match, p_match = rng.integers(0, 2, n), np.full(n, 0.5)
    rows = GateRows(match, np.ones(n), match.astype(float), np.arange(n), np.ones(n))
    weak = np.zeros(n, dtype=bool)
    all_right, half_right = ServedAnswers(p_match, weak, np.ones(n)), ServedAnswers(p_match, weak, match.astype(float))
    by_name = {one.name: one for one in compare(rows, all_right, half_right, GateLimits())}
    fall = by_name["quality at the policy"]
    assert not fall.is_met
    assert fall.figure == pytest.approx(match.mean() - 1.0)
    assert by_name["log loss"].is_met
    pair = {
        one.name: one for one in compare(rows, ServedAnswers(p_match, weak), ServedAnswers(p_match, weak), GateLimits())
    }
    assert pair["quality at the policy"].figure == 0.0


def test_kept_rows_hold_every_rung_and_are_not_new_again(story: Story, tmp_path: Path):
    origin = LadderOrigin(NAMES, 0.0)
    kept = read_kept_ladder(story.kept, origin)
    assert len(kept) == N_FIRST == story.first.n_new
    read = load_ladder([story.log], NAMES, Reading(), 0.0, 0, QUIET)
    pool = pool_ladder([story.log], story.kept, origin, Reading(), Aging(half_life_days=2), QUIET)
    assert (pool.n_new, int(pool.is_old.sum())) == (0, N_FIRST)
    assert np.array_equal(pool.read.match, read.match)
    assert np.array_equal(pool.read.score, read.score, equal_nan=True)
    usage = [
        {rung: (said.prompt_tokens, said.completion_tokens) for rung, said in sorted(one.answers.items())}
        for one in pool.read.requests
    ]
    assert usage == [
        {rung: (said.prompt_tokens, said.completion_tokens) for rung, said in sorted(one.answers.items())}
        for one in read.requests
    ]
    assert [row.record.weak.content for row in pool.read.pair.rows] == [
        row.record.weak.content for row in read.pair.rows
    ]
    age_days = (pool.read.records[-1].created - np.array([one.created for one in pool.read.records])) / DAY_S
    assert pool.read.weight == pytest.approx(0.5 ** (age_days / 2), rel=0.02)
    assert pool.read.pair.weight == pytest.approx(pool.read.weight[pool.read.in_pair])
    with pytest.raises(TooFewYet, match="0 labelled rows that are new"):
        story.again(story.log, kept=story.kept)
    copy = Path(shutil.copyfile(story.kept, tmp_path / "kept.parquet"))
    assert forget_kept(copy, Whom(request_id="71-3")) == 1
    assert "71-3" not in {one.request.record.id for one in read_kept_ladder(copy, origin)}


def test_a_kept_row_gets_what_a_later_log_says_of_a_rung_that_it_lacked(tmp_path: Path):
    rows = later_rows(120, 78, first_day=0)
    lacking = write_wide(tmp_path / "lacking.jsonl", without(rows, STRONG, 1.0, 0))
    whole = write_wide(tmp_path / "whole.jsonl", rows)
    origin = LadderOrigin(NAMES, 0.0)
    first = label_requests([lacking], NAMES, Reading(), 0.0, QUIET, may_lack=range(2))
    kept = [
        KeptRequest(request, tuple(of_rung.get(number) for of_rung in first.labels), 1.0)
        for number, request in enumerate(first.requests)
    ]
    assert all(one.labels[1] is None for one in kept)
    write_kept_ladder(tmp_path / "kept.parquet", kept, origin)
    pool = pool_ladder([whole], tmp_path / "kept.parquet", origin, Reading(), Aging(), QUIET)
    assert pool.is_old.all()
    assert np.array_equal(pool.read.match, load_ladder([whole], NAMES, Reading(), 0.0, 0, QUIET).match)
    assert [one.kept_s for one in pool.rows] == [1.0] * len(kept)


def test_kept_rows_without_usage_cost_what_they_cost_in_the_log(tmp_path: Path):
    log = write_wide(tmp_path / "log.jsonl", later_rows(60, 79, first_day=0))
    found = label_requests([log], NAMES, Reading(), 0.0, QUIET, may_lack=range(2))
    kept = []
    for number, request in enumerate(found.requests):
        said = {rung: Response("word " * 10 ** (rung + 1), one.score) for rung, one in request.answers.items()}
        labels = tuple(of_rung.get(number) for of_rung in found.labels)
        kept.append(KeptRequest(replace(request, answers=said), labels, 1.0))
    write_kept_ladder(tmp_path / "kept.parquet", kept, LadderOrigin(NAMES, 0.0))
    again = read_kept_ladder(tmp_path / "kept.parquet", LadderOrigin(NAMES, 0.0))
    rungs = [Rung(name, name) for name in NAMES]
    logged, reread = (ladder_costs([one.request for one in rows], rungs) for rows in (kept, again))
    assert reread == pytest.approx(logged)


def test_a_store_of_other_models_is_refused(story: Story):
    with pytest.raises(DataRefused, match="kept for gpt-4o-mini,gpt-4o,o3, margin 0"):
        read_kept_ladder(story.kept, LadderOrigin((WEAK, STRONG, "o1"), 0.0))
    with pytest.raises(DataRefused, match="no store of kept rows with prompts"):
        read_kept(story.kept, KeptOrigin(Pair(strong=TOP, weak=WEAK), 0.0))


def test_logs_that_lack_a_rung_are_refused_with_what_to_log(story: Story, tmp_path: Path):
    before = story.entry.current()
    rows = later_rows(700, 75, first_day=10)
    log = write_wide(tmp_path / "none.jsonl", without(rows, STRONG, 1.0, 0))
    with pytest.raises(DataRefused, match=f"neither the logs nor kept rows compare {STRONG} with {TOP}"):
        story.again(log)
    with pytest.raises(TooFewYet, match="0 hold an outcome of every rung"):
        story.again(log, kept=story.kept)
    log = write_wide(tmp_path / "few.jsonl", without(rows, STRONG, 0.7, 76))
    with pytest.raises(DataRefused, match="a rung needs at least 200 groups"):
        story.again(log, min_test_rows=50)
    assert story.entry.current() == before


def test_logs_without_prompts_are_refused_with_what_to_log(story: Story, tmp_path: Path):
    logs = decision_log(tmp_path, story.run.bundle, unlike_texts(6), "digest")
    with pytest.raises(DataRefused, match="a ladder needs the prompts: log with --log-decisions full"):
        story.again(*logs)


def test_challenger_that_misses_one_check_is_published_and_not_put_into_service(story: Story, tmp_path: Path):
    before = story.entry.current()
    kept = Path(shutil.copyfile(story.kept, tmp_path / "kept.parquet"))
    log = write_wide(tmp_path / "second.jsonl", later_rows(450, 77, first_day=10))
    refused = story.again(log, kept=kept, limits=GateLimits(latency_ms=0.0), min_test_rows=120)
    assert not refused.is_promoted
    assert story.entry.current() == before
    assert not check(refused.verdict, "latency of 95 %, ms").is_met
    assert (refused.n_new, refused.n_old) == (450, N_FIRST)
    found = read_manifest(refused.folder)
    assert found.verdict == refused.verdict
    assert found.ladder[1].rows > 0.9 * N_FIRST
