"""R1 to R4: load that is steady, as much as there can be, too much, and over again."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.running import SERVING
from tests.scorecard import load
from tests.scorecard.conditions import Conditions
from tests.scorecard.lines import Line, all_of, at_least, at_most, none_of, reported
from tests.scorecard.service import service
from turnout.serving.settings import ServerSettings

OVERLOAD = 3.0
REFUSED = "RESOURCE_EXHAUSTED"
WORKERS = os.cpu_count() or 1
CHANNELS = 4 * WORKERS
"""Connections are spread by chance: with fewer, one worker would often have most of them."""


def steady(conditions: Conditions) -> Iterator[Line]:
    """R1: arrivals at 0.6 C, latency from the intended instant; a worker a core, as the server starts by default."""
    rate, seconds = 0.6 * conditions.calibration.rate, conditions.sized(fast=45.0, full=300.0)
    with service(conditions.folder, conditions.scratch, workers=WORKERS) as served:
        load.drive(conditions.plan(served, 2, channels=CHANNELS))
        before = served.route_codes()
        done = load.drive(conditions.plan(served, seconds, rate=rate, channels=CHANNELS))
        counted = served.route_codes() - before
    yield none_of("R1", "calls not answered at 0.6 C", done.sent - done.ok, done.sent)
    yield at_most("R1", "p99 at 0.6 C, ms", done.percentile_ms(99), conditions.steady_limit_ms, done.ok)
    yield reported("R1", "p50 at 0.6 C, ms", done.percentile_ms(50), done.ok)
    yield reported("R1", "p99 of the load's own lag, in the figures above, ms", done.late_ms, done.sent)
    yield ledger("R1", Counter(done.codes), counted)
    with service(conditions.folder, conditions.scratch) as served:
        load.drive(conditions.plan(served, 2))
        alone = load.drive(conditions.plan(served, conditions.sized(fast=20.0, full=60.0), rate=rate))
    # One queue at 0.6 of what serves it: the waiting alone has its 99th percentile near six mean times.
    yield reported("R1", "p99 at 0.6 C with one worker, ms", alone.percentile_ms(99), alone.ok)


def efficiency(conditions: Conditions) -> Iterator[Line]:
    """R2: 16 callers that wait for their answers, and one."""
    peak, calibration = conditions.peak, conditions.calibration
    yield at_least(
        "R2", "rate over in-process rate, per CPU s", peak.cpu_rate / calibration.cpu_rate, 0.8, peak.many.ok
    )
    yield reported("R2", "answers a second, 16 callers", peak.rate, peak.many.ok)
    beside_ms = peak.single.beside_model_ms
    yield at_most("R2", "p50 of one caller's time less the model's, ms", beside_ms, 1.5, peak.single.ok)
    yield reported("R2", "cores that the load itself took", peak.many.cpu_s / peak.many.wall_s, peak.many.sent)


def overload_and_recovery(conditions: Conditions) -> Iterator[Line]:
    """R3 and R4: three times what the model can do, then half of it; health on a connection of its own (R24).

    R3 is of one worker, so that the load has a core of its own; R4 of a worker a core, as R1, whose limit it shares.
    """
    rate = conditions.calibration.rate
    with service(conditions.folder, conditions.scratch) as served:
        load.drive(conditions.plan(served, 2))
        before = served.route_codes()
        with health_probe(served.address) as probe:
            over = load.drive(conditions.plan(served, conditions.sized(fast=15.0, full=60.0), rate=OVERLOAD * rate))
        counted = served.route_codes() - before
    yield from _overload(conditions, over)
    yield ledger("R3", Counter(over.codes), counted)
    yield none_of("R3", "health answers that were not SERVING", probe.wrong, len(probe.took_ms))
    yield at_most("R3", "p99 of health answers, ms", load.percentile(probe.took_ms, 99), 50, len(probe.took_ms))
    yield from _recovery(conditions, rate)
    yield from overload_as_shipped(conditions)


def _recovery(conditions: Conditions, rate: float) -> Iterator[Line]:
    with service(conditions.folder, conditions.scratch, workers=WORKERS) as served:
        load.drive(
            conditions.plan(served, conditions.sized(fast=8.0, full=30.0), rate=OVERLOAD * rate, channels=CHANNELS)
        )
        seconds = conditions.sized(fast=12.0, full=20.0)
        after = load.drive(conditions.plan(served, seconds, rate=0.5 * rate, channels=CHANNELS))
    late = sum(sent_s >= 2 for sent_s in after.sent_s)
    yield none_of("R4", "calls not answered at 0.5 C", after.sent - after.ok, after.sent)
    yield at_most(
        "R4", "p99 2 s after the overload, ms", after.percentile_ms(99, 2.0), conditions.steady_limit_ms, late
    )


def overload_as_shipped(conditions: Conditions) -> Iterator[Line]:
    """R3 with the fast head, where the event loop is the limit: three times its own rate, deadlines of 0.25 s."""
    with service(conditions.folder, conditions.scratch, early_exit=True) as served:
        load.drive(conditions.plan(served, 2))
        peak = load.drive(conditions.plan(served, 6))
        rate = OVERLOAD * peak.ok / peak.wall_s
        with health_probe(served.address) as probe:
            over = load.drive(conditions.plan(served, conditions.sized(fast=8.0, full=30.0), rate=rate, timeout_s=0.25))
        after = load.drive(conditions.plan(served, 6))
    peak_rate = (peak.ok / peak.wall_s + after.ok / after.wall_s) / 2
    # The load takes its share of the cores for each call it sends: what is left of the goodput depends on the machine.
    yield reported("R3", "as shipped: goodput over the peak", over.ok / over.wall_s / peak_rate, over.sent)
    yield reported("R3", "as shipped: p99 of accepted calls, ms", over.percentile_ms(99), over.ok)
    yield reported("R3", "as shipped: cores that the load itself took", over.cpu_s / over.wall_s, over.sent)
    yield none_of("R3", "as shipped: health answers not SERVING", probe.wrong, len(probe.took_ms))


def _overload(conditions: Conditions, over: load.Load) -> Iterator[Line]:
    settings = ServerSettings()
    peak_rate = conditions.peak.rate
    # All calls are of one tenant, that without a name, and it may hold its share of the queue.
    queue_ms = settings.max_queue_items * settings.max_tenant_share / peak_rate * 1e3
    refused = over.codes.get(REFUSED, 0)
    yield at_least("R3", "goodput at 3 C over R2's", over.ok / over.wall_s / peak_rate, 0.85, over.sent)
    yield at_most("R3", "p99 of accepted calls over the queue's bound", over.percentile_ms(99) / queue_ms, 2, over.ok)
    yield at_most("R3", "p99 of refusals, ms", load.percentile(over.refused_ms, 99), 10, refused)
    yield all_of("R3", f"calls not answered that are {REFUSED}", refused, over.sent - over.ok)
    yield reported("R3", "p50 of refusals, ms", load.percentile(over.refused_ms, 50), refused)
    yield reported("R3", "p99 of the load's own lag, in the figures above, ms", over.late_ms, over.sent)


def ledger(check: str, sent: Counter[str], counted: Counter[str]) -> Line:
    """Compare what the clients saw with what the server counted, to the unit."""
    difference = (sent - counted) + (counted - sent)
    return none_of(check, "calls that client and server count differently", difference.total(), sent.total())


class _Probe:
    """Asks for the health over and over, on a connection of its own.

    Attributes:
        took_ms: of each answer.
        wrong: answers other than SERVING, and calls that failed.
    """

    def __init__(self) -> None:
        self.took_ms: list[float] = []
        self.wrong = 0
        self.ended = threading.Event()

    def run(self, address: str) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            grpc.channel_ready_future(channel).result(10)
            stub = health_pb2_grpc.HealthStub(channel)
            while not self.ended.wait(0.02):
                started = time.perf_counter()
                try:
                    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
                except grpc.RpcError:
                    status = None
                self.took_ms.append((time.perf_counter() - started) * 1e3)
                self.wrong += status != SERVING


@contextlib.contextmanager
def health_probe(served: str) -> Iterator[_Probe]:
    """Ask a service for its health for as long as the body of the `with` runs."""
    probe = _Probe()
    thread = threading.Thread(target=probe.run, args=(served,))
    thread.start()
    try:
        yield probe
    finally:
        probe.ended.set()
        thread.join()
