"""Training commands of `turnout`; heavy packages are imported by the command that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.cli.compaction_cli import logs_app
from turnout.training.cli.drift_cli import drift
from turnout.training.cli.label import label, replay
from turnout.training.cli.offpolicy_cli import replay_policy, savings
from turnout.training.cli.options import (
    AllowRouted,
    AsJson,
    BundleArgument,
    Columns,
    EarlyExit,
    Format,
    HarnessRules,
    Join,
    Labels,
    Logs,
    Margin,
    PolicyName,
    Quiet,
    Score,
    Seed,
    Strong,
    Weak,
    named_pair,
    reading_of,
)
from turnout.training.cli.retrain import retrain
from turnout.training.logs.reading import AUTO, JoinBy
from turnout.training.logs.sources import check_out, find_logs

encoder_app = typer.Typer(help="Make encoders.", no_args_is_help=True)


def add_commands(app: typer.Typer, rules_app: typer.Typer) -> None:
    """Add the training commands to the command line, and to its `rules` those that read logs."""
    for command in (
        sample,
        label,
        replay,
        assess,
        frontier,
        train,
        recalibrate,
        retrain,
        predict,
        evaluate,
        report,
        replay_policy,
        savings,
        drift,
    ):
        app.command()(command)
    app.add_typer(encoder_app, name="encoder")
    app.add_typer(logs_app, name="logs")
    rules_app.command("try")(try_rules)


def sample(
    out: Annotated[Path, typer.Option(help="File to write; .jsonl or .jsonl.gz.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows to make.")] = 3000,
    seed: Seed = 0,
) -> None:
    """Make a SYNTHETIC gateway log to try everything with: templates of our own, outcomes from a stated model."""
    from turnout.training.sample.sample import write_sample

    write_sample(out, rows, seed)
    print(f"{out}: {rows} synthetic rows, seed {seed}; they say nothing of real traffic")


def assess(
    logs: Logs,
    seed: Seed = 0,
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    labels: Labels = None,
    allow_routed: AllowRouted = False,
    encoder: Annotated[str, typer.Option(help="Name or folder of the encoder.")] = "minilm-l3-int8",
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say, before any commitment, whether these logs are enough and what a router on them would be worth."""
    from turnout.training.cli.train import assess_logs
    from turnout.training.encoders.embeddings import default_cache_dir

    cache_dir = default_cache_dir() if cache else None
    pair, reading = (
        named_pair(strong, weak),
        reading_of(column, log_format, join, score, labels=labels, allow_routed=allow_routed),
    )
    assess_logs(find_logs(logs), encoder, pair, reading, margin, seed, cache_dir, quiet=quiet, as_json=as_json)


def frontier(
    logs: Logs,
    out: Annotated[Path | None, typer.Option(help="Folder for frontier.png and frontier.svg.")] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="Name or folder of an encoder; again for more. The one that ships when not given."),
    ] = None,
    seed: Seed = 0,
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    labels: Labels = None,
    allow_routed: AllowRouted = False,
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what each part of the router, and each encoder, is worth on these logs against microseconds a prompt.

    Five grouped folds, default settings. Read times as ratios: the parts take turns, prompt by prompt.
    """
    from turnout.training.cli.assess import frontier_of_logs
    from turnout.training.encoders.embeddings import default_cache_dir
    from turnout.training.encoders.encoders import DEFAULT_ENCODER

    reading = reading_of(column, log_format, join, score, labels=labels, allow_routed=allow_routed)
    cache_dir = default_cache_dir() if cache else None
    names, pair = encoder or [DEFAULT_ENCODER], named_pair(strong, weak)
    frontier_of_logs(find_logs(logs), names, out, pair, reading, margin, seed, cache_dir, quiet=quiet, as_json=as_json)


def train(
    logs: Logs,
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write; an earlier bundle there is replaced.")],
    seed: Seed = 0,
    name: Annotated[str, typer.Option(help="Name of the router, the first half of its id.")] = "router",
    search: Annotated[bool, typer.Option("--search", help="Search every form and the whole grid; takes long.")] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Table source, prompt_id, model, score of other models on the same prompts; steadies labels."
        ),
    ] = None,
    learning_curve: Annotated[
        bool,
        typer.Option("--learning-curve", help="Fit on 500 rows to all as well, for the report; takes as long again."),
    ] = False,
    note: Annotated[
        Path | None,
        typer.Option(
            help="Markdown file for the card: intended use, origin and licences of the logs.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    harness_rules: HarnessRules = LATEST_HARNESS_RULES,
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    labels: Labels = None,
    allow_routed: AllowRouted = False,
    encoder: Annotated[str, typer.Option(help="Name or folder of the encoder.")] = "minilm-l3-int8",
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn a router from logs: split, embed, fit, calibrate, solve policies, evaluate, export.

    Figures are those of the test part, which this run neither fits nor tunes on.
    """
    from turnout.training.cli.train import train_router
    from turnout.training.encoders.embeddings import default_cache_dir
    from turnout.training.learn.learn import TrainSettings

    settings = TrainSettings(
        pair=named_pair(strong, weak),
        name=name,
        seed=seed,
        margin=margin,
        wide_search=search,
        reading=reading_of(column, log_format, join, score, labels=labels, allow_routed=allow_routed),
        cache_dir=default_cache_dir() if cache else None,
        scores=scores,
        learning_curve=learning_curve,
        harness_rules=harness_rules,
        note=note.read_text(encoding="utf-8").strip() if note else "",
    )
    train_router(find_logs(logs), out, encoder, settings, quiet=quiet, as_json=as_json)


def recalibrate(
    bundle: BundleArgument,
    logs: Logs,
    out: Annotated[
        Path, typer.Option(help="Folder of the new bundle; not that of the old one. An earlier bundle is replaced.")
    ],
    seed: Seed = 0,
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    labels: Labels = None,
    allow_routed: AllowRouted = False,
    encoder: Annotated[
        str, typer.Option(help="Name or folder of the encoder inside the bundle; the name it has there when empty.")
    ] = "",
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fit probabilities and policies of a bundle again on a few hundred new labelled rows, without a refit.

    For traffic where the weak model fails more or less often than it did, on the same kinds of requests. The
    result is a new bundle with the old one as parent: same regression, same encoder. Needs 100 groups and 10
    rows with a worse weak answer that the bundle has not seen. Calibration figures are cross-fitted.
    """
    from turnout.training.cli.train import recalibrate_bundle
    from turnout.training.encoders.embeddings import default_cache_dir
    from turnout.training.learn.recalibrate import RecalibrateSettings

    settings = RecalibrateSettings(
        seed,
        reading_of(column, log_format, join, score, labels=labels, allow_routed=allow_routed),
        default_cache_dir() if cache else None,
    )
    recalibrate_bundle(bundle, find_logs(logs), out, encoder, settings, quiet=quiet, as_json=as_json)


def predict(
    bundle: BundleArgument,
    data: Logs,
    out: Annotated[Path, typer.Option(help="Parquet file to write: one row an input row, in input order.")],
    policy: PolicyName = "",
    early_exit: EarlyExit = True,
    column: Columns = None,
    log_format: Format = AUTO,
    quiet: Quiet = False,
) -> None:
    """Say for each prompt where it would go; needs no scores and no answers."""
    from turnout.training.cli.train import predict_file

    found = find_logs(data)
    check_out(out, found)
    predict_file(bundle, found, out, policy, reading_of(column, log_format), early_exit=early_exit, quiet=quiet)


def evaluate(
    bundle: BundleArgument,
    data: Logs,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    policy: PolicyName = "",
    early_exit: EarlyExit = True,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Keep rows of groups the bundle was trained on; flatters it.")
    ] = False,
    margin: Annotated[
        float | None, typer.Option(help="As in `train`; the margin that the bundle was trained with when not given.")
    ] = None,
    seed: Seed = 0,
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    labels: Labels = None,
    allow_routed: AllowRouted = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on logs it has not seen, with intervals and baselines beside it."""
    from turnout.training.cli.train import evaluate_file

    evaluate_file(
        bundle,
        find_logs(data),
        out,
        policy,
        reading_of(column, log_format, join, score, labels=labels, allow_routed=allow_routed),
        margin,
        seed,
        early_exit=early_exit,
        include_seen=include_seen,
        quiet=quiet,
        as_json=as_json,
    )


def report(
    bundle: BundleArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the page and its figures to; turnout-report when not given.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="JSON of `turnout evaluate BUNDLE LOGS --out FILE` to show, not that of the training run."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Put it into the bundle, with a new manifest; a signature has to be made again."
        ),
    ] = False,
) -> None:
    """Write a bundle's report: one page for a browser, and its figures as PNG and SVG."""
    from turnout.training.cli.train import write_report

    if replace and out is not None:
        raise typer.BadParameter("--replace writes into the bundle itself; leave out --out")
    write_report(bundle, None if replace else out or Path("turnout-report"), evaluation)


def try_rules(
    file: Annotated[Path, typer.Argument(help="Rules file, TOML.")],
    logs: Logs,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", help="Folder of a bundle that is served; again for more, the first is the default."),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Rules in force now; without it, none.")] = None,
    early_exit: EarlyExit = True,
    column: Columns = None,
    log_format: Format = AUTO,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what a rules file would change on a log: by rule, where requests go, why, and at what expected cost."""
    from turnout.serving.bundles.registry import find_bundle
    from turnout.training.cli.rules import try_rules_on_logs

    folders = [find_bundle(folder) for folder in bundle] if bundle else [find_bundle()]
    reading = reading_of(column, log_format)
    try_rules_on_logs(
        file, find_logs(logs), folders, against, reading, early_exit=early_exit, quiet=quiet, as_json=as_json
    )


@encoder_app.command()
def export(
    model: Annotated[str, typer.Argument(help="Name on the hub, or a local folder, of a sentence-transformers model.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    layer: Annotated[int, typer.Option(min=1, help="Transformer layers to keep.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=8, max=512, help="Most word pieces it will read.")] = 128,
    name: Annotated[str, typer.Option(help="Name of the encoder; without it the folder's.")] = "",
    base: Annotated[str, typer.Option(help="What to record as its origin; without it the model's name.")] = "",
    license_name: Annotated[str, typer.Option("--license", help="Licence of the weights, as SPDX.")] = "unknown",
) -> None:
    """Export the first layers of a sentence-transformers model as int8 ONNX; needs the extra `encoders`."""
    from turnout.training.encoders.encoders import export_encoder

    card = export_encoder(
        model,
        out,
        layer=layer,
        max_tokens=max_tokens,
        name=name or out.name,
        base_model=base or model,
        base_license=license_name,
    )
    print(f"{out}: {card.name}, {card.dim} dimensions, layer {card.layer}, sha256 {card.sha256[:16]}")
