"""`turnout assess`: is a log enough, and what would a router on it be worth?"""

from __future__ import annotations

from typing import Annotated

import msgspec
from rich.table import Table

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.assess.assess import KEPT_QUALITY, Assessment
from turnout.training.assess.assess import assess as assess_rows
from turnout.training.cli.options import (
    LEARNING,
    OUTPUT,
    PAIR,
    Cache,
    EncoderName,
    Flat,
    LearningOptions,
    Logs,
    Margin,
    OutputFormat,
    PairOptions,
    Seed,
    cache_dir,
)
from turnout.training.dataset.load import load_rows
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.evaluation.evaluation import CurvePoint
from turnout.training.learn.learn import features_of
from turnout.training.learn.train import refuse_too_little
from turnout.training.logs.sources import find_logs
from turnout.training.progress import Reporter


def assess(
    logs: Logs,
    /,
    *,
    seed: Seed = 0,
    margin: Margin = 0.0,
    pair: Annotated[PairOptions, Flat] = PAIR,
    data: Annotated[LearningOptions, Flat] = LEARNING,
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = True,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Say, before any commitment, whether these logs are enough and what a router on them would be worth."""
    models, reporter = pair.pair, Reporter(quiet=output.quiet)
    rules, model = LATEST_HARNESS_RULES, load_encoder(find_encoder(encoder))
    loaded = load_rows(find_logs(logs), models, data.reading, margin, model, rules, reporter)
    refuse_too_little(loaded.dataset)
    table = features_of(loaded, model, cache_dir(cache), reporter, rules)
    found = assess_rows(loaded.dataset, table, models, seed=seed, reporter=reporter)
    if output.as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _print_assessment(found, models)


def _print_assessment(found: Assessment, pair: Pair) -> None:
    print(
        f"{found.labelled} usable rows in {found.groups} groups, {found.non_matches} with a worse weak answer; "
        f"{found.test_rows} rows kept apart to measure on"
    )
    print(f"{found.carries}.")
    table = Table(title="Learning curve (95 % intervals)", title_justify="left")
    for name in ("rows fitted", "AUROC", "APGR", f"to {pair.weak} at 99 % quality", "excess log loss"):
        table.add_column(name, justify="right")
    for point in found.curve:
        cells = [_with_interval(point, name) for name in ("auroc", "apgr", "share_at_quality.0.99")]
        table.add_row(str(point.rows), *cells, f"{point.excess_loss:+.4f} ± {point.excess_loss_se:.4f}")
    console().print(table)
    if found.enough_rows is None:
        print("Every step still helped: more rows are likely to help further.")
    else:
        print(f"Some {found.enough_rows} rows to fit on do as well as {found.curve[-1].rows}, within the noise.")
    print(_savings_sentence(found, pair))


def _savings_sentence(found: Assessment, pair: Pair) -> str:
    savings = found.savings
    if savings is None:
        return f"Savings can't be said: {found.savings_unknown or f'no answer of {pair.strong} scored above 0'}."
    bounds = savings.interval
    between = f" ({bounds[0]:.3g} to {bounds[1]:.3g})" if bounds else ""
    return (
        f"At {KEPT_QUALITY:.0%} of {pair.strong}'s quality, in hindsight, {savings.saved_usd_per_1k:.3g}{between} of "
        f"{savings.strong_usd_per_1k:.3g} USD per 1,000 requests would be saved, the router paid for; a policy that "
        "promises something saves less."
    )


def _with_interval(point: CurvePoint, name: str) -> str:
    value, bounds = point.figures[name], point.intervals[name]
    if value is None or bounds is None:
        return "undefined"
    return f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"
