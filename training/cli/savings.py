"""`turnout savings`: what routing really spent and saved on some days of a log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.table import Table

from turnout.serving.cli.tables import console
from turnout.training.cli.offpolicy import DecisionLog
from turnout.training.cli.options import OUTPUT, Flat, NonNegative, OutputFormat
from turnout.training.offpolicy.estimators import Estimate
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.savings import Savings, between
from turnout.training.offpolicy.savings.savings import savings as savings_of
from turnout.training.progress import Reporter


def savings(
    log: DecisionLog,
    /,
    *,
    first: Annotated[dt.date | None, Parameter(name="--from")] = None,
    last: Annotated[dt.date | None, Parameter(name="--to")] = None,
    cpu_s_per_decision: Annotated[float, NonNegative] = 0.003,
    usd_per_core_hour: Annotated[float, NonNegative] = 0.0408,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Say what routing really spent and saved against sending all to the strong model, and what it did to quality.

    Net: cached tokens, cold caches after a switch, weak answers that were not accepted, self-checks, second answers and
    the router itself are counted.

    Args:
        first: First day (UTC); without it the log's.
        last: Last day (UTC), included.
        cpu_s_per_decision: CPU seconds of one decision; turnout_worker_cpu_seconds_total says yours.
        usd_per_core_hour: What a core of the router's machine costs.
    """
    machine = Machine(cpu_s_per_decision, usd_per_core_hour)
    show_savings(log, first, last, machine, quiet=output.quiet, as_json=output.as_json)


def show_savings(
    log: Path, first: dt.date | None, last: dt.date | None, machine: Machine, *, quiet: bool, as_json: bool
) -> None:
    """Print what the days of a log spent and saved.

    Raises:
        DataRefused: the log can't be read, or holds no decision in those days.
    """
    with Reporter(quiet=quiet).stage("Reading the log"):
        table = between(read_decisions(log), first, last)
    found = savings_of(table, machine)
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(found) | {"machine": msgspec.to_builtins(machine)}).decode())
        return
    console().print(_table(found, machine))
    for note in _notes(found):
        print(note)


def _table(found: Savings, machine: Machine) -> Table:
    share = f"{found.share_weak:.1%} answered by the weak model"
    if found.share_rungs:
        share = "answered by " + ", ".join(f"{name} {share:.1%}" for name, share in found.share_rungs.items())
    table = Table(
        title=f"{found.first} to {found.last}: {found.requests} requests, {share}",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("USD", justify="right", no_wrap=True)
    table.add_column("")
    for name, usd, remark in _lines(found, machine):
        table.add_row(name, f"{usd:,.4f}", remark)
    return table


def _lines(found: Savings, machine: Machine) -> Iterator[tuple[str, float, str]]:
    yield "all to the strong model", found.all_strong_usd, "its caches warm throughout each session"
    yield "really spent", found.spent_usd, "exploration included"
    yield "  of it, second answers", found.second_usd, "that exploration asked for"
    if found.tried:
        yield (
            "  of it, discarded answers",
            found.discarded_usd,
            f"{found.escalated} of {found.tried} tries were escalated",
        )
        yield "  of it, self-checks", found.self_check_usd, "the weak model asked whether its answer is right"
    yield "  of it, switches", found.switch_usd, "prompts that a switch of models found uncached"
    cpu, price = machine.cpu_s_per_decision, machine.usd_per_core_hour
    each = "a decision or verdict" if found.tried else "a decision"
    yield "the router itself", found.router_usd, f"{1000 * cpu:g} ms of CPU {each} at USD {price:g} a core-hour"
    share = "" if found.saved_share is None else f"{found.saved_share:.1%} of all to the strong model"
    yield "saved, net", found.saved_usd, share


def _notes(found: Savings) -> Iterator[str]:
    """What a reader must know beside the table."""
    if found.counted + found.unpriced < found.requests:
        n_expected = found.requests - found.counted - found.unpriced
        yield (
            f"{n_expected} requests stand at their expected cost: no outcome reported their tokens (ReportOutcome: "
            "prompt_tokens, completion_tokens, cached_tokens)"
        )
    if found.unchecked:
        yield (
            f"{found.unchecked} tries have no verdict: they count as escalated, at both models' costs (gateways: Check "
            "every answer to a TRY)"
        )
    if found.unpriced:
        yield f"{found.unpriced} requests are left out: the price list lacks their models, or the log their cost"
    yield from _lengths(found)
    if (quality := found.quality) is None:
        return
    if quality.score is None:
        yield "quality: unknown, no answer was judged (ReportOutcome: score)"
        return
    yield f"quality: mean score {_shown(quality.score)} as served, {quality.judged:.1%} of the answers judged"
    if quality.score_lost is None:
        yield "nothing shows what the strong model would have scored: explore (rules: [exploration])"
    else:
        yield f"{_shown(quality.score_lost)} below the strong model's, doubly robust, 95 % interval over sessions"
    if quality.unknown:
        below = "below the strong model" if found.share_rungs else "weak"
        yield f"{quality.unknown} requests went {below} without a chance of the strong answer, and are left out of that"
    if quality.made_worse is not None:
        if n := quality.unpaired:
            below = "below the strong model" if found.share_rungs else "weak"
            yield f"{n} requests went {below} without a chance of both answers: whether worse, nothing shows"
        shown = f"{_shown(quality.made_worse)} of {'the other' if quality.unpaired else 'all'} requests"
        yield f"made worse: {shown}, by {quality.pairs} that both models answered"


def _lengths(found: Savings) -> Iterator[str]:
    """What answers of the strong model that nobody obtained are taken to be as long as."""
    if not found.length_ratios:
        yield f"a strong answer is taken to be {found.length_ratio:.2f} times as long as a weak one"
        return
    for name, ratio in found.length_ratios.items():
        if ratio is None:
            yield (
                f"the top's answers are taken to be as long as {name}'s, with what the price list expects either to "
                "think; 30 requests that both answered would say (rules: both)"
            )
        else:
            yield f"the top's answers are taken to be {ratio:.2f} times as long as {name}'s"


def _shown(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
