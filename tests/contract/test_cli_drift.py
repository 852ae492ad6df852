"""`turnout drift`: a log like the training's, one that moved, a compacted decision log, and what can't be known."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.contract.conftest import Turnout
from tests.drift_builders import N_MEASURED, add_evaluation, evaluation_json, measured_bundle, traffic
from tests.log_builders import gateway_row, write_log
from tests.training.runs import TrainingRun
from tests.training.spools import DAY_S, NOON_S, compacted, decision, outcome, sealed
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.limits import MIN_ROWS
from turnout.serving.router.features import SCHEMA_VERSION, STRUCTURAL
from turnout.training.drift.compare import DriftReport
from turnout.training.drift.live import Span, read_live
from turnout.training.drift.page import render_drift
from turnout.training.evaluation.dense_blocks import DENSE_BLOCKS
from turnout.training.logs.reading import Reading
from turnout.training.sample.sample import write_sample

N = 600
BUNDLE_ID = "tiny/1"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that was measured on the traffic that `spooled` makes without a shift."""
    folder = measured_bundle(tmp_path_factory.mktemp("measured") / "bundle", ["hello"])
    return add_evaluation(folder, evaluation_json(*traffic(np.random.default_rng(0), N_MEASURED)))


def spooled(folder: Path, shift: float = 0.0, *, lies: float = 0.0, n: int = N, bundle: str = BUNDLE_ID) -> Path:
    """Compact a spool with `n` decisions kept as digests, an hour apart, and the outcome of each; return the store."""
    rng = np.random.default_rng(5)
    records = []
    for number, (p_match, measures) in enumerate(zip(*traffic(rng, n, shift), strict=True)):
        name = f"r{number}"
        made = decision(
            name,
            decided_s=NOON_S - DAY_S + number,
            kept="digest",
            text=None,
            p_match=float(p_match),
            task="sorting" if number % 2 else "chat",
            bundle=bundle,
            structural=measures.astype("<f4").tobytes(),
            feature_schema=SCHEMA_VERSION,
        )
        is_match = rng.random() < p_match - lies
        records += [made, outcome(name, preference="weak" if is_match else "strong")]
    sealed(folder / "spool", records)
    compacted(folder / "spool", folder / "logs")
    return folder / "logs"


def drift(turnout: Turnout, *arguments: object) -> DriftReport:
    ended = turnout("drift", *arguments, "--no-cache", "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    return msgspec.json.decode(ended.out, type=DriftReport)


def test_digests_like_the_baseline_are_within_every_limit(turnout: Turnout, measured: Path, tmp_path: Path):
    report = drift(turnout, spooled(tmp_path), "--bundle", measured)
    assert report.n == N
    assert {one.name for one in report.measures} == {
        "p_match", *STRUCTURAL, "out_of_distribution", "calibration_error", "brier",
    }  # fmt: skip
    assert report.beyond == []
    assert [(one.name, one.n, one.outcomes) for one in report.tasks] == [("chat", 300, 300), ("sorting", 300, 300)]
    assert report.unknown == {"dense": "no baseline in this bundle"}


def test_both_answers_of_a_try_count_where_exploration_wanted_them_alone(measured: Path, tmp_path: Path):
    tried = {"action": "try", "can_check": True, "text": None, "structural": bytes(4 * len(STRUCTURAL))}
    made = [
        decision("escalated", **tried),
        decision("wanted", **tried, wants_both=True, pair_propensity=0.1),
        decision("weak", **tried | {"action": "weak"}),
    ]
    answers = [
        outcome(one.request_id, model=model, score=score)
        for one in made
        for model, score in (("gpt-4o-mini", 0.0), ("gpt-4o", 1.0))
    ]
    sealed(tmp_path / "spool", [*made, *answers])
    compacted(tmp_path / "spool", tmp_path / "logs")
    files = sorted((tmp_path / "logs").glob("decisions/*/*.parquet"))
    live = read_live(files, load_bundle(measured), Reading(), Span())
    assert [row.match for row in live.rows] == [None, 0, 0]


def test_digests_that_moved_and_outcomes_that_disappoint_are_beyond(turnout: Turnout, measured: Path, tmp_path: Path):
    page = tmp_path / "drift.html"
    report = drift(turnout, spooled(tmp_path, 0.8, lies=0.2), "--bundle", measured, "--out", page)
    assert {"p_match", "log_tokens", "calibration_error", "brier"} <= set(report.beyond)
    assert "log_tools" not in report.beyond
    text = page.read_text()
    assert "This traffic is not that on which the bundle was measured" in text
    assert "prefers-color-scheme: dark" in text
    assert_whole(text)


def test_decisions_of_other_bundles_and_times_are_left_out_and_counted(
    turnout: Turnout, measured: Path, tmp_path: Path
):
    logs = spooled(tmp_path)
    day = "2026-11-20T12:08:20"  # 500 seconds after the first
    report = drift(turnout, logs, "--bundle", measured, "--until", day)
    assert (report.n, report.left_out) == (500, {"of another time": 100})
    refused = turnout("drift", spooled(tmp_path / "other", n=5, bundle="other/1"), "--bundle", measured, "--quiet")
    assert refused.code == 1
    assert "5 decided by other bundles" in refused.err


def test_course_shows_when_the_traffic_moved(turnout: Turnout, measured: Path, tmp_path: Path):
    logs = [spooled(tmp_path / "before", n=1000), spooled(tmp_path / "after", 0.8, n=1000)]
    live = read_live(
        [path for folder in logs for path in sorted(folder.glob("decisions/*/*.parquet"))],
        load_bundle(measured),
        Reading(),
        Span(),
    )
    assert len(live.rows) == 2000
    report = drift(turnout, *logs, "--bundle", measured)
    assert len(report.moments) == 2
    assert "p_match" in report.beyond


@pytest.mark.slow
def test_log_of_another_kind_goes_through_the_model_and_dense_means_are_compared(
    turnout: Turnout, training_run: TrainingRun, tmp_path: Path
):
    write_sample(tmp_path / "fresh.jsonl", 520, seed=77)
    usual = drift(turnout, tmp_path / "fresh.jsonl", "--bundle", training_run.bundle)
    assert usual.dense is not None
    assert usual.beyond == []
    same = "Please translate the following sentence into Croatian and explain each of your choices: number"
    rows = [gateway_row(f"{same} {number} of {number * 7}") for number in range(MIN_ROWS)]
    moved = drift(turnout, write_log(tmp_path / "moved.jsonl", rows), "--bundle", training_run.bundle)
    assert moved.dense is not None
    assert moved.dense.p_value == 0.001
    assert {"dense", "log_tokens"} <= set(moved.beyond)


def test_trained_bundle_keeps_what_live_traffic_is_compared_with(training_run: TrainingRun):
    bundle = load_bundle(training_run.bundle)
    assert bundle.baseline is not None
    assert [one.name for one in bundle.baseline.bins] == ["p_match", *STRUCTURAL, "out_of_distribution"]
    assert all(sum(one.n) == pytest.approx(bundle.baseline.n) for one in bundle.baseline.bins)
    assert DENSE_BLOCKS in bundle.manifest.files
    evaluation = json.loads((training_run.bundle / "report" / "evaluation.json").read_bytes())
    tasks = {one["name"]: one["n"] for one in evaluation["slices"]["task"]}
    assert {name: sum(one["n"]) for name, one in evaluation["drift_by_task"].items()} == {
        name: n for name, n in tasks.items() if name and n >= 100
    }


def test_bundle_without_a_baseline_says_so(turnout: Turnout, bundle_folder: Path, tmp_path: Path):
    report = drift(turnout, spooled(tmp_path), "--bundle", bundle_folder)
    assert report.unknown["p_match, structural, out_of_distribution"] == "no baseline in this bundle"
    assert {one.name for one in report.measures} == {"calibration_error", "brier"}


def test_table_for_people_names_what_is_beyond(turnout: Turnout, measured: Path, tmp_path: Path):
    ended = turnout("drift", spooled(tmp_path, 0.8), "--bundle", measured, "--quiet", "--no-cache")
    assert ended.code == 0
    assert "BEYOND" in ended.out
    assert "no baseline in this bundle" in ended.out


def test_page_escapes_what_the_log_holds():
    report = DriftReport("<b>/1", 1, None, None, [], None, [], [], {"dense": "<script>"}, {})
    text = render_drift(report)
    assert "<script>" not in text
    assert "&lt;b&gt;/1" in text
    assert_whole(text)


class _Open(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not (name in {"src", "href"} and value and not value.startswith("#")), value
        if tag not in {"meta", "path", "use", "br"}:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "use"}:
            assert self.stack.pop() == tag


def assert_whole(text: str) -> None:
    """Fail unless all elements are closed and nothing is loaded from elsewhere."""
    parser = _Open()
    parser.feed(text)
    assert parser.stack == []
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
