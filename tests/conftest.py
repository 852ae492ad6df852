"""Fixtures for all tests: tiny bundles, and one server process that many tests share."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import prometheus_client.values  # noqa: F401  # first imported while a test serves by workers, it counts in files for ever
import pytest
from hypothesis import HealthCheck, settings

from tests.builders import tiny_bundle, tiny_ladder
from tests.running import ServerProcess, server_process
from tests.training.ladders import LadderRun, train_ladder
from tests.training.runs import TrainingRun, fewer_bootstraps, light_run, run_training
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.registry import find_encoder
from turnout.training.encoders.encoders import DEFAULT_ENCODER, EncoderModel, load_encoder

# pytest-timeout ends what hangs; a limit for each example fails on machines that others use as well.
settings.register_profile("turnout", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
settings.load_profile("turnout")

# Each test process has a core. Processes of joblib's beside it took two seconds of imports each and saved nothing.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")


LISTED = Path(__file__).with_name("longest_first.txt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; pytest-randomly has shuffled the rest."""
    place = {LISTED.parent / name: at for at, name in enumerate(LISTED.read_text().splitlines())}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take away the handlers of commands that a test ran in this process: their streams are closed by the next."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def quick_intervals(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take a tenth of the draws, but for benchmarks, whose figures are quoted."""
    with contextlib.nullcontext() if request.config.option.markexpr == "bench" else fewer_bootstraps():
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the processes of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def dense_cache(shared_folder: Path) -> Path:
    """Return the folder of dense vectors that all tests of this run share."""
    return shared_folder / "dense"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose p_match is NaN for prompts with a digit; not to be written to."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", nan_on_digits=True)


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="session")
def ladder_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ladder of gpt-4o-mini, gpt-4o and o3:high; a plus sign is out of distribution; not to be written to."""
    return tiny_ladder(tmp_path_factory.mktemp("bundles") / "ladder", plus_is_unfamiliar=True)


@pytest.fixture(scope="session")
def slow_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that takes about 10 ms for each question mark in the prompt."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "slow", work_per_question=40)


@pytest.fixture(scope="session")
def server(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start one server process for all tests that leave it as it was."""
    with server_process(bundle_folder, tmp_path_factory.mktemp("server") / "stderr.log") as running:
        yield running


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real outcomes beside the project (or `$TURNOUT_SHARED_DATA`), or skip."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TURNOUT_SHARED_DATA", default))
    if not (folder / "gpt-4o_gpt-4o-mini.parquet").exists():
        pytest.skip(f"real outcomes not found in {folder}; set TURNOUT_SHARED_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def encoder() -> EncoderModel:
    """Return the encoder that ships with the project."""
    return load_encoder(find_encoder(DEFAULT_ENCODER))


@pytest.fixture(scope="session")
def training_run(shared_folder: Path, dense_cache: Path, encoder: EncoderModel) -> TrainingRun:
    """Train once on 1,500 synthetic rows, for all tests that read the bundle, in whichever process."""
    with (shared_folder / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared_folder / "run.pickle"
        if not kept.exists():
            folder = shared_folder / "run"
            folder.mkdir()
            kept.write_bytes(pickle.dumps(run_training(folder, encoder, 1500, dense_cache)))
        run: TrainingRun = pickle.loads(kept.read_bytes())  # written above
        return run


@pytest.fixture(scope="session")
def ladder_run(shared_folder: Path, dense_cache: Path, encoder: EncoderModel) -> LadderRun:
    """Train a ladder of three once, for all tests that read the bundle, in whichever process."""
    with (shared_folder / "ladder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared_folder / "ladder.pickle"
        if not kept.exists():
            folder = shared_folder / "ladder"
            folder.mkdir()
            kept.write_bytes(pickle.dumps(train_ladder(folder, encoder, dense_cache)))
        run: LadderRun = pickle.loads(kept.read_bytes())  # written above
        return run


@pytest.fixture(scope="module")
def light_runs(training_run: TrainingRun) -> Iterator[None]:  # noqa: ARG001  # made before, as a whole
    """Make the runs of this file light ones; the run that all files share is whole."""
    with light_run():
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Return Debian's Chromium, or skip; it holds the event loop, so that no test of the module may run another."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium not found; install it by: make system-deps")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()
