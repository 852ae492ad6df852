"""R5, R6, R10, R11: peers that stay long, write much, crash, keep silent, or never read."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator

import grpc

from tests.scorecard import load
from tests.scorecard.conditions import Conditions, median
from tests.scorecard.lines import Line, all_of, at_most, none_of, reported
from tests.scorecard.service import Service, service
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD, ROUTE_STREAM_METHOD

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ODD_TEXTS = {
    "one byte": "a",
    "32 KiB": "word " * 6_553,
    "1 MB of one character": "x" * 1_000_000,
    "emoji": "\U0001f682" * 2_000,
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd " * 500,
    "combining marks": "e" + "\u0301" * 5_000,
}
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def soak(conditions: Conditions) -> Iterator[Line]:
    """R5: valid, refused and cancelled calls, and a reload every 20 s; memory, files and threads stay level."""
    rounds = conditions.sized(fast=6, full=90)
    samples: list[tuple[float, float, int, int]] = []
    with service(conditions.folder, conditions.scratch) as served:
        load.drive(conditions.plan(served, 10, callers=8, cancel_share=0.1))
        started, failed, sent = time.monotonic(), Counter[str](), 0
        for n in range(rounds):
            rate = 0.4 * conditions.calibration.rate
            done = load.drive(conditions.plan(served, 19, rate=rate, cancel_share=0.1, seed=n))
            failed.update({code: n for code, n in done.codes.items() if code not in ("OK", "CANCELLED")})
            sent += done.sent
            _odd_times(served, 1)
            served.server.process.send_signal(signal.SIGHUP)
            time.sleep(1)
            samples.append((time.monotonic() - started, served.rss_mib(), served.n_files(), served.n_threads()))
    settled = samples[len(samples) // 4 :]
    slope = statistics.linear_regression([one[0] for one in settled], [one[1] for one in settled]).slope
    yield at_most("R5", "growth of memory, MiB in 10 min", slope * 600, 1, len(settled))
    yield none_of("R5", "calls that failed", failed.total(), sent)
    for code, n in failed.items():
        yield reported("R5", f"of them {code}", n, sent)
    for place, name in ((2, "open files"), (3, "threads")):
        spread = max(one[place] for one in settled) - min(one[place] for one in settled)
        yield at_most("R5", f"largest less smallest number of {name}", spread, 4, len(settled))


def long_prompts(conditions: Conditions) -> Iterator[Line]:
    """R6: odd and long prompts beside others' calls at 0.3 C."""
    plan = {"rate": 0.3 * conditions.calibration.rate}
    with service(conditions.folder, conditions.scratch) as served:
        load.drive(conditions.plan(served, 2))
        usual_ms = _median_ms(served, "the ferry leaves at noon " * 102)
        times_ms = _odd_times(served, 9)
        alone = load.drive(conditions.plan(served, 8, **plan))
        beside = load.start(conditions.plan(served, 8, **plan))
        time.sleep(1)
        give_up_at = time.monotonic() + 6
        while time.monotonic() < give_up_at:
            _odd_times(served, 1)
            time.sleep(0.1)  # one such caller, not a flood: that is R3
        disturbed = load.finish(beside)
    answered = sum(times is not None for times in times_ms.values())
    yield all_of("R6", "odd prompts answered, or INVALID_ARGUMENT", answered, len(ODD_TEXTS))
    worst = max(times for times in times_ms.values() if times is not None)
    yield at_most("R6", "slowest of them over the time of 512 tokens", worst / usual_ms, 3, 9 * len(ODD_TEXTS))
    ratio = disturbed.percentile_ms(99) / alone.percentile_ms(99)
    yield at_most("R6", "others' p99 beside them over p99 without", ratio, 2, disturbed.ok)
    yield none_of("R6", "others' calls not answered", disturbed.sent - disturbed.ok, disturbed.sent)


def _odd_times(served: Service, repeats: int) -> dict[str, float | None]:
    """Return the median time of each odd prompt in ms; None for one with another code than the contract's."""
    times: dict[str, float | None] = {}
    for name, text in ODD_TEXTS.items():
        try:
            times[name] = _median_ms(served, text, repeats)
        except grpc.RpcError as error:
            times[name] = 0.0 if error.code() is INVALID else None
    return times


def _median_ms(served: Service, text: str, repeats: int = 9) -> float:
    raw = pb.RouteRequest(text=text).SerializeToString()
    times_ms = []
    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary(ROUTE_METHOD)
        for _ in range(repeats):
            started = time.perf_counter()
            call(raw, timeout=10, wait_for_ready=True)
            times_ms.append((time.perf_counter() - started) * 1e3)
    return median(times_ms[len(times_ms) > 1 :])  # the first one connects


def crashing_client(conditions: Conditions) -> Iterator[Line]:
    """R10: a client with 50 calls in flight is killed, over and over; another one does not notice."""
    dice, n_kills = random.Random(10), conditions.sized(fast=6, full=20)
    with service(conditions.folder, conditions.scratch, workers=2) as served:
        other = load.start(conditions.plan(served, n_kills * 2.0, rate=0.1 * conditions.calibration.rate))
        for n in range(n_kills):
            client = load.start(conditions.plan(served, 60, callers=50, seed=n))
            time.sleep(dice.uniform(1.0, 1.5))
            client.kill()
            client.communicate()
        ended = load.finish(other)
        in_flight = served.settled()
        alive = served.server.process.poll() is None
    yield all_of("R10", "servers alive after clients were killed", int(alive), 1)
    yield none_of("R10", "calls of another client not answered", ended.sent - ended.ok, ended.sent)
    yield at_most("R10", "calls in flight 5 s after the last kill", in_flight, 0, n_kills)


def silent_peers(conditions: Conditions) -> Iterator[Line]:
    """R11: sockets that say nothing or nonsense, and a client that reads none of its 1,000 replies."""
    with service(conditions.folder, conditions.scratch) as served:
        load.drive(conditions.plan(served, 2))
        time.sleep(1)
        files = served.n_files()
        with contextlib.ExitStack() as peers:
            for n in range(800):
                _silent(peers, served.address, n)
            _reads_nothing(peers, served.address)
            rate = 0.4 * conditions.calibration.rate
            done = load.drive(conditions.plan(served, conditions.sized(fast=5.0, full=20.0), rate=rate))
            held = served.n_files() - files
        give_up_at = time.monotonic() + 10
        while (left := served.n_files() - files) > 2 and time.monotonic() < give_up_at:
            time.sleep(0.1)
    yield none_of("R11", "valid calls not answered", done.sent - done.ok, done.sent)
    yield at_most("R11", "p99 of valid calls beside 800 silent sockets, ms", done.percentile_ms(99), 100, done.ok)
    yield reported("R11", "files that the silent peers held open", held, 800)
    yield at_most("R11", "files still open after they closed", left, 2, 800)


def _silent(stack: contextlib.ExitStack, address: str, n: int) -> None:
    host, _, port = address.rpartition(":")
    peer = stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
    said = (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE[:12], random.Random(n).randbytes(64))[n % 4]
    with contextlib.suppress(OSError):  # it may hang up on nonsense
        peer.sendall(said)


def _reads_nothing(stack: contextlib.ExitStack, address: str) -> None:
    channel = stack.enter_context(grpc.insecure_channel(address))
    request = pb.RouteStreamRequest(request=pb.RouteRequest(text="hello", request_id="x" * 8_000))
    stream = channel.stream_stream(ROUTE_STREAM_METHOD, pb.RouteStreamRequest.SerializeToString)
    stream(iter([request] * 1_000), timeout=120)
