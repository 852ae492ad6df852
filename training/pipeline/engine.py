"""Engine: Daft, which has workers do the units, in processes of this machine or on a Ray cluster.

Comes in: what to do with a unit, and units as bytes. Goes out: pieces as bytes, in any order: Ray gives them back as
they are done. Neither Daft nor Ray tells anybody what it is used for, unless the environment says that it may
(`turnout.serving.quiet`).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.training.errors import EngineRefused, MissingExtra
from turnout.training.pipeline.choice import EngineChoice, EngineName

os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # ours stays; read when Daft is imported

import daft
from daft.runners import get_or_infer_runner_type

import turnout

Do = Callable[[bytes], bytes]
"""Does a unit and returns its piece."""


PARTITIONS_A_WORKER = 64
"""On Ray, where the pieces of a partition come back together: many, so that little is held, but each is a task."""


REACH_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 30.0

ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""At 0, Ray takes the loopback for a cluster of one machine, on every system; else it listens where others reach it."""

_OURS = ("", "local")
"""Addresses that mean a cluster of our own, for as long as this process runs."""
_HERE = (*_OURS, "auto")
"""Addresses that name no host."""


@dataclass(frozen=True)
class Engine:
    """Runs units on workers; opened by `open_engine`, one a process.

    Attributes:
        n_workers: done at the same time.
        shares_disk: whether workers see the files that this process writes.
    """

    n_workers: int
    shares_disk: bool

    def run(
        self, make_worker: Callable[[], Do], units: Sequence[bytes], *, in_threads: bool = False
    ) -> Iterator[bytes]:
        """Yield the piece of each unit, in any order.

        Args:
            make_worker: called once in each worker; Daft pickles it.
            units: done one at a time by each worker.
            in_threads: whether workers of this machine are threads, which start at once: for what mostly waits for
                files, or is soon done.

        Raises:
            RuntimeError: pieces are missing.
        """
        n_workers = min(self.n_workers, len(units))
        if not n_workers:
            return
        frame = daft.from_pydict({"unit": list(units)})
        if not self.shares_disk:
            how = _cluster(n_workers)
            frame = frame.into_partitions(min(len(units), PARTITIONS_A_WORKER * n_workers))
        else:
            how = _threads() if in_threads or n_workers == 1 else _processes(n_workers)
        worker = how(_Worker)(make_worker)
        frame = frame.select(worker.do(frame["unit"]).alias("piece"))
        n_pieces = 0
        with _our_packages_first():
            for batch in frame.to_arrow_iter(results_buffer_size=2 * n_workers):
                for piece in batch.column("piece"):
                    n_pieces += 1
                    yield piece.as_py()
        if n_pieces != len(units):
            raise RuntimeError(f"{len(units)} units gave {n_pieces} pieces")


@contextmanager
def _our_packages_first() -> Iterator[None]:
    """Let processes import our package and not what happens to be called `turnout` in the folder they start in."""
    root = str(Path(turnout.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    os.environ |= {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _threads() -> Any:
    return daft.cls(use_process=False)  # given max_concurrency, Daft takes processes all the same


def _processes(n_workers: int) -> Any:
    return daft.cls(use_process=True, max_concurrency=n_workers)


def _cluster(n_workers: int) -> Any:
    return daft.cls(cpus=1, max_concurrency=n_workers)


class _Worker:
    """A worker as Daft sees it."""

    def __init__(self, make_worker: Callable[[], Do]) -> None:
        self._do = make_worker()

    @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)  # type: ignore[untyped-decorator]
    def do(self, units: daft.Series) -> list[bytes]:
        return [self._do(unit) for unit in units.to_pylist()]


def open_engine(choice: EngineChoice) -> Engine:
    """Return the engine that the operator chose.

    Raises:
        EngineRefused: there is no cluster at the address.
        MissingExtra: Ray is not installed.
    """
    if choice.name is EngineName.NATIVE:
        if get_or_infer_runner_type() != EngineName.NATIVE:  # the default; a runner can't be set twice
            daft.set_runner_native()
        return Engine(os.cpu_count() or 1, shares_disk=True)
    address = choice.ray_address or os.environ.get("RAY_ADDRESS", "")
    if address in _OURS:
        os.environ.setdefault(ON_LOOPBACK, "0")  # read when Ray is imported
    try:
        import ray  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", error.name or "ray") from error
    _connect(ray, address)
    daft.set_runner_ray(None, noop_if_initialized=True)
    return Engine(max(1, int(ray.cluster_resources().get("CPU", 1))), shares_disk=False)


def _connect(ray: Any, address: str) -> None:
    where = address or "this machine"
    try:
        if address not in _HERE:
            _reach(address)
        if address not in _OURS:
            with _within(CONNECT_TIMEOUT_S, where):
                _init(ray, address)
                ray.cluster_resources()
        else:
            with _without_dashboard(ray):
                _init(ray, "local")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise EngineRefused(f"--ray-address: no Ray cluster at {where}: {_first_line(error)}") from error


def _init(ray: Any, address: str) -> None:
    # "local" is a cluster of our own: without it Ray would look for one, and wait for one that is long dead where
    # /tmp/ray/ray_current_cluster still names it.
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)


@contextmanager
def _without_dashboard(ray: Any) -> Iterator[None]:
    """Start no process for the dashboard, which asks the clouds' metadata service (169.254.169.254) where it runs.

    It does so with the dashboard and the statistics of use switched off as well, and has no switch of its own. Where a
    later release calls it otherwise it starts, and `tests/faults/test_nothing_leaves.py` tells.
    """
    node = ray._private.node.Node  # noqa: SLF001  # the one place where it is decided
    starting = getattr(node, "start_api_server", None)
    node.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        node.start_api_server = starting


@contextmanager
def _within(timeout_s: float, where: str) -> Iterator[None]:
    """End the process with exit code 1 and the reason when the block takes longer: Ray can't be interrupted.

    Nothing has been read or written by then.
    """

    def give_up() -> None:
        reason = f"no answer within {timeout_s:.0f} s; start the cluster, or leave the address out"
        print(f"--ray-address: no Ray cluster at {where}: {reason}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _reach(address: str) -> None:
    """Fail at once where nothing listens: Ray tries for a minute, and its client ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("expected HOST:PORT or ray://HOST:PORT")
    socket.create_connection((host, int(port)), REACH_TIMEOUT_S).close()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
