"""`turnout label` on one machine and on a Ray cluster, from folders and object stores, killed and started again."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.fake_endpoint import API_KEY, fake_endpoint, first_shown
from tests.strace import TURNOUT, traced
from tests.training.judging import KEY_ENV, arguments, start, turnout
from tests.training.pipelines import GATEWAY_KINDS, STRONG, WEAK, gateway_line, write_logs
from turnout.training.errors import DataRefused
from turnout.training.logs import stored_files
from turnout.training.logs.sources import find_logs
from turnout.training.logs.stored_files import StoredFile
from turnout.training.pipeline.flow import SMALL_BYTES

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed")


def written(out: Path) -> tuple[bytes, bytes]:
    return out.read_bytes(), Path(f"{out}.quarantine.jsonl").read_bytes()


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_ray_cluster_writes_the_bytes_that_one_machine_writes_and_speaks_with_it_alone(tmp_path: Path):
    """Two workers, two logs that have to be joined, features, and a judge who is asked by both. Statistics are off."""
    (tmp_path / "logs").mkdir()
    write_logs(tmp_path / "logs", [*GATEWAY_KINDS, STRONG, WEAK] * 40, ["input", "output"] * 5)
    with fake_endpoint(answer=first_shown) as endpoint, tempfile.TemporaryDirectory() as short:
        judge = arguments(endpoint, "--judge-all", 20)
        command = ["label", tmp_path / "logs", "--quiet", "--keep", "features", *judge, "--out"]
        assert start(*command, tmp_path / "native.parquet").wait(240) == 0
        bill = endpoint.n_billed
        # Ray's sockets stand in the folder for temporary files, and a socket's path is short.
        run = replace(traced(tmp_path / "seen"), temporary=Path(short))
        run.ran(*TURNOUT, *command, tmp_path / "ray.parquet", "--engine", "ray", **{KEY_ENV: API_KEY})
        assert (endpoint.n_billed, bill > 40) == (2 * bill, True)
    assert len(run.programs("raylet", "gcs_server", "default_worker.py")) == 3  # they were seen
    assert written(tmp_path / "ray.parquet") == written(tmp_path / "native.parquet")
    verdicts = [(tmp_path / f"{name}.parquet.judge.jsonl").read_bytes() for name in ("native", "ray")]
    assert verdicts[0] == verdicts[1]


@needs_ray
@pytest.mark.parametrize(
    ("address", "says"),
    [("127.0.0.1:1", "[Errno 111] Connection refused"), ("nowhere", "expected HOST:PORT or ray://HOST:PORT")],
)
def test_a_cluster_that_is_not_there_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch, capsys, address: str, says: str
):
    (log,) = write_logs(tmp_path, ["reference"])
    command = ["label", log, "--quiet", "--out", tmp_path / "l.parquet", "--engine", "ray", "--ray-address", address]
    ended = turnout(monkeypatch, capsys, *command)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.rstrip().endswith(f"--ray-address: no Ray cluster at {address}: {says}")


@pytest.mark.parametrize(("given", "says"), [({}, "0 0"), ({"DAFT_ANALYTICS_ENABLED": "1"}, "1 0")])
def test_engines_are_loaded_late_and_tell_nobody_unless_they_may(given: dict[str, str], says: str):
    script = (
        "import os, sys, turnout.serving.cli.app; assert not {'daft', 'ray'} & sys.modules.keys();"
        "import turnout.training.pipeline.engine;"
        "print(os.environ['DAFT_ANALYTICS_ENABLED'], os.environ['RAY_USAGE_STATS_ENABLED'])"
    )
    names = ("DAFT_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)} | given
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.stdout.strip(), ended.returncode) == (says, 0), ended.stderr


def test_options_that_contradict_one_another_are_refused(tmp_path: Path, monkeypatch, capsys):
    (log,) = write_logs(tmp_path, ["reference"])
    command = ["label", log, "--out", tmp_path / "l.parquet"]
    for more, says in (
        (["--ray-address", "127.0.0.1:1"], "--ray-address needs --engine ray"),
        (["--engine", "spark"], "spark"),
    ):
        ended = turnout(monkeypatch, capsys, *command, *more)
        assert (ended.code, says in " ".join(ended.err.split())) == (2, True), ended.err


def test_nothing_is_written_where_nothing_may_be(tmp_path: Path, monkeypatch, capsys):
    (log,) = write_logs(tmp_path, ["reference"])
    ended = turnout(monkeypatch, capsys, "label", log, "--out", tmp_path / "absent" / "l.parquet")
    assert (ended.code, ended.out) == (1, "")
    assert "l.parquet: cannot be written: No such file or directory" in ended.err


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Give a bucket `logs` in an S3 server on this machine, where the environment leads."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    lead_to(monkeypatch, f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket="logs")
    yield client
    client.close()
    forget = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(forget).close()  # or the next server of this process has the bucket too
    server.stop()


def lead_to(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    stored_files._store.cache_clear()


@pytest.mark.slow
def test_logs_in_an_object_store_give_what_they_give_here(tmp_path: Path, bucket, monkeypatch, capsys):
    (tmp_path / "logs").mkdir()
    logs = write_logs(tmp_path / "logs", [*GATEWAY_KINDS] * 30, ["input", "output"] * 3)
    for log in logs:
        bucket.upload_file(str(log), "logs", f"2026/{log.name}")
    bucket.put_object(Bucket="logs", Key="2026/.hidden", Body=b"no log")
    ended = {
        where: turnout(monkeypatch, capsys, "label", where, "--json", "--quiet", "--out", tmp_path / "l.parquet")
        for where in (str(tmp_path / "logs"), "s3://logs/2026", "s3://logs/*/*l*")
    }
    assert {one.code for one in ended.values()} == {0}, ended
    assert len({one.out for one in ended.values()}) == 1, ended


def test_urls_stand_for_files_folders_and_patterns(bucket):
    for key in ("a/one.jsonl", "a/two.csv.gz", "a/b/three.jsonl"):
        bucket.put_object(Bucket="logs", Key=key, Body=b"{}\n")
    assert find_logs(["s3://logs/a"]) == [StoredFile("s3://logs/a/one.jsonl"), StoredFile("s3://logs/a/two.csv.gz")]
    assert find_logs(["s3://logs/a/**/*.jsonl", "s3://logs/a/one.jsonl"]) == [
        StoredFile("s3://logs/a/b/three.jsonl"),
        StoredFile("s3://logs/a/one.jsonl"),
    ]
    two = StoredFile("s3://logs/a/two.csv.gz")
    assert (two.name, two.suffixes, two.open().read()) == ("two.csv.gz", [".csv", ".gz"], b"{}\n")
    with pytest.raises(DataRefused, match=r"s3://logs/a/\*.txt: no file there"):
        find_logs(["s3://logs/a/*.txt"])


class Forbidden(BaseHTTPRequestHandler):
    """An object store that lets nobody in."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  # the name that the base class calls

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbidden)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lead_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def refusal(tmp_path: Path, monkeypatch, capsys, log: str) -> str:
    ended = turnout(monkeypatch, capsys, "label", log, "--quiet", "--out", tmp_path / "l.parquet")
    assert (ended.code, ended.out, list(tmp_path.iterdir())) == (1, "", [])
    (line,) = ended.err.splitlines()
    return line


@pytest.mark.usefixtures("bucket")
def test_an_object_that_is_absent_and_a_scheme_nobody_knows_are_one_line(tmp_path: Path, monkeypatch, capsys):
    assert "s3://logs/none.jsonl: cannot be read: " in refusal(tmp_path, monkeypatch, capsys, "s3://logs/none.jsonl")
    assert "s3://nobucket/a.jsonl: cannot be" in refusal(tmp_path, monkeypatch, capsys, "s3://nobucket/a.jsonl")
    assert "zz://a/b: cannot be listed: " in refusal(tmp_path, monkeypatch, capsys, "zz://a/b")


@pytest.mark.usefixtures("forbidden")
def test_a_store_that_lets_nobody_in_is_one_line(tmp_path: Path, monkeypatch, capsys):
    assert "ACCESS_DENIED" in refusal(tmp_path, monkeypatch, capsys, "s3://logs/a.jsonl")


@pytest.mark.bench  # six seconds go by before the store's client gives up
def test_a_store_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch, capsys):
    lead_to(monkeypatch, "http://127.0.0.1:1")
    assert "s3://logs/a.jsonl: cannot be" in refusal(tmp_path, monkeypatch, capsys, "s3://logs/a.jsonl")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kills", "more"),
    [
        (1, ()),
        pytest.param(20, (), marks=pytest.mark.bench),
        pytest.param(5, ("--keep", "features"), marks=pytest.mark.bench),
    ],
)
def test_killed_at_random_moments_it_leaves_no_part_of_a_result_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, more: tuple[str, ...]
):
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    kinds = [*GATEWAY_KINDS] * 40
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(gateway_line(kind, number) for number, kind in enumerate(kinds)) * 60)
    assert log.stat().st_size > SMALL_BYTES  # so that there are processes to outlive it
    chance, out, untouched = random.Random(kills), tmp_path / "killed.parquet", tmp_path / "untouched.parquet"
    started_s = time.monotonic()
    assert start("label", log, "--quiet", *more, "--out", untouched).wait(120) == 0
    took_s = time.monotonic() - started_s
    killed = 0
    while killed < kills:
        process = start("label", log, "--quiet", *more, "--out", out)
        time.sleep(chance.uniform(0, took_s))
        process.send_signal(signal.SIGKILL)
        if process.wait(60) == -signal.SIGKILL:
            killed += 1
        for path, whole in zip((out, Path(f"{out}.quarantine.jsonl")), written(untouched), strict=True):
            assert not path.exists() or path.read_bytes() == whole
    assert start("label", log, "--quiet", *more, "--out", out).wait(120) == 0
    assert written(out) == written(untouched)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
