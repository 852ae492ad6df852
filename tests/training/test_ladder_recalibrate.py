"""A ladder is calibrated again: every rung's p is right on the new rows, and no rung is lost without a word."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from tests.training.ladders import NAMES, TOP, LadderRun, three_model_rows, without, write_wide
from tests.training.runs import light_run
from turnout.serving.bundles.bundle import GRAPH, RUNGS, Bundle, load_bundle
from turnout.serving.bundles.manifest import LADDER_FORMAT_VERSION
from turnout.serving.bundles.policy import NEVER
from turnout.serving.router.prompt import Prompt, prompt_from_text
from turnout.training.bundle.export import PARITY
from turnout.training.bundle.reopen import reopen_rungs
from turnout.training.bundle.rungs import export_rungs
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.learn.recalibrate import RecalibrateSettings, recalibrate
from turnout.training.learn.train import Trained
from turnout.training.progress import Reporter
from turnout.training.sample.sample import STRONG

pytestmark = pytest.mark.slow

SPOILT = 0.4
"""Share of the answers of the model between that have become wrong: the drift."""


def drifted(n: int, seed: int) -> list[dict]:
    rows, rng = three_model_rows(n, seed), random.Random(seed)
    for row in rows:
        if rng.random() < SPOILT:
            row["responses"][STRONG] |= {"score": 0.0, "content": "wrong now"}
            row["responses"][TOP] |= {"score": 1.0, "content": "right"}
    return rows


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def again(run: LadderRun, log: Path, out: Path, encoder: EncoderModel, cache: Path) -> tuple[Trained, list[str]]:
    heard = Heard()
    with light_run():
        done = recalibrate(run.bundle, [log], out, encoder, RecalibrateSettings(5, cache_dir=cache), heard)
    return done, heard.said


@pytest.fixture(scope="module")
def recalibrated(
    ladder_run: LadderRun, encoder: EncoderModel, dense_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    folder = tmp_path_factory.mktemp("again")
    known = [json.loads(line) for line in ladder_run.log.read_bytes().splitlines()[:60]]
    log = write_wide(folder / "log.jsonl", [*known, *without(drifted(700, 81), STRONG, 0.2, 82)])
    return again(ladder_run, log, folder / "bundle", encoder, dense_cache)[0]


def said_of(bundle: Bundle, prompts: list[Prompt]) -> np.ndarray:
    return np.array([bundle.rung_heads.p_rungs(bundle.model.featurize(prompt))[0] for prompt in prompts])


def fresh() -> tuple[list[Prompt], np.ndarray]:
    rows = drifted(400, 83)
    match = [row["responses"][STRONG]["score"] >= row["responses"][TOP]["score"] for row in rows]
    prompts = [prompt_from_text(row["request"]["messages"][-1]["content"]) for row in rows]
    return prompts, np.array(match, dtype=float)


def test_the_rung_between_is_right_again_and_ranks_as_before(ladder_run: LadderRun, recalibrated: Trained):
    prompts, match = fresh()
    old, new = (said_of(bundle, prompts) for bundle in (ladder_run.bundle, load_bundle(recalibrated.folder)))
    assert old.mean() - match.mean() > 0.2
    assert abs(new.mean() - match.mean()) < 0.07
    assert np.corrcoef(np.argsort(np.argsort(old)), np.argsort(np.argsort(new)))[0, 1] > 0.9999


def test_every_policy_is_solved_again_over_all_rungs(ladder_run: LadderRun, recalibrated: Trained):
    old, new = ladder_run.manifest, recalibrated.manifest
    assert new.format_version == LADDER_FORMAT_VERSION
    assert [rung.name for rung in new.ladder] == list(NAMES)
    assert new.parent == old.bundle_id != new.bundle_id
    assert all(len(policy.t_rungs) == 1 for policy in new.policies)
    assert len(new.risk.t_rungs) == len(new.risk.thresholds)
    by_name = {policy.name: policy for policy in old.policies}
    assert any(policy.t_rungs != by_name[policy.name].t_rungs for policy in new.policies if policy.name in by_name)
    assert any(policy.is_met and policy.t_rungs[0] < NEVER for policy in new.policies if policy.kind == "max_worse")
    between = new.ladder[1]
    assert 450 < between.rows < 600
    assert between.match_rate < old.ladder[1].match_rate - 0.1
    assert between.metrics["ece"] < between.metrics["ece_floor"] + 0.05
    assert recalibrated.evaluation.n_seen_in_training >= 60
    assert recalibrated.evaluation.ladder.n == new.ladder[-1].rows
    assert new.policies[0].checked is not None


def test_a_rung_that_few_rows_speak_of_keeps_its_own_and_is_not_taken(
    ladder_run: LadderRun, encoder: EncoderModel, dense_cache: Path, tmp_path: Path
):
    log = write_wide(tmp_path / "log.jsonl", without(drifted(500, 84), STRONG, 0.95, 85))
    done, said = again(ladder_run, log, tmp_path / "bundle", encoder, dense_cache)
    line = next(one for one in said if "keeps its calibrator" in one)
    assert line.startswith(f"{STRONG} keeps its calibrator, and no policy takes it")
    assert f"compare it with {TOP}" in line
    bundle = load_bundle(done.folder)
    prompts, _ = fresh()
    assert said_of(bundle, prompts) == pytest.approx(said_of(ladder_run.bundle, prompts), abs=PARITY)
    assert bundle.manifest.ladder[1] == ladder_run.manifest.ladder[1]
    for policy in bundle.manifest.policies:
        assert policy.t_rungs == (NEVER,)
        assert policy.checked is None or policy.checked.t_rungs == (NEVER,)
    assert {one for point in bundle.manifest.risk.t_rungs for one in point} == {NEVER}
    assert any(policy.is_met and policy.share_weak > 0.1 for policy in bundle.manifest.policies)


def test_a_graph_that_is_read_back_says_the_same(ladder_run: LadderRun, encoder: EncoderModel):
    fit = reopen_rungs(ladder_run.bundle)
    prompts, _ = fresh()
    table = embed(prompts, encoder, cache_dir=None, harness_rules=ladder_run.manifest.harness_rules)
    served = said_of(ladder_run.bundle, prompts)
    assert fit.p(table)[:, 0] == pytest.approx(served, abs=PARITY)
    moved = dataclasses.replace(fit, calibrators=(dataclasses.replace(fit.calibrators[0], intercept=1.0),))
    assert moved.p(table)[:, 0] == pytest.approx(expit(logit(served) + 1.0), abs=PARITY)
    assert len(export_rungs(fit)) == ladder_run.manifest.files[RUNGS].size


def test_rows_that_never_hold_all_models_are_refused_with_what_to_log(
    ladder_run: LadderRun, encoder: EncoderModel, dense_cache: Path, tmp_path: Path
):
    rows = drifted(800, 86)
    halves = [*without(rows[:400], STRONG, 1.0, 0), *without(rows[400:], NAMES[0], 1.0, 0)]
    log = write_wide(tmp_path / "log.jsonl", halves)
    with pytest.raises(DataRefused, match="log some requests with all models"):
        again(ladder_run, log, tmp_path / "bundle", encoder, dense_cache)
    assert not (tmp_path / "bundle" / GRAPH).exists()
