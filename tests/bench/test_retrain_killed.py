"""Whole retrainings that are killed, and two at once: the registry stays whole, and one of the two does the work."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.log_builders import write_log
from tests.running import environment
from tests.training.runs import TrainingRun
from tests.training.test_retrain import later_rows, registry
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.registry import resolve

KILLS = 8
pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]


class Registry:
    """A champion, a log of traffic that has drifted, and the command that retrains on it."""

    def __init__(self, folder: Path, run: TrainingRun) -> None:
        self.entry: Entry = registry(folder / "models", run)
        self.log = write_log(folder / "log.jsonl", later_rows(900, 71, first_day=0))
        self.kept = folder / "kept.parquet"

    def start(self) -> subprocess.Popen[str]:
        words = ("--logs", self.log, "--champion", self.entry.folder, "--kept", self.kept, "--min-test-rows", 150)
        command = [
            sys.executable,
            "-m",
            "turnout.serving.cli.app",
            "retrain",
            *map(str, words),
            "--max-latency-ms",
            "9999",
        ]
        command += ["--quiet", "--json", "--no-cache"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True)


@pytest.fixture
def made(tmp_path: Path, training_run: TrainingRun) -> Registry:
    return Registry(tmp_path, training_run)


def test_current_names_a_whole_bundle_after_every_kill(made: Registry):
    champion, rng = made.entry.current(), random.Random(11)
    started = time.monotonic()
    running = made.start()
    out, err = running.communicate()
    assert running.returncode == 0, err
    took_s = time.monotonic() - started
    assert json.loads(out)["promoted"]
    made.entry.rollback()
    made.kept.unlink()
    for number in range(KILLS):
        running = made.start()
        time.sleep(took_s * (number + rng.random()) / KILLS)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        bundle = load_bundle(resolve(made.entry.folder))
        assert bundle.manifest.version == made.entry.current()
        for version in made.entry.versions():
            load_bundle(made.entry.folder / version)
        if made.entry.current() != champion:
            made.entry.rollback()
        made.kept.unlink(missing_ok=True)


def test_of_two_at_once_one_retrains_and_the_other_says_that_it_is_under_way(made: Registry):
    both = [made.start(), made.start()]
    ended = [running.communicate() for running in both]
    codes = sorted(running.returncode for running in both)
    assert codes == [0, 5], ended
    refused = next(err for running, (_, err) in zip(both, ended, strict=True) if running.returncode == 5)
    assert "another turnout retrain is at work" in refused
    assert len(made.entry.versions()) == 2
    assert len(made.entry.history()) == 2
