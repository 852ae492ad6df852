"""What `turnout frontier` does: logs in, a table and a figure out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from rich.table import Table

from turnout.serving.bundles.bundle import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console, number
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.assess.frontier import FrontierPoint, FrontierRows, cheapest_within_error, measure_frontier
from turnout.training.dataset.dataset import load_dataset
from turnout.training.encoders.encoders import load_encoder
from turnout.training.learn.learn import embed_dataset
from turnout.training.learn.train import refuse_too_little
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.report.frontier import named, write_frontier


def frontier_of_logs(
    logs: Sequence[LogFile],
    encoders: Sequence[str],
    out: Path | None,
    pair: Pair,
    reading: Reading,
    margin: float,
    seed: int,
    cache_dir: Path | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit every union of parts out of fold, time it, print the table and draw it into `out`."""
    reporter = Reporter(quiet=quiet)
    data = load_dataset(logs, pair, reading, margin, reporter, LATEST_HARNESS_RULES).dataset
    refuse_too_little(data)
    models = [load_encoder(find_encoder(name)) for name in encoders]
    tables = [(model, embed_dataset(data, model, cache_dir, reporter, LATEST_HARNESS_RULES)) for model in models]
    points = measure_frontier(FrontierRows.of(data, np.arange(len(data.rows))), tables, seed, reporter)
    if out is not None:
        write_frontier(points, out)
    if as_json:
        print(msgspec.json.encode(points).decode())
    else:
        _print_points(points, out)


def _print_points(points: Sequence[FrontierPoint], out: Path | None) -> None:
    several = len({point.encoder for point in points if point.encoder}) > 1
    table = Table(title="Out of fold, default settings; * is beaten by none in both", title_justify="left")
    table.add_column("parts", no_wrap=True)
    for name in ("µs a prompt", "AUROC", "APGR", "log loss above the best"):
        table.add_column(name, justify="right")
    for point in points:
        table.add_row(
            named(point, several_encoders=several) + " *" * point.is_on_frontier,
            f"{point.us:.0f}",
            number(point.auroc),
            number(point.apgr),
            f"{point.excess_loss:.4f} ± {point.excess_loss_se:.4f}",
        )
    console().print(table)
    print(f"Fastest within one standard error: {named(cheapest_within_error(points), several_encoders=several)}")
    if out is not None:
        print(f"figure: {out / 'frontier.png'}, {out / 'frontier.svg'}")
