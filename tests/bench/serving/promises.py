"""Ratios that are promised, each from turns of one round, so that a busy machine slows both sides."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from tests.bench.serving.prompts import LENGTHS
from tests.bench.serving.turns import Turn

Round = dict[str, Turn]


class Promise(msgspec.Struct, frozen=True):
    """A ratio over the rounds and what it is to be.

    Attributes:
        wanted: `at_most` or `at_least` this.
        is_kept: whether the median keeps it.
    """

    what: str
    wanted: str
    minimum: float
    median: float
    maximum: float
    is_kept: bool


def promises(rounds: list[Round]) -> list[Promise]:
    """Return every promise whose variants were measured in all rounds."""
    return [
        _promise(what, bound, is_most, [of(one) for one in rounds])
        for what, bound, is_most, needs, of in _wanted()
        if all(name in one for one in rounds for name in needs)
    ]


def _promise(what: str, bound: float, is_most: bool, values: list[float]) -> Promise:
    median = statistics.median(values)
    is_kept = median <= bound if is_most else median >= bound
    return Promise(what, f"{'<=' if is_most else '>='} {bound:g}", min(values), median, max(values), is_kept)


def _wanted() -> list[tuple[str, float, bool, tuple[str, ...], Callable[[Round], float]]]:
    sums = [
        (
            f"Route p50 / (echo p50 + {alone} p50), {tokens} tokens",
            1.25,
            True,
            ("echo", alone, served),
            _over_sum(served, alone, tokens),
        )
        for served, alone in (("ours", "in-process"), ("ours-full", "in-process-full"))
        for tokens in LENGTHS
    ]
    return [
        *sums,
        (
            "decisions per server CPU-second / in process, no early exit",
            0.8,
            False,
            ("ours-full", "in-process-full"),
            lambda one: one["in-process-full"].cpu_s_per_1000 / one["ours-full"].cpu_s_per_1000,
        ),
        (
            "p99 at 60 % load / (4 x in-process p50 + 10 ms), mix, no early exit",
            1,
            True,
            ("ours-full", "in-process-full"),
            lambda one: one["ours-full"].loaded_p99_ms / (4 * one["in-process-full"].mix_p50_ms + 10),
        ),
        ("decisions/s, early exit / without", 4, False, ("ours", "ours-full"), _throughput("ours", "ours-full")),
        ("decisions/s, ours / fastapi", 10, False, ("ours", "fastapi"), _throughput("ours", "fastapi")),
        *(
            (f"decisions/s, ours / {peer}", 3, False, ("ours", peer), _throughput("ours", peer))
            for peer in ("mlserver", "mlserver-inline")
        ),
    ]


def _over_sum(served: str, alone: str, tokens: int) -> Callable[[Round], float]:
    return lambda one: one[served].p50_ms[tokens] / (one["echo"].p50_ms[tokens] + one[alone].p50_ms[tokens])


def _throughput(name: str, other: str) -> Callable[[Round], float]:
    return lambda one: one[name].calls_per_s / one[other].calls_per_s
