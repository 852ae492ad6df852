"""One turn of one variant: start, latency by length, throughput, load below it; goes out as a `Turn`."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass

import msgspec
import numpy as np

from tests.bench.serving.load import CALL_TIMEOUT_S, Session, drive
from tests.bench.serving.processes import NotMeasured, Running, running
from tests.bench.serving.prompts import LENGTHS, of_length
from tests.bench.serving.variants import Variant
from tests.scorecard.load import Load, Plan

CALLERS = 8
LOADED_SHARE = 0.6
"""Load of the open loop, as a share of the closed loop's throughput in the same turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """How long each part of a turn takes, in seconds: each length, the closed loop, the open loop, warming up.

    Each length is warmed up by itself: oneDNN compiles its kernels for each shape, 0.3 s for the first call of it.
    """

    length: float = 0.6
    throughput: float = 2.5
    loaded: float = 2.0
    warm_up: float = 0.4

    def scaled(self, factor: float) -> Seconds:
        """Return all of them times `factor`."""
        return Seconds(**{name: factor * value for name, value in asdict(self).items()})


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn gave; None where a variant in process has no such figure.

    Attributes:
        start_s: from the start of the process to its first answer.
        p50_ms, p99_ms: one caller on one connection, by prompt length in tokens.
        calls_per_s: decisions on the mix with `CALLERS` callers; in process with one.
        mix_p50_ms: on the mix, with as many callers.
        cpu_s_per_1000: server CPU, children included, for 1,000 decisions of the mix.
        loaded_p50_ms, loaded_p99_ms: open loop at `LOADED_SHARE` of `calls_per_s`, from the intended instant.
        pss_mib: after the load.
        failed: calls that got no answer.
    """

    start_s: float
    p50_ms: dict[int, float]
    p99_ms: dict[int, float]
    calls_per_s: float
    mix_p50_ms: float
    cpu_s_per_1000: float
    loaded_p50_ms: float | None
    loaded_p99_ms: float | None
    pss_mib: float
    failed: int = 0


def turn(variant: Variant, mix: list[str], seconds: Seconds, upstream: str) -> Turn:
    """Start a variant, measure it, end it; raises `NotMeasured`."""
    with running(variant, upstream) as alive:
        return _in_process(alive, mix, seconds) if variant.protocol is None else _served(variant, alive, mix, seconds)


def _in_process(alive: Running, mix: list[str], seconds: Seconds) -> Turn:
    def timed(texts: list[str], for_s: float) -> dict:
        print(json.dumps({"texts": texts, "seconds": for_s}), file=alive.process.stdin, flush=True)
        return json.loads(alive.process.stdout.readline())

    alone = {}
    for tokens in LENGTHS:
        timed(of_length(tokens), seconds.warm_up)
        alone[tokens] = timed(of_length(tokens), seconds.length)["latency_ms"]
    timed(mix, seconds.warm_up)
    mixed = timed(mix, seconds.throughput)
    decisions = len(mixed["latency_ms"])
    return Turn(
        start_s=alive.start_s,
        p50_ms=_percentiles(alone, 50),
        p99_ms=_percentiles(alone, 99),
        calls_per_s=decisions / mixed["wall_s"],
        mix_p50_ms=statistics.median(mixed["latency_ms"]),
        cpu_s_per_1000=1000 * mixed["cpu_s"] / decisions,
        loaded_p50_ms=None,
        loaded_p99_ms=None,
        pss_mib=alive.pss_mib(),
    )


def _served(variant: Variant, alive: Running, mix: list[str], seconds: Seconds) -> Turn:
    def loads(*plans: Plan) -> list[Load]:
        return drive(Session(variant.protocol, list(plans)))

    def plan(texts: list[str], for_s: float, **options: float) -> Plan:
        return Plan(targets=[alive.target], texts=texts, seconds=for_s, timeout_s=CALL_TIMEOUT_S, **options)

    by_length = loads(
        *(
            plan(of_length(tokens), for_s, callers=1, channels=1)
            for tokens in LENGTHS
            for for_s in (seconds.warm_up, seconds.length)
        )
    )
    loads(plan(mix, seconds.warm_up, callers=CALLERS))
    before_s = alive.cpu_s()
    (closed,) = loads(plan(mix, seconds.throughput, callers=CALLERS))
    cpu_s = alive.cpu_s() - before_s
    if not closed.ok:
        raise NotMeasured(f"{variant.name}: no call was answered: {closed.codes}")
    calls_per_s = closed.ok / closed.wall_s
    (opened,) = loads(plan(mix, seconds.loaded, rate=LOADED_SHARE * calls_per_s))
    alone_ms = {tokens: load.latency_ms for tokens, load in zip(LENGTHS, by_length[1::2], strict=True)}
    return Turn(
        start_s=alive.start_s,
        p50_ms=_percentiles(alone_ms, 50),
        p99_ms=_percentiles(alone_ms, 99),
        calls_per_s=calls_per_s,
        mix_p50_ms=statistics.median(closed.latency_ms),
        cpu_s_per_1000=1000 * cpu_s / closed.ok,
        loaded_p50_ms=float(np.percentile(opened.latency_ms or [np.inf], 50)),
        loaded_p99_ms=float(np.percentile(opened.latency_ms or [np.inf], 99)),
        pss_mib=alive.pss_mib(),
        failed=sum(load.sent - load.ok for load in (*by_length, closed, opened)),
    )


def _percentiles(latency_ms: dict[int, list[float]], percent: int) -> dict[int, float]:
    return {tokens: float(np.percentile(times or [np.inf], percent)) for tokens, times in latency_ms.items()}
