"""`turnout frontier`: what each part of the router, and each encoder, is worth against its time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from rich.table import Table

from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console, number
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.assess.frontier import FrontierPoint, FrontierRows, cheapest_within_error, measure_frontier
from turnout.training.cli.options import (
    LEARNING,
    OUTPUT,
    PAIR,
    Cache,
    Flat,
    LearningOptions,
    Logs,
    Margin,
    OutputFormat,
    PairOptions,
    Seed,
    cache_dir,
)
from turnout.training.dataset.dataset import load_dataset
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.learn.learn import embed_dataset
from turnout.training.learn.train import refuse_too_little
from turnout.training.logs.sources import find_logs
from turnout.training.progress import Reporter
from turnout.training.report.frontier import named, write_frontier


def frontier(
    logs: Logs,
    /,
    *,
    out: Path | None = None,
    encoder: tuple[str, ...] = (DEFAULT_ENCODER,),
    seed: Seed = 0,
    margin: Margin = 0.0,
    pair: Annotated[PairOptions, Flat] = PAIR,
    data: Annotated[LearningOptions, Flat] = LEARNING,
    cache: Cache = True,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Say what each part of the router, and each encoder, is worth on these logs against microseconds a prompt.

    Five grouped folds, default settings. Read times as ratios: the parts take turns, prompt by prompt.

    Args:
        out: Folder for frontier.png and frontier.svg.
        encoder: Name or folder of an encoder; again for more. The one that ships when not given.
    """
    reporter = Reporter(quiet=output.quiet)
    rows = load_dataset(find_logs(logs), pair.pair, data.reading, margin, reporter, LATEST_HARNESS_RULES).dataset
    refuse_too_little(rows)
    models = [load_encoder(find_encoder(name)) for name in encoder]
    tables = [(model, embed_dataset(rows, model, cache_dir(cache), reporter, LATEST_HARNESS_RULES)) for model in models]
    points = measure_frontier(FrontierRows.of(rows, np.arange(len(rows.rows))), tables, seed, reporter)
    if out is not None:
        write_frontier(points, out)
    if output.as_json:
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
