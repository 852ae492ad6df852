"""`turnout drift` on verdicts: within every limit where nothing moved, a signal that a vendor stops sending, shares."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.builders import write_manifest
from tests.checkers import checked_folder
from tests.contract.conftest import Turnout
from tests.drift_builders import N_MEASURED, add_evaluation, evaluation_json, traffic
from tests.training.spools import DAY_S, NOON_S, check, compacted, decision, sealed
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.second_look import SecondLook, Spread
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.serving.spool.check import packed
from turnout.training.drift.compare import DriftReport
from turnout.training.evaluation.drift_baseline import distribution

N = 1500
SHARE_TRIED, SHARE_ESCALATED = 0.8, 0.3


def answers(rng: np.random.Generator, n: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Return measures of n checked answers; `shift` in standard deviations."""
    return {
        "p_match_checked": 1 / (1 + np.exp(-rng.normal(1.0 - shift, 1.0, n))),
        "mean_logprob": -np.exp(rng.normal(-2.0 + shift, 1.0, n)),
        "log_characters": np.log1p(np.round(np.exp(rng.normal(4.0 + shift, 1.0, n)))),
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with a second look that knows how the answers of `logged` are spread."""
    folder = checked_folder(tmp_path_factory.mktemp("measured") / "tiny")
    rng = np.random.default_rng(0)
    add_evaluation(folder, evaluation_json(*traffic(rng, N_MEASURED)))
    spreads = [distribution(name, values) for name, values in answers(rng, N_MEASURED).items()]
    kept = [Spread(one.name, one.edges, one.n) for one in spreads]
    look = SecondLook(N_MEASURED, N_MEASURED, 1, N_MEASURED, {}, {}, n_tried=N_MEASURED, spreads=kept)
    write_manifest(folder, msgspec.structs.replace(read_manifest(folder), second_look=look))
    return folder


def logged(
    folder: Path,
    *,
    shift: float = 0.0,
    gone_after: float = 1.0,
    escalated: float = SHARE_ESCALATED / SHARE_TRIED,
    tried: float = SHARE_TRIED,
    unchecked: float = 0.0,
    n: int = N,
) -> Path:
    """Compact a spool of requests whose callers check; the log-probabilities end at a share of the log."""
    rng = np.random.default_rng(5)
    p_match, measures = traffic(rng, n)
    values = answers(rng, n, shift)
    records = []
    for row in range(n):
        is_tried = rng.random() < tried
        records.append(
            decision(
                f"r{row}",
                decided_s=NOON_S - DAY_S + row,
                kept="digest",
                text=None,
                p_match=float(p_match[row]),
                bundle="tiny/1",
                structural=measures[row].astype("<f4").tobytes(),
                feature_schema=SCHEMA_VERSION,
                can_check=True,
                action="try" if is_tried else "weak",
            )
        )
        if not is_tried or rng.random() < unchecked:
            continue
        has_signal = row < gone_after * n
        records.append(
            check(
                f"r{row}",
                checked_s=NOON_S - DAY_S + row + 1,
                text=None,
                kept="digest",
                verdict="escalate" if rng.random() < escalated else "accept",
                p_match_checked=float(values["p_match_checked"][row]),
                characters=round(np.expm1(values["log_characters"][row])),
                token_logprobs=packed([values["mean_logprob"][row]] * 3) if has_signal else b"",
                signals_used=("mean_logprob",) if has_signal else (),
            )
        )
    sealed(folder / "spool", records)
    compacted(folder / "spool", folder / "logs")
    return folder / "logs"


def drift(turnout: Turnout, *arguments: object) -> DriftReport:
    ended = turnout("drift", *arguments, "--no-cache", "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    return msgspec.json.decode(ended.out, type=DriftReport)


def test_verdicts_like_those_of_the_bundle_are_within_every_limit(turnout: Turnout, measured: Path, tmp_path: Path):
    report = drift(turnout, logged(tmp_path), "--bundle", measured)
    names = {one.name for one in report.measures}
    assert names >= {"tried", "unchecked", "escalated", "mean_logprob_gone", "mean_logprob", "p_match_checked"}
    assert report.beyond == []
    assert set(report.unknown) == {"dense", "calibration_error, brier"}


@pytest.mark.parametrize("gone_after", [0.0, 0.5, 0.85], ids=["never came", "half way", "at the end"])
def test_a_signal_that_comes_no_more_is_drift(turnout: Turnout, measured: Path, tmp_path: Path, gone_after: float):
    report = drift(turnout, logged(tmp_path, gone_after=gone_after), "--bundle", measured)
    assert "mean_logprob_gone" in report.beyond
    assert "escalated" not in report.beyond


def test_answers_of_another_kind_and_other_shares_are_beyond(turnout: Turnout, measured: Path, tmp_path: Path):
    page = tmp_path / "drift.html"
    logs = logged(tmp_path, shift=0.8, escalated=0.7, tried=0.6, unchecked=0.2)
    report = drift(turnout, logs, "--bundle", measured, "--out", page)
    moved = {"p_match_checked", "mean_logprob", "log_characters", "escalated", "tried", "unchecked"}
    assert moved <= set(report.beyond)
    assert "mean_logprob_gone" not in report.beyond
    text = page.read_text()
    assert "share of tries whose verdict is missing" in text
    assert "probability that the weak answer may stand" in text


def test_few_verdicts_and_bundles_without_a_baseline_are_said(turnout: Turnout, measured: Path, tmp_path: Path):
    few = drift(turnout, logged(tmp_path / "few", tried=0.1), "--bundle", measured)
    assert "verdicts, at least 500 are needed" in few.unknown["verdicts"]
    plain = add_evaluation(
        checked_folder(tmp_path / "plain"), evaluation_json(*traffic(np.random.default_rng(0), N_MEASURED))
    )
    report = drift(turnout, logged(tmp_path / "log", gone_after=0.5), "--bundle", plain)
    assert report.unknown["p_match_checked, log_characters, signals"] == "no baseline in this bundle"
    assert "mean_logprob_gone" in report.beyond
