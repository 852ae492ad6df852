"""A full folder for temporary files costs metrics, not workers; a killed server's folder goes with the next start."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_workers import eventually
from tests.running import environment, route
from tests.watching import watched_server
from turnout.serving.cli.scrape import scrape
from turnout.serving.observe.owned_folder import NAME, OWNED, owned_folder, sweep

COUNTING = """
import sys
import turnout.serving.observe.counts_file as counts_file
from turnout.serving.observe.metrics import ServerMetrics
counts_file.TRY_AGAIN_S = 0.0
metrics = ServerMetrics()
n = 0
for line in sys.stdin:
    for _ in range(int(line)):
        metrics.reloaded(f"kind-{n:06d}", ok=True)
        metrics.refused(f"cause-{n:06d}")
        n += 1
    metrics.sample(0)
    print(counts_file.n_unshared(), flush=True)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real tmpfs of 2 MB, or skip where that is not allowed."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("mount is not installed")
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all room that is left, to the last page."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return path


@contextlib.contextmanager
def counting(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", COUNTING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
    ) as process:
        yield process
        process.kill()


def unshared_after(process: subprocess.Popen[str], n_new: int) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    print(n_new, file=process.stdin, flush=True)
    line = process.stdout.readline()
    assert line, f"the worker ended: {process.wait(60)}"
    return int(line)


def shared(folder: Path, name: str) -> float:
    """Return the sum over all series of that metric, as a scrape of the folder reads it."""
    from turnout.serving.observe.exposition import workers_registry

    families = workers_registry(str(folder)).collect()
    return sum(sample.value for family in families for sample in family.samples if sample.name == f"turnout_{name}")


@pytest.mark.slow
@pytest.mark.parametrize("n_before", [0, 1, 900])
def test_full_at_any_time_costs_series_and_no_worker(small_disk: Path, n_before: int):
    with counting(small_disk) as process:
        assert unshared_after(process, n_before) == 0
        filler = fill(small_disk)
        missing = unshared_after(process, 2000)
        assert missing > 0
        assert shared(small_disk, "refusals_total") < 2000 + n_before
        filler.unlink()
        assert unshared_after(process, 1) < missing


def test_full_from_the_start_costs_series_and_no_worker_and_they_come_back(small_disk: Path):
    filler = fill(small_disk)
    with counting(small_disk) as process:
        assert unshared_after(process, 10) > 20
        assert shared(small_disk, "refusals_total") == 0
        filler.unlink()
        assert unshared_after(process, 10) == 0
        assert shared(small_disk, "refusals_total") == 20


def test_folder_of_a_killed_owner_goes_with_the_next_start_and_a_living_one_stays(tmp_path: Path):
    own = "import sys, pathlib\nfrom turnout.serving.observe.owned_folder import owned_folder\n"
    own += "with owned_folder(pathlib.Path(sys.argv[1])) as folder:\n    print(folder, flush=True); sys.stdin.read()"
    owners = []
    for _ in range(2):
        owner = subprocess.Popen(
            [sys.executable, "-c", own, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        owners.append((owner, Path(owner.stdout.readline().strip())))
    (killed, left), (living, kept) = owners
    (left / "counter_1.db").write_bytes(b"x")  # a process with that id lives: the lock decides
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    with owned_folder(tmp_path) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([kept, mine])
    assert list(tmp_path.iterdir()) == [kept]
    living.communicate("")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("pid", "age_s", "goes"), [(None, 0, False), (None, 3600, True), ("own", 3600, False)])
def test_folder_of_a_release_without_locks_goes_when_old_and_without_a_worker(
    tmp_path: Path, pid: str | None, age_s: int, goes: bool
):
    folder = tmp_path / f"{NAME}abc"
    folder.mkdir()
    (folder / f"counter_{os.getpid() if pid else 2**30}.db").write_bytes(b"")
    os.utime(folder, (folder.stat().st_mtime - age_s,) * 2)
    assert (sweep(tmp_path) == [folder]) is goes


def test_what_is_not_a_folder_of_ours_stays(tmp_path: Path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (tmp_path / f"{OWNED}link").symlink_to(other)
    (tmp_path / f"{OWNED}file").touch()
    assert sweep(tmp_path) == []
    assert other.is_dir()


def test_folder_that_somebody_removed_is_made_again_with_all_counts(bundle_folder: Path, tmp_path: Path):
    """As tools do that clean folders for temporary files; one that a living server locks is none of theirs."""
    with watched_server(bundle_folder, tmp_path / "log", workers=1) as (server, url):
        for _ in range(5):
            route(server.address, 60, text="hello")
        assert eventually(lambda: scrape(url, 60).total("turnout_decisions_total") == 5, 60)
        (folder,) = tmp_path.glob(f"{OWNED}*")
        shutil.rmtree(folder)
        for _ in range(5):
            route(server.address, 60, text="hello")
        assert eventually(lambda: scrape(url, 60).total("turnout_decisions_total") == 10, 60)
        assert eventually(lambda: scrape(url, 60).total("turnout_worker_ready") == 1, 60)
        assert f"somebody removed {folder}" in server.log.read_text()
        assert sweep(tmp_path) == []
        server.process.terminate()
        assert server.wait(60) == 0
    assert list(tmp_path.glob(f"{NAME}*")) == []
