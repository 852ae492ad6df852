"""R12 to R16: whatever the bytes, a code of the contract; no prompt and no fault's text leaves; NaN is no route."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.builders import tiny_bundle
from tests.faults.test_leaks import CANARY, INCIDENT, bad_requests
from tests.running import route, server_in_loop
from tests.scorecard.conditions import Conditions
from tests.scorecard.lines import Line, all_of, at_most, none_of
from tests.scorecard.service import service
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.cli.scrape import scrape
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

OK, INVALID, NOT_FOUND, EXHAUSTED, INTERNAL = (
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
)
MIB = 1 << 20
CONTRACT = {OK, INVALID, NOT_FOUND}

_words = st.text(max_size=200)
_requests = st.builds(
    pb.RouteRequest,
    request_id=_words,
    text=st.none() | _words,
    policy=st.just("") | _words,
    threshold=st.none() | st.floats(width=64),
    bundle=st.just("") | _words,
    session_id=_words,
    tenant=_words,
    task=_words,
    cached_tokens=st.integers(-(2**31), 2**31 - 1),
    expected_output_tokens=st.none() | st.integers(-(2**31), 2**31 - 1),
    explain=st.booleans(),
)


class _Caller:
    """One connection on which anything is sent.

    Attributes:
        codes: how the calls ended.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self.codes: Counter[grpc.StatusCode] = Counter()
        self._call = channel.unary_unary(ROUTE_METHOD)

    def send(self, raw: bytes, **more: Any) -> str:
        """Send bytes; return details and trailers of a failure as one text."""
        try:
            self._call(raw, timeout=60, **more)
        except grpc.RpcError as error:
            self.codes[error.code()] += 1
            return f"{error.details()} {error.trailing_metadata()} {error.initial_metadata()}"
        self.codes[OK] += 1
        return ""

    def outside(self, allowed: set[grpc.StatusCode]) -> int:
        """Return how many calls ended with another code."""
        return sum(count for code, count in self.codes.items() if code not in allowed)


def structured_fuzz(conditions: Conditions) -> Iterator[Line]:
    """R12: any value in any field."""
    n_cases = conditions.sized(fast=2_000, full=20_000)
    with service(conditions.folder, conditions.scratch) as served, grpc.insecure_channel(served.address) as channel:
        caller = _Caller(channel)

        @seed(12)
        @settings(
            max_examples=n_cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(_requests)
        def send(request: Any) -> None:
            caller.send(request.SerializeToString())

        send()
        alive = route(served.address, text="hello").model
    yield none_of("R12", "requests answered outside the contract", caller.outside(CONTRACT), caller.codes.total())
    yield all_of("R12", "servers alive after them", int(bool(alive)), 1)


def raw_fuzz(conditions: Conditions) -> Iterator[Line]:
    """R13: valid requests with bytes changed, cut out, doubled and spliced."""
    n_cases, dice = conditions.sized(fast=5_000, full=100_000), random.Random(13)
    seeds = [
        pb.RouteRequest(text="hello the word", policy="max_worse=0.01", threshold=0.5).SerializeToString(),
        pb.RouteRequest(openai_body=b'{"messages": [{"role": "user", "content": "hello"}]}').SerializeToString(),
        pb.RouteRequest(messages=pb.Messages(messages=[pb.Message(role="user", text="hi")])).SerializeToString(),
    ]
    with service(conditions.folder, conditions.scratch) as served, grpc.insecure_channel(served.address) as channel:
        caller = _Caller(channel)
        for _ in range(500):
            caller.send(_mutated(dice.choice(seeds), dice))
        rss_mib = served.rss_mib()
        for _ in range(n_cases):
            caller.send(_mutated(dice.choice(seeds), dice))
        grown_mib = served.rss_mib() - rss_mib
        alive = route(served.address, text="hello").model
    yield none_of("R13", "mutated requests answered outside the contract", caller.outside(CONTRACT), n_cases)
    yield all_of("R13", "servers alive after them", int(bool(alive)), 1)
    yield at_most("R13", "growth of memory, MiB", grown_mib, 20, n_cases)


def _mutated(raw: bytes, dice: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0 if place < len(changed):
                changed[place] ^= 1 << dice.randrange(8)
            case 1:
                del changed[place : place + dice.randint(1, 8)]
            case 2:
                changed[place:place] = dice.randbytes(dice.randint(1, 8))
            case _:
                changed[place:place] = raw[dice.randrange(len(raw)) :]
    return bytes(changed)


def sizes(conditions: Conditions) -> Iterator[Line]:
    """R14: up to 64 MiB, compressed bombs, and too much metadata."""
    bombs_mib = conditions.sized(fast=(100,), full=(100, 400))
    with service(conditions.folder, conditions.scratch) as served:
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(served.address, options) as channel:
            small, large, metadata = (_Caller(channel) for _ in range(3))
            for n_bytes in (1, 1_000, 100_000, 3 * MIB):
                small.send(pb.RouteRequest(text="x" * n_bytes).SerializeToString())
            peak_mib = served.peak_rss_mib()
            for n_mib in (5, 15, 17, 64):
                large.send(pb.RouteRequest(text="x" * (n_mib * MIB)).SerializeToString())
            for n_mib in bombs_mib:
                raw = pb.RouteRequest(text="x" * (n_mib * MIB)).SerializeToString()
                large.send(raw, compression=grpc.Compression.Gzip)
            raw = pb.RouteRequest(text="hello").SerializeToString()
            metadata.send(raw, metadata=[("x-large", "x" * (64 << 10))])
            metadata.send(raw, metadata=[(f"x-{n}", "1") for n in range(10_000)])
        grown_mib = served.peak_rss_mib() - peak_mib
        alive = route(served.address, text="hello").model
    yield none_of("R14", "requests up to 3 MiB not answered", small.outside({OK}), small.codes.total())
    refused = large.codes[INVALID] + large.codes[EXHAUSTED]
    yield all_of("R14", "over the limit: INVALID_ARGUMENT or RESOURCE_EXHAUSTED", refused, large.codes.total())
    yield none_of("R14", "too much metadata: neither answered nor refused", _odd(metadata), metadata.codes.total())
    yield at_most("R14", "peak memory above that of 3 MiB, MiB", grown_mib, 64, large.codes.total())
    yield all_of("R14", "servers alive after them", int(bool(alive)), 1)


def _odd(caller: _Caller) -> int:
    return caller.outside({OK, INVALID, EXHAUSTED})


def leaks(conditions: Conditions) -> Iterator[Line]:
    """R15: faults of ours and of callers, with a canary in every prompt and every name."""
    folder = tiny_bundle(conditions.scratch / "r15", nan_on_digits=True)
    faults = [pb.RouteRequest(text=f"{n} {CANARY}", session_id=CANARY).SerializeToString() for n in range(10)]
    with service(folder, conditions.scratch) as served:
        with grpc.insecure_channel(served.address) as channel:
            caller = _Caller(channel)
            told = [caller.send(raw) for raw in (*faults, *bad_requests())]
        counted = "\n".join(map(str, scrape(served.metrics_url, 60).series))
        served.server.process.terminate()
        served.server.wait()
        logged = served.server.log.read_text()
    found = sum(CANARY in text for text in (*told, counted, logged))
    yield none_of("R15", "canaries in status, trailers, metrics or log", found, len(told) + 2)
    incidents = len(set(INCIDENT.findall(logged)))
    yield all_of("R15", "faults of ours that left an incident in the log", min(incidents, len(faults)), len(faults))


@dataclasses.dataclass
class _Fault:
    """What is put in a graph's way: `put` changes its structural measures, `gives` stands for its p_match; or None."""

    put: Callable[[np.ndarray], np.ndarray] | None = None
    gives: float | None = None


class _Faulty:
    """An ONNX session with a fault."""

    def __init__(self, session: Any, fault: _Fault) -> None:
        self._session = session
        self._fault = fault

    def run(self, names: Any, values: Any) -> Any:
        if self._fault.put is not None:
            values = values | {"structural": self._fault.put(values["structural"])}
        p_match, *others = self._session.run(names, values)
        return (p_match if self._fault.gives is None else np.float64(self._fault.gives)), *others


def _with(fault: _Fault, stage: Any) -> Any:
    """Return a model, or its first stage, whose graph has the fault."""
    stage, session = copy.copy(stage), copy.copy(stage._session)
    session._session = _Faulty(session._session, fault)
    stage._session = session
    return stage


def _feature(number: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda structural: np.full_like(structural, number)


def not_numbers(conditions: Conditions) -> Iterator[Line]:
    """R16: NaN, infinity and what is no probability, at the features and behind the calibrator."""
    logging.getLogger("turnout").setLevel(logging.CRITICAL)  # ten incidents are meant to be
    wrong = (float("nan"), float("inf"), float("-inf"), 1.0 + 1e-9, -1e-9)
    faults = [(None, number) for number in wrong]
    faults += [(_feature(number), None) for number in wrong[:1]]
    harmless = [(_feature(1e-45), None), (None, 5e-324)]  # the smallest numbers of float32 and float64
    codes, fine = asyncio.run(_injected(load_bundle(conditions.folder), faults, harmless))
    yield all_of("R16", "no number from the graph: INTERNAL, never a route", codes[INTERNAL], len(faults))
    yield all_of("R16", "denormal numbers: a route", fine[OK], len(harmless))


async def _injected(bundle: Bundle, *groups: list) -> list[Counter[grpc.StatusCode]]:
    fault = _Fault()
    faulty = dataclasses.replace(bundle, model=_with(fault, bundle.model), fast_head=_with(fault, bundle.fast_head))
    counts = []
    async with (
        server_in_loop(faulty) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = channel.unary_unary(ROUTE_METHOD, pb.RouteRequest.SerializeToString)
        for group in groups:
            codes: Counter[grpc.StatusCode] = Counter()
            for fault.put, fault.gives in group:
                try:
                    await call(pb.RouteRequest(text="hello"), timeout=5)
                    codes[OK] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code()] += 1
            counts.append(codes)
    return counts
