"""Nothing leaves the machine unasked: commands send only where they are told to, and leave no id behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import BUNDLE_ID
from tests.running import route, serve_command, server_process
from tests.strace import TURNOUT, Traced, running_for, traced
from turnout.serving.quiet import SWITCHES, keep_quiet
from turnout.training.sample.sample import write_sample

DEPLOY = Path(__file__).resolve().parents[2] / "serving" / "deploy"


def served(run: Traced, bundle: Path, workers: int, seconds: float) -> None:
    command = run.command(*serve_command(bundle, "127.0.0.1:0", workers=workers))
    with subprocess.Popen(
        command, env=run.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().rsplit(" ", 1)[-1].strip()
            for _ in running_for(process, seconds):
                assert route(address, 60, text="hello").bundle == BUNDLE_ID
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # strace itself blocks the signal and ends with its command
            process.wait(60)
    assert (run.addresses(), run.strangers()) == (set(), set())


@pytest.fixture
def run(tmp_path: Path) -> Traced:
    return traced(tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_sample(tmp_path / "log.jsonl", 300, seed=3)
    return tmp_path / "log.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_serve_speaks_with_nobody_but_its_callers(run: Traced, bundle_folder: Path, workers: int):
    served(run, bundle_folder, workers, seconds=3)


def test_route_in_process_speaks_with_nobody(run: Traced, bundle_folder: Path):
    run.ran(*TURNOUT, "route", "hello", "--bundle", bundle_folder)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_route_by_a_server_speaks_with_that_server_alone(run: Traced, bundle_folder: Path, tmp_path: Path, host: str):
    with server_process(bundle_folder, tmp_path / "log") as server:
        port = int(server.address.rpartition(":")[2])
        run.ran(*TURNOUT, "route", "hello", "--server", f"{host}:{port}")
    assert ("127.0.0.1", port) in run.endpoints()
    assert {of for _, of in run.endpoints()} == {port}


@pytest.mark.slow
def test_train_and_label_speak_with_nobody(run: Traced, log: Path, tmp_path: Path):
    run.ran(*TURNOUT, "label", log, "--out", tmp_path / "labels.parquet")
    run.ran(*TURNOUT, "train", log, "--out", tmp_path / "bundle", "--name", "quiet", "--no-cache")


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_minute_of_serving_speaks_with_nobody(run: Traced, bundle_folder: Path):
    served(run, bundle_folder, 2, seconds=60)


IMPORTS = "import {module}, onnxruntime, time; time.sleep(1)"


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["serving", "turnout.serving.client", "turnout.serving.server.worker", "training", "tests.conftest"]
)
def test_whatever_of_ours_comes_first_keeps_onnxruntime_quiet(run: Traced, module: str):
    run.ran(sys.executable, "-c", IMPORTS.format(module=module))


def test_what_these_tests_look_for_is_found(run: Traced):
    """UDP, and addresses that RFC 5737 and 3849 keep for documentation: no packet leaves by a connect."""
    code = (
        "import os, pathlib, socket\n"
        "for family, host in ((socket.AF_INET, '192.0.2.7'), (socket.AF_INET6, '2001:db8::7')):\n"
        "    try: socket.socket(family, socket.SOCK_DGRAM).connect((host, 53))\n"
        "    except OSError: pass\n"
        "folder = pathlib.Path.home() / '.cache/Vendor'\n"
        "folder.mkdir(parents=True)\n"
        "(folder / 'deviceid').write_text('x')\n"
    )
    subprocess.run(run.command(sys.executable, "-c", code), env=run.environment(), check=True)
    assert run.addresses() >= {"192.0.2.7"}
    assert run.strangers() == {".cache/Vendor/deviceid"}


def test_switches_that_the_operator_set_stay():
    on_purpose = {switch.variable: "as the operator wants" for switch in SWITCHES}
    chosen = dict(on_purpose)
    keep_quiet(chosen)
    assert chosen == on_purpose
    empty = dict.fromkeys(on_purpose, "")
    keep_quiet(empty)
    assert empty == {switch.variable: switch.value for switch in SWITCHES}


def _daft_is_quiet() -> bool:
    from daft.scarf_telemetry import opted_out

    return bool(opted_out())


def _ray_is_quiet() -> bool:
    from ray._common.usage.usage_lib import usage_stats_enabled

    return not usage_stats_enabled()


def _mlflow_is_quiet() -> bool:
    from mlflow.telemetry.utils import is_telemetry_disabled

    return bool(is_telemetry_disabled())


def _hugging_face_is_quiet() -> bool:
    from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY

    return HF_HUB_DISABLE_TELEMETRY


@pytest.mark.parametrize("is_quiet", [_daft_is_quiet, _ray_is_quiet, _mlflow_is_quiet, _hugging_face_is_quiet])
def test_the_dependency_itself_says_that_it_is_off(is_quiet: Callable[[], bool]):
    """The name of a switch may change between releases: it is the library that is asked."""
    try:
        assert is_quiet()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")


def test_images_set_every_switch_for_what_else_runs_in_them():
    stages = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    final = [stage for stage in stages if stage.partition("\n")[0].endswith((" AS training", " AS serving"))]
    assert len(final) == 2
    for image in final:
        assert {f"{switch.variable}={switch.value}" for switch in SWITCHES} <= set(image.split())
