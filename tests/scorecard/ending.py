"""R23 and R24: how the service stops under load, and how it starts."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc

from tests.builders import tiny_bundle
from tests.running import SERVING, ServerProcess, health_of, route, run_to_exit, server_process
from tests.scorecard import load
from tests.scorecard.calibration import mixed_texts
from tests.scorecard.conditions import Conditions, median
from tests.scorecard.lines import Line, all_of, at_most, none_of, reported
from turnout.serving.bundles.bundle import GRAPH

LAME_DUCK_S = 0.5
LONGEST_LOAD_S = 3_600.0
"""The load is ended after the last stop."""


def stops(conditions: Conditions) -> Iterator[Line]:
    """R23: two replicas of two workers and of one; one after the other is stopped at a random instant."""
    dice, n_stops = random.Random(23), conditions.sized(fast=8, full=50)
    clean, late_s = 0, 0.0
    with ExitStack() as stack:
        replicas = [_replica(conditions, stack, n) for n in range(2)]
        targets = [one.address for one in replicas]
        running = load.start(load.Plan(targets=targets, texts=mixed_texts(), seconds=LONGEST_LOAD_S, callers=16))
        for n in range(n_stops):
            time.sleep(dice.uniform(0.3, 1.0))
            started, leaving = time.monotonic(), replicas[n % 2]
            leaving.process.terminate()
            clean += leaving.wait(30) == 0
            late_s = max(late_s, time.monotonic() - started)
            replicas[n % 2] = _replica(conditions, stack, n % 2, leaving.address)
        done = load.finish(running, at_once=True)
    yield all_of("R23", "stops with exit code 0", clean, n_stops)
    yield none_of("R23", "calls that failed in spite of one retry elsewhere", done.sent - done.ok, done.sent)
    yield reported("R23", "calls that needed the retry", done.retried, done.sent)
    yield at_most("R23", "longest stop, s", late_s, LAME_DUCK_S + 5.0 + 2.0, n_stops)
    yield from _second_signal(conditions)


def _replica(conditions: Conditions, stack: ExitStack, n: int, listen: str = "127.0.0.1:0") -> ServerProcess:
    log = conditions.scratch / f"replica-{time.monotonic_ns()}.log"
    options = {"listen": listen, "workers": 2 - n, "lame_duck_s": LAME_DUCK_S}
    return stack.enter_context(server_process(conditions.folder, log, "--no-early-exit", **options))


def _second_signal(conditions: Conditions) -> Iterator[Line]:
    took_s = []
    for workers in (1, 2):
        log = conditions.scratch / f"second-{workers}.log"
        with server_process(conditions.folder, log, workers=workers, lame_duck_s=30) as server:
            server.process.terminate()
            time.sleep(0.3)
            started = time.monotonic()
            server.process.terminate()
            server.wait()
            took_s.append(time.monotonic() - started)
    yield at_most("R23", "second SIGTERM to exit, s", max(took_s), 1, len(took_s))


def starts(conditions: Conditions) -> Iterator[Line]:
    """R24: starts that must fail, each with its own exit code, and one that must not.

    (That health says NOT_SERVING until the model is warm is a test: `test_not_serving_and_unavailable_until_warm`.)
    """
    good = tiny_bundle(conditions.scratch / "r24")
    half_written = shutil.copytree(good, conditions.scratch / "r24-half")
    (half_written / GRAPH).unlink()
    with server_process(good, conditions.scratch / "r24.log") as server:
        expected = {
            "no model": (3, conditions.scratch / "nothing", "127.0.0.1:0"),
            "half-written bundle": (3, half_written, "127.0.0.1:0"),
            "address that is none": (2, good, "nonsense"),
            "port taken": (4, good, server.address),
        }
        ended, took_s = {}, []
        for name, (_, folder, listen) in expected.items():
            started = time.monotonic()
            ended[name] = _exit_code(folder, listen)
            took_s.append(time.monotonic() - started)
    right = sum(ended[name] == code for name, (code, _, _) in expected.items())
    yield all_of("R24", "impossible starts with the exit code of their reason", right, len(expected))
    yield at_most("R24", "slowest of them, s", max(took_s), 2, len(took_s))
    yield from _good_start(conditions)


def _exit_code(folder: Path, listen: str) -> int:
    done = run_to_exit(folder, listen)
    return done.returncode if not done.stdout else -1  # a ready line is a lie


def _good_start(conditions: Conditions) -> Iterator[Line]:
    """Look at the health while a server starts, then make its first call."""
    seen, firsts, steadies = [], [], []
    for n in range(conditions.sized(fast=3, full=10)):
        with server_process(conditions.folder, conditions.scratch / f"good-{n}.log", "--no-early-exit") as server:
            seen.append(health_of(server.address))
            with grpc.insecure_channel(server.address) as channel:
                grpc.channel_ready_future(channel).result(10)
            times_ms = [_timed_ms(server.address) for _ in range(40)]
            firsts.append(times_ms[0])
            steadies.append(median(times_ms[20:]))
    yield all_of("R24", "servers SERVING when they say that they are ready", seen.count(SERVING), len(seen))
    yield at_most("R24", "first call over the steady p50", median(firsts) / median(steadies), 2, len(firsts))


def _timed_ms(address: str) -> float:
    started = time.perf_counter()
    route(address, text="Write a short poem about railway switches")
    return (time.perf_counter() - started) * 1e3
