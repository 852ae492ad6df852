"""Retraining with two looks: both are compared on rows that neither saw, and the second is never lost unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.checkers import signal_checker
from tests.training.runs import QUIET, light_run
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.verdict import Check
from turnout.training.cli.retrain import outcome_line
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import find_logs
from turnout.training.retrain.gate import GateLimits, GateRows
from turnout.training.retrain.kept import KeptOrigin, read_kept
from turnout.training.retrain.run import Retrained, retrain
from turnout.training.retrain.second_look import KEPT, PREFIX, ROWS, Looker, second_look_checks
from turnout.training.retrain.settings import RetrainSettings

pytestmark = pytest.mark.slow
WORDS = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "hazel", "inlet", "jetty", "kayak", "larch")
START_S, DAY_S = 1.79e9, 86_400.0
POLICY = "max_worse=0.05"
SETTINGS = RetrainSettings(
    policy=POLICY, seed=2, min_test_rows=150, fit=FitSettings(), limits=GateLimits(latency_ms=1e4)
)


def write_answers(path: Path, n: int, seed: int, *, first_day: float, keeps_answers: bool = True) -> Path:
    """Write rows whose weak answer is a letter with a log-probability that tells most of how good it is."""
    rng = np.random.default_rng(seed)
    signal = -np.exp(rng.normal(-2.0, 2.0, n))
    match = rng.random(n) < 1.0 / (1.0 + np.exp(1.5 * (np.log(-signal) + 0.5)))
    answers = {
        "strong_response": ["A"] * n,
        "weak_response": ["A" if good else "B" for good in match],
        "weak_mean_logprob": signal,
    }
    table = {
        "id": [f"{seed}-{row}" for row in range(n)],
        "created": START_S + DAY_S * (first_day + 10 * np.arange(n) / n),
        "source": [("north", "south", "east")[row % 3] for row in range(n)],
        "prompt": [f"Question {seed} {row}: {' '.join(rng.choice(WORDS, 12))}?\nA) one\nB) two" for row in range(n)],
        "strong_score": [1.0] * n,
        "weak_score": match.astype(float),
        **(answers if keeps_answers else {}),
    }
    pq.write_table(pa.table(table), path)
    return path


@dataclass
class Scene:
    """A champion with a second look, in service, and where things lie."""

    folder: Path
    entry: Entry
    encoder: EncoderModel
    champion: Bundle
    cache: Path

    def retrained(self, log: Path, kept: Path | None = None, **changes: object) -> Retrained:
        settings = replace(SETTINGS, cache_dir=self.cache, **changes)
        with light_run():
            return retrain(find_logs([str(log)]), self.entry, kept, self.encoder, settings, QUIET)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, encoder: EncoderModel, dense_cache: Path) -> Scene:
    folder = tmp_path_factory.mktemp("second-look")
    log = write_answers(folder / "first.parquet", 1800, 1, first_day=0)
    settings = TrainSettings(name="router", fit=FitSettings(), cache_dir=dense_cache)
    with light_run():
        made = train(find_logs([str(log)]), folder / "new", encoder, settings, QUIET)
    version = made.manifest.version
    (folder / "models" / "router").mkdir(parents=True)
    (folder / "new").rename(folder / "models" / "router" / version)
    entry = Entry(folder / "models", "router")
    entry.promote(version)
    return Scene(folder, entry, encoder, load_bundle(entry.folder / version), dense_cache)


def check(checks: Sequence[Check], name: str) -> Check:
    return next(one for one in checks if one.name == name)


def test_a_challenger_without_answers_is_refused_and_the_reason_is_named(scene: Scene):
    log = write_answers(scene.folder / "mute.parquet", 900, 5, first_day=20, keeps_answers=False)
    before = scene.entry.current()
    done = scene.retrained(log)
    assert not done.is_promoted
    assert scene.entry.current() == before
    lost = check(done.verdict.checks, KEPT)
    assert (lost.is_met, lost.champion, lost.challenger) == (False, 1.0, 0.0)
    assert KEPT in outcome_line(done)
    assert done.manifest.second_look is None
    allowed = scene.retrained(log, may_lose_second_look=True, is_dry_run=True)
    assert KEPT not in {one.name for one in allowed.verdict.checks}


def test_both_looks_are_compared_on_rows_that_neither_saw_and_kept_rows_keep_their_answers(scene: Scene):
    log = write_answers(scene.folder / "second.parquet", 1500, 2, first_day=40)
    kept = scene.folder / "kept.parquet"
    done = scene.retrained(log, kept, is_forced=True)
    checks = done.verdict.checks
    assert check(checks, KEPT).is_met
    assert check(checks, ROWS).figure == done.verdict.rows >= 150
    compared = check(checks, f"{PREFIX}log loss")
    first = check(checks, "log loss")
    assert compared.champion < first.champion - 0.1  # the second look knows more than the prompt
    assert compared.challenger < first.challenger - 0.1
    assert {f"{PREFIX}quality at the policy", f"{PREFIX}calibration error above chance"} <= {one.name for one in checks}
    assert load_bundle(done.folder).checker is not None
    rows = read_kept(kept, KeptOrigin(done.manifest.pair, 0.0))
    assert {one.row.record.weak.content for one in rows} == {"A", "B"}
    assert all(one.row.record.weak.mean_logprob is not None for one in rows)
    small = write_answers(scene.folder / "third.parquet", 400, 3, first_day=60)
    again = scene.retrained(small, kept, is_dry_run=True)
    assert again.manifest.second_look.rows > 1500  # what was kept teaches again, its answers too


def rows_of(scene: Scene, n: int = 300) -> tuple[list, GateRows]:
    log = write_answers(scene.folder / f"rows-{n}.parquet", n, 9, first_day=80)
    records = read_records(find_logs([str(log)]), scene.champion.manifest.pair, Reading()).records
    weak = np.array([record.weak.score for record in records])
    return records, GateRows(
        match=(weak > 0).astype(np.int64),
        strong_score=np.ones(n),
        weak_score=weak,
        group=np.arange(n),
        weight=np.ones(n),
    )


def side(bundle: Bundle, **changes: object) -> Looker:
    return replace(Looker(bundle.model, bundle.checker, bundle.manifest.policy(POLICY)), **changes)


def test_a_second_look_that_knows_less_is_refused(scene: Scene):
    records, rows = rows_of(scene)
    champion, worse = side(scene.champion), side(scene.champion, checker=signal_checker())
    same = second_look_checks(champion, champion, records, rows, GateLimits(), seed=0)
    assert all(one.is_met for one in same)
    checks = second_look_checks(champion, worse, records, rows, GateLimits(), seed=0)
    assert not check(checks, f"{PREFIX}log loss").is_met
    back = second_look_checks(worse, champion, records, rows, GateLimits(), seed=0)
    assert check(back, f"{PREFIX}log loss").is_met


def test_a_first_second_look_is_held_against_the_look_that_there_was(scene: Scene):
    records, rows = rows_of(scene)
    without = side(scene.champion, checker=None)
    gained = second_look_checks(without, side(scene.champion), records, rows, GateLimits(), seed=0)
    assert check(gained, f"{PREFIX}log loss").is_met
    assert second_look_checks(without, without, records, rows, GateLimits(), seed=0) == []


def test_too_few_answers_to_compare_on_are_not_enough(scene: Scene):
    records, rows = rows_of(scene, 100)
    looker = side(scene.champion)
    kept, few = second_look_checks(looker, looker, records, rows, GateLimits(), seed=0)
    assert (kept.is_met, few.is_met, few.figure) == (True, False, 100.0)
