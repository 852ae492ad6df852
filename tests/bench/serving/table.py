"""Figures for people: one table of all variants, the promises, the early exit."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tests.bench.serving.prompts import LENGTHS
from tests.bench.serving.result import Result
from tests.bench.serving.turns import CALLERS, Turn
from tests.bench.serving.variants import VARIANTS

WIDTH = 180


def show(result: Result) -> None:
    """Print a result; every figure is a median over the rounds with its least and greatest."""
    console = Console(width=WIDTH)
    for line in (
        f"{result.machine}, {result.cores} cores, load {result.load_before:.1f} before the run; commit {result.commit}",
        f"{len(result.rounds)} rounds in {result.seconds:.0f} s; {result.mix}",
        f"USD {result.usd_per_core_hour} a core-hour: {result.price_source}",
        f"median [least-greatest]; x: median ratio to ours, round by round; {CALLERS} callers, in process 1",
    ):
        console.print(line, markup=False)
    console.print(_speed(result), _latency(result), _promises(result))
    early = result.early_exit
    console.print(
        f"early exit on {early.prompts} prompts of the mix, {early.policy}: {early.fast_share:.1%} answered by the "
        f"fast head; {early.disagreement:.2%} routed otherwise than by the full model"
    )
    for name, why in result.skipped.items():
        console.print(f"left out: {name}: {why}", markup=False)


def _speed(result: Result) -> Table:
    table = Table(
        "",
        "decisions/s",
        "x",
        "CPU-s / 1,000",
        "x",
        "USD / million",
        "60 % load p50 ms",
        "p99 ms",
        "start s",
        "PSS MiB",
    )
    usd_per_cpu_s_per_1000 = 1000 / 3600 * result.usd_per_core_hour
    for name, what in _present(result):
        columns = (
            _spread(result, name, lambda one: one.calls_per_s, ".0f"),
            _ratio(result, name, lambda one: one.calls_per_s),
            _spread(result, name, lambda one: one.cpu_s_per_1000, ".2f"),
            _ratio(result, name, lambda one: one.cpu_s_per_1000),
            _spread(result, name, lambda one: one.cpu_s_per_1000 * usd_per_cpu_s_per_1000, ".3f"),
            _spread(result, name, lambda one: one.loaded_p50_ms, ".1f"),
            _spread(result, name, lambda one: one.loaded_p99_ms, ".1f"),
            _spread(result, name, lambda one: one.start_s, ".1f"),
            _spread(result, name, lambda one: one.pss_mib, ".0f"),
        )
        table.add_row(what, *columns)
    return table


def _latency(result: Result) -> Table:
    table = Table("ms, one connection", *(f"{tokens} tokens p50, p99" for tokens in LENGTHS), "x at 128")
    for name, what in _present(result):
        cells = [
            f"{_spread(result, name, lambda one, n=tokens: one.p50_ms[n], '.2f')}, "
            f"{_median(result, name, lambda one, n=tokens: one.p99_ms[n]):.1f}"
            for tokens in LENGTHS
        ]
        table.add_row(what, *cells, _ratio(result, name, lambda one: one.p50_ms[128]))
    return table


def _promises(result: Result) -> Table:
    table = Table("ratio in one round", "wanted", "median [least-greatest]", "")
    for one in result.promises:
        spread = f"{one.median:.2f} [{one.minimum:.2f}-{one.maximum:.2f}]"
        table.add_row(one.what, one.wanted, spread, "kept" if one.is_kept else "not kept")
    return table


def _present(result: Result) -> list[tuple[str, str]]:
    return [(one.name, one.what) for one in VARIANTS if all(one.name in turns for turns in result.rounds)]


def _values(result: Result, name: str, figure: Callable[[Turn], float | None]) -> list[float]:
    return [value for turns in result.rounds if (value := figure(turns[name])) is not None]


def _median(result: Result, name: str, figure: Callable[[Turn], float | None]) -> float:
    return statistics.median(_values(result, name, figure))


def _spread(result: Result, name: str, figure: Callable[[Turn], float | None], form: str) -> str:
    values = _values(result, name, figure)
    if not values:
        return "-"
    return f"{statistics.median(values):{form}} \\[{min(values):{form}}-{max(values):{form}}]"


def _ratio(result: Result, name: str, figure: Callable[[Turn], float]) -> str:
    if any("ours" not in turns for turns in result.rounds):
        return "-"
    return f"{statistics.median(figure(turns[name]) / figure(turns['ours']) for turns in result.rounds):.2f}"
