"""Publishing to a real MLflow server: versions, files, figures and lineage arrive, once. `make test-mlflow` runs it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.builders import tiny_bundle, write_manifest
from tests.ports import free_port
from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.mlflow_registry import MlflowRefused, publish_versions

START_TIMEOUT_S = 90


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """Return a name with versions 1 to 3, each the parent of the next; 2 is in service."""
    for number in range(1, 4):
        version = tiny_bundle(tmp_path / "models" / "tiny" / f"{number}", version=f"{number}", bias=3.2 + number / 10)
        manifest = msgspec.structs.replace(
            read_manifest(version),
            parent=f"tiny/{number - 1}" if number > 1 else None,
            created=f"2026-11-0{number}T00:00:00Z",
            metrics={"auroc": 0.6 + number / 100, "cpt80": None},
        )
        write_manifest(version, manifest)
    found = Entry(tmp_path / "models", "tiny")
    found.promote("2")
    return found


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a tracking server with its registry in SQLite; yield its URI."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "server.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=quiet, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_healthy(uri, running)
            yield uri
        finally:
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(running.pid, 15)
            running.wait(20)


def _wait_until_healthy(uri: str, running: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end_s and running.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2) as reply:
            if reply.status == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"the MLflow server did not come up; exit code {running.poll()}")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_versions_arrive_once_with_files_figures_and_lineage(entry: Entry, tmp_path: Path):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed; make test-mlflow has it")
    pytest.importorskip("sqlalchemy", reason="MLflow is here without its server; make test-mlflow has it")
    with mlflow_server(tmp_path) as uri:
        first = publish_versions(entry, uri)
        assert [(one.bundle, one.version, one.is_new, one.is_champion) for one in first] == [
            ("tiny/1", "1", True, False),
            ("tiny/2", "2", True, True),
            ("tiny/3", "3", True, False),
        ]
        client = mlflow.MlflowClient(uri, uri)
        third = client.get_model_version("tiny", "3")
        assert (third.tags["turnout.bundle"], third.tags["turnout.parent"]) == ("tiny/3", "tiny/2")
        assert third.tags["turnout.parent_version"] == "2"
        assert client.get_run(third.run_id).data.metrics == {"auroc": pytest.approx(0.63)}
        files = mlflow.artifacts.download_artifacts(
            run_id=third.run_id, artifact_path="bundle", dst_path=str(tmp_path / "back"), tracking_uri=uri
        )
        assert load_bundle(Path(files)).manifest.bundle_id == "tiny/3"

        entry.promote("3")
        again = publish_versions(entry, uri)
        assert [(one.version, one.is_new, one.is_champion) for one in again] == [
            ("1", False, False),
            ("2", False, False),
            ("3", False, True),
        ]
        assert client.get_model_version_by_alias("tiny", "champion").version in (3, "3")
        assert len(client.search_model_versions("name = 'tiny'")) == 3


@pytest.mark.filterwarnings("default")
def test_server_that_is_not_there_or_mlflow_that_is_not_installed_is_named(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowRefused, match=r"127.0.0.1:9|extra `mlflow`"):
        publish_versions(entry, "http://127.0.0.1:9")
