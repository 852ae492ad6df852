"""`turnout top`: the server in the terminal, once or live, from its metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Annotated

import msgspec
from cyclopts import Parameter, validators
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from turnout.serving.cli.options import AsJson, Flag
from turnout.serving.cli.overview import Overview, overview
from turnout.serving.cli.scrape import DEFAULT_URL, NotScraped, Snapshot, scrape
from turnout.serving.cli.tables import console


def top(
    *,
    metrics: str = DEFAULT_URL,
    interval_s: Annotated[float, Parameter(validator=validators.Number(gte=0.1))] = 2.0,
    once: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Watch a running server: requests, shares, latency, queue, refusals, bundles. Ctrl-C ends it.

    Args:
        metrics: URL of the server's metrics.
        interval_s: Seconds between two scrapes; rates are over them.
        once: Print one interval and end.
        as_json: Print one line of JSON an interval.
    """
    show_top(metrics, interval_s, once=once, as_json=as_json, console=console())


def show_top(url: str, interval_s: float, *, once: bool, as_json: bool, console: Console) -> None:
    """Print what the server does, over intervals of `interval_s` seconds: once, or until Ctrl-C.

    A server that goes away is said so and waited for; with `once` it is an error.

    Args:
        url: where the metrics are.
        interval_s: between two scrapes; rates and latencies are those of that time.
        once: print one interval and return.
        as_json: one line of JSON an interval instead of the view.
        console: where to print.

    Raises:
        NotScraped: there are no metrics at the first scrape, or at any with `once`.
    """
    before = scrape(url)
    if once or as_json:
        for seen in _intervals(url, before, interval_s):
            line = msgspec.json.encode(seen).decode() if as_json else render(seen, url)
            console.print(line, soft_wrap=as_json, highlight=False, markup=False)
            if once:
                return
    with contextlib.suppress(KeyboardInterrupt):
        _watch(url, before, interval_s, console)


def _watch(url: str, before: Snapshot, interval_s: float, console: Console) -> None:
    with Live(Text(f"{url}: reading ..."), console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                for seen in _intervals(url, before, interval_s):
                    live.update(render(seen, url), refresh=True)
            except NotScraped as error:
                live.update(Text(str(error), style="red"), refresh=True)
                before = _until_back(url, interval_s)


def _intervals(url: str, before: Snapshot, interval_s: float) -> Iterator[Overview]:
    while True:
        time.sleep(interval_s)
        now = scrape(url)
        yield overview(before, now)
        before = now


def _until_back(url: str, interval_s: float) -> Snapshot:
    while True:
        time.sleep(interval_s)
        try:
            return scrape(url)
        except NotScraped:
            continue


def render(seen: Overview, url: str) -> Table:
    """Return the view of one interval as a table of names and figures."""
    table = Table(title=f"turnout  {url}  over {seen.seconds:.1f} s", title_justify="left", show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("more")
    table.add_row("requests", f"{seen.requests_per_s:,.1f}/s", _list(seen.by_reason, "/s"))
    table.add_row("to the weak model", _percent(seen.weak_share), "")
    table.add_row("answered by the fast head", _percent(seen.fast_share), "")
    table.add_row("Route p50, p99", f"{_ms(seen.p50_ms)}, {_ms(seen.p99_ms)}", "in the handler")
    table.add_row("without a decision", f"{sum(seen.failures_per_s.values()):,.1f}/s", _list(seen.failures_per_s, "/s"))
    table.add_row("refused", f"{sum(seen.refusals_per_s.values()):,.1f}/s", _list(seen.refusals_per_s, "/s"))
    table.add_row("queue, in flight", f"{seen.queue_items}, {seen.in_flight}", "now")
    table.add_row("cache hits", _percent(seen.cache_hit_share), "")
    hung = f", {seen.workers_hung} hung and replaced so far" if seen.workers_hung else ""
    used = f"{seen.cores:.2f} cores, {seen.memory_mib:,.0f} MiB{hung}"
    table.add_row("workers ready", str(seen.workers_ready), used)
    table.add_row("bundles", str(len(seen.bundles)), _list(seen.bundles, " workers"))
    return table


def _list(figures: dict[str, float] | dict[str, int], unit: str) -> str:
    return ", ".join(f"{name} {value:,.4g}{unit}" for name, value in sorted(figures.items()))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"
