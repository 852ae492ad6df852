"""A ladder is measured on rows that it has not seen: each rung's p, and what its policies give to which rung."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.training.ladders import NAMES, TOP, LadderRun, three_model_rows, without, write_wide
from tests.training.runs import QUIET, fewer_bootstraps
from turnout.serving.bundles.policy import Policy
from turnout.training.cli.figures import print_evaluation
from turnout.training.cli.report import write_report
from turnout.training.dataset.ladder import LadderRead, load_ladder
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.errors import DataRefused
from turnout.training.evaluation.evaluation import Evaluation, write_evaluation
from turnout.training.learn import looks_of_bundle
from turnout.training.learn.evaluating import evaluate_bundle
from turnout.training.learn.predict import predict_rows, seen_rows
from turnout.training.logs.reading import Reading
from turnout.training.report.words import NONE
from turnout.training.sample.sample import STRONG, WEAK

pytestmark = pytest.mark.slow

N_NEW, N_KNOWN = 500, 80


def load(run: LadderRun, path: Path) -> LadderRead:
    return load_ladder([path], NAMES, Reading(), 0.0, run.manifest.harness_rules, QUIET)


def judged(run: LadderRun, read: LadderRead, policy: Policy | None = None, **more: bool) -> Evaluation:
    how = {"early_exit": True, "include_seen": False} | more
    policy = policy or run.manifest.policy("max_worse=0.05")
    with fewer_bootstraps():
        return evaluate_bundle(run.bundle, read, policy, seed=0, reporter=QUIET, **how)


@pytest.fixture(scope="module")
def new_log(ladder_run: LadderRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = [json.loads(line) for line in ladder_run.log.read_bytes().splitlines()[:N_KNOWN]]
    new = without(three_model_rows(N_NEW, 61), STRONG, 0.2, 62)
    return write_wide(tmp_path_factory.mktemp("new") / "log.jsonl", [*known, *new])


@pytest.fixture(scope="module")
def read(ladder_run: LadderRun, new_log: Path) -> LadderRead:
    return load(ladder_run, new_log)


@pytest.fixture(scope="module")
def evaluation(ladder_run: LadderRun, read: LadderRead) -> Evaluation:
    return judged(ladder_run, read)


def unseen(run: LadderRun, read: LadderRead) -> LadderRead:
    return read.take(np.flatnonzero(~seen_rows(run.bundle, read)))


def test_rows_that_the_bundle_has_seen_are_left_out_of_every_rung(
    ladder_run: LadderRun, read: LadderRead, evaluation: Evaluation
):
    assert evaluation.n_seen_in_training >= N_KNOWN
    new = unseen(ladder_run, read)
    assert evaluation.n == new.in_pair.size == evaluation.ladder.rungs[0].rows
    assert evaluation.ladder.rungs[1].rows == (new.match[:, 1] >= 0).sum() < evaluation.n
    assert evaluation.ladder.n == new.complete.size
    assert judged(ladder_run, read, include_seen=True).ladder.n == read.complete.size > new.complete.size


def test_each_rung_has_the_figures_of_its_served_p(ladder_run: LadderRun, read: LadderRead, evaluation: Evaluation):
    new = unseen(ladder_run, read)
    rows = np.flatnonzero(new.match[:, 1] >= 0)
    bundle = ladder_run.bundle
    said = [bundle.rung_heads.p_rungs(bundle.model.featurize(new.records[row].prompt))[0] for row in rows]
    first, between, top = evaluation.ladder.rungs
    assert between.figures["auroc"] == pytest.approx(roc_auc_score(new.match[rows, 1], said), abs=1e-9)
    assert between.match_rate == pytest.approx(new.match[rows, 1].mean())
    for one in (first, between):
        low, high = one.intervals["auroc"]
        assert low < one.figures["auroc"] < high
        assert one.intervals["ece"][0] <= one.figures["ece"] <= one.intervals["ece"][1] + 0.02
    assert first.figures["auroc"] == evaluation.auroc
    assert (top.figures, top.match_rate, top.worse, top.cost) == ({}, 1.0, 0.0, 1.0)
    assert first.worse == pytest.approx((new.match[new.complete, 0] == 0).mean())


def test_shares_and_worse_answers_of_a_policy_are_those_of_its_predictions(
    ladder_run: LadderRun, read: LadderRead, evaluation: Evaluation
):
    new = unseen(ladder_run, read)
    full = new.complete
    policy = ladder_run.manifest.policy("max_worse=0.05")
    told = predict_rows(ladder_run.bundle, [new.records[row] for row in full], policy, early_exit=True, reporter=QUIET)
    rung = np.array([NAMES.index(one.rung) for one in told])
    shown = next(one for one in evaluation.ladder.policies if (one.policy, one.looks) == (policy.name, 1))
    assert shown.shares == pytest.approx(np.bincount(rung, minlength=3) / rung.size, abs=1e-9)
    assert min(shown.shares) > 0.02
    worse = (new.score[full, rung] < new.score[full, -1]).mean()
    assert shown.worse == pytest.approx(worse)
    assert shown.worse_interval[0] <= worse <= shown.worse_interval[1]
    usd = ladder_costs(new.requests, ladder_run.manifest.ladder)[full]
    assert shown.cost == pytest.approx(usd[np.arange(full.size), rung].mean() / usd[:, -1].mean())
    assert shown.cost_interval[0] <= shown.cost <= shown.cost_interval[1] < 1.0
    assert {one.policy for one in evaluation.ladder.policies} == {one.name for one in ladder_run.manifest.policies}
    assert any(one.looks == 2 and sum(one.shares) == pytest.approx(1.0) for one in evaluation.ladder.policies)


def test_figures_are_shown_with_intervals_and_a_report_takes_them(
    ladder_run: LadderRun, evaluation: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.setenv("COLUMNS", "240")
    print_evaluation(evaluation)
    said = capsys.readouterr().out
    between = evaluation.ladder.rungs[1]
    low, high = between.intervals["auroc"]
    assert f"{between.figures['auroc']:.3f}" in said
    assert f"{low:.3f} to {high:.3f}" in said
    write_evaluation(tmp_path / "figures.json", evaluation)
    assert msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=Evaluation).ladder == evaluation.ladder
    page = write_report(ladder_run.folder, tmp_path / "report", tmp_path / "figures.json").read_text()
    shown = page[page.index('id="ladder"') :]
    assert f"{between.figures['auroc']:.3f}" in shown
    assert f"{ladder_run.manifest.ladder[1].metrics['auroc']:.3f}" not in shown[: shown.index("Policies over")]


def test_rows_without_a_rung_are_judged_by_what_they_hold(ladder_run: LadderRun, tmp_path: Path):
    log = write_wide(tmp_path / "log.jsonl", without(three_model_rows(150, 63), STRONG, 1.0, 0)[:-20])
    rows = three_model_rows(150, 63)[-20:]
    both = write_wide(tmp_path / "both.jsonl", without(rows, WEAK, 1.0, 0))
    found = judged(ladder_run, load_ladder([log, both], NAMES, Reading(), 0.0, 0, QUIET)).ladder
    assert found.n == 0
    assert found.policies == []
    assert found.rungs[0].rows > 100
    assert 10 < found.rungs[1].rows <= 20
    assert found.rungs[2].quality is None


def test_a_rung_without_a_label_has_no_figures_and_none_of_the_training(
    ladder_run: LadderRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    log = write_wide(tmp_path / "log.jsonl", without(three_model_rows(150, 63), STRONG, 1.0, 0))
    found = judged(ladder_run, load_ladder([log], NAMES, Reading(), 0.0, 0, QUIET, may_lack_between=True))
    between = found.ladder.rungs[1]
    assert (between.rows, between.match_rate, between.worse, between.figures) == (0, None, None, {})
    print_evaluation(found)
    assert NONE in capsys.readouterr().out
    write_evaluation(tmp_path / "figures.json", found)
    page = write_report(ladder_run.folder, tmp_path / "report", tmp_path / "figures.json").read_text()
    row = page[page.index(f'<th scope="row">{STRONG}</th>', page.index('id="ladder"')) :].partition("</tr>")[0]
    assert row.count(NONE) == 6
    assert f"{ladder_run.manifest.ladder[1].metrics['auroc']:.3f}" not in row


def test_a_report_takes_no_evaluation_of_another_bundle(ladder_run: LadderRun, evaluation: Evaluation, tmp_path: Path):
    other = msgspec.structs.replace(evaluation, bundle="other/1")
    write_evaluation(tmp_path / "figures.json", other)
    with pytest.raises(DataRefused, match="measures other/1, and this bundle is"):
        write_report(ladder_run.folder, tmp_path / "report", tmp_path / "figures.json")
    assert not (tmp_path / "report").exists()


def test_without_early_exit_policies_over_rungs_are_those_of_the_whole_model(ladder_run: LadderRun, read: LadderRead):
    new = unseen(ladder_run, read)
    policy = ladder_run.manifest.policy("max_worse=0.05")
    records = [new.records[row] for row in new.complete]
    told = predict_rows(ladder_run.bundle, records, policy, early_exit=False, reporter=QUIET)
    rung = np.array([NAMES.index(one.rung) for one in told])
    found = judged(ladder_run, read, early_exit=False).ladder
    shown = next(one for one in found.policies if (one.policy, one.looks) == (policy.name, 1))
    assert shown.shares == pytest.approx(np.bincount(rung, minlength=3) / rung.size, abs=1e-9)


def test_a_second_look_that_vouches_for_no_answer_has_no_figures_and_the_rest_stays(
    ladder_run: LadderRun, read: LadderRead, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(looks_of_bundle, "_asked", lambda _, asked: np.full(len(asked), np.nan))
    found = judged(ladder_run, read)
    assert found.two_looks is None
    assert found.auroc is not None
    assert {one.looks for one in found.ladder.policies} == {1}


def test_nothing_new_is_refused_with_what_to_give(ladder_run: LadderRun):
    with pytest.raises(DataRefused, match=f"no other compares {WEAK} with {TOP}"):
        judged(ladder_run, load(ladder_run, ladder_run.log))
