"""Training commands of `turnout`; heavy packages are imported by the command that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.errors import EXIT_USAGE
from training.compaction.cli import logs_app

Logs = Annotated[
    list[Path],
    typer.Argument(help="Log files: JSONL, CSV or Parquet, plain, .gz or .zst; the format is found from the columns."),
]
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the bundle.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="OURS=THEIRS, such as prompt=question, where the files name a column otherwise."),
]
Strong = Annotated[str, typer.Option(help="Name of the strong model.")]
Weak = Annotated[str, typer.Option(help="Name of the weak model.")]
Margin = Annotated[
    float, typer.Option(help="By how much the weak score may be lower and still match; 0 for right/wrong.")
]
Seed = Annotated[int, typer.Option(help="Same logs and seed give the same result.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PolicyName = Annotated[str, typer.Option(help="Policy of the bundle; its default one when empty.")]
EarlyExit = Annotated[bool, typer.Option(help="Let the fast head answer where it is sure, as served.")]

encoder_app = typer.Typer(help="Make encoders.", no_args_is_help=True)


def add_commands(app: typer.Typer, rules_app: typer.Typer) -> None:
    """Add the training commands to the command line, and to its `rules` those that read logs."""
    for command in (sample, label, assess, train, recalibrate, predict, evaluate, report):
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
    from training.sample import write_sample

    write_sample(out, rows, seed)
    print(f"{out}: {rows} synthetic rows, seed {seed}; they say nothing of real traffic")


def label(
    logs: Logs,
    out: Annotated[Path, typer.Option(help="Parquet file to write: one row a record, match 0, 1 or null.")],
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Label a log by whether the weak model matched the strong one, and count who said so."""
    from training.commands import label_logs

    label_logs(logs, out, _pair(strong, weak), _columns(column), margin, quiet=quiet, as_json=as_json)


def assess(
    logs: Logs,
    seed: Seed = 0,
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    encoder: Annotated[str, typer.Option(help="Name or folder of the encoder.")] = "minilm-l3-int8",
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say, before any commitment, whether these logs are enough and what a router on them would be worth."""
    from training.commands import assess_logs
    from training.embeddings import default_cache_dir

    cache_dir = default_cache_dir() if cache else None
    pair, columns = _pair(strong, weak), _columns(column)
    assess_logs(logs, encoder, pair, columns, margin, seed, cache_dir, quiet=quiet, as_json=as_json)


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
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
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
    from training.commands import train_router
    from training.embeddings import default_cache_dir
    from training.train import TrainSettings

    settings = TrainSettings(
        pair=_pair(strong, weak),
        name=name,
        seed=seed,
        margin=margin,
        wide_search=search,
        columns=_columns(column),
        cache_dir=default_cache_dir() if cache else None,
        scores=scores,
    )
    train_router(logs, out, encoder, settings, quiet=quiet, as_json=as_json)


def recalibrate(
    bundle: BundleArgument,
    logs: Logs,
    out: Annotated[
        Path, typer.Option(help="Folder of the new bundle; not that of the old one. An earlier bundle is replaced.")
    ],
    seed: Seed = 0,
    column: Columns = None,
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
    from training.commands import recalibrate_bundle
    from training.embeddings import default_cache_dir
    from training.recalibrate import RecalibrateSettings

    settings = RecalibrateSettings(seed, _columns(column), default_cache_dir() if cache else None)
    recalibrate_bundle(bundle, logs, out, encoder, settings, quiet=quiet, as_json=as_json)


def predict(
    bundle: BundleArgument,
    data: Logs,
    out: Annotated[Path, typer.Option(help="Parquet file to write: one row an input row, in input order.")],
    policy: PolicyName = "",
    early_exit: EarlyExit = True,
    column: Columns = None,
    quiet: Quiet = False,
) -> None:
    """Say for each prompt where it would go; needs no scores and no answers."""
    from training.commands import predict_file

    predict_file(bundle, data, out, policy, _columns(column), early_exit=early_exit, quiet=quiet)


def evaluate(
    bundle: BundleArgument,
    data: Logs,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    policy: PolicyName = "",
    early_exit: EarlyExit = True,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Keep rows of groups the bundle was trained on; flatters it.")
    ] = False,
    margin: Margin = 0.0,
    seed: Seed = 0,
    column: Columns = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on logs it has not seen, with intervals and baselines beside it."""
    from training.commands import evaluate_file

    evaluate_file(
        bundle,
        data,
        out,
        policy,
        _columns(column),
        margin,
        seed,
        early_exit=early_exit,
        include_seen=include_seen,
        quiet=quiet,
        as_json=as_json,
    )


def report(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option(help="Folder to write the page and its figures to.")] = Path("turnout-report"),
) -> None:
    """Write a bundle's report: one page for a browser, and its figures as PNG."""
    from training.commands import write_report

    write_report(bundle, out)


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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what a rules file would change on a log: by rule, where requests go, why, and at what expected cost."""
    from serving.registry import find_bundle
    from training.rules_commands import try_rules_on_logs

    folders = [find_bundle(folder) for folder in bundle] if bundle else [find_bundle()]
    try_rules_on_logs(
        file, logs, folders, against, _columns(column), early_exit=early_exit, quiet=quiet, as_json=as_json
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
    from training.encoders import export_encoder

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


def _pair(strong: str, weak: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from serving.bundle import Pair

    if strong == weak:
        raise typer.BadParameter(f"--strong and --weak both name {strong}")
    return Pair(strong=strong, weak=weak)


def _columns(column: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in column or ()]
    if bad := [ours for ours, equals, theirs in pairs if not (ours and equals and theirs)]:
        raise typer.BadParameter(f"--column expects OURS=THEIRS, got {bad[0]!r} (exit code {EXIT_USAGE})")
    return {ours: theirs for ours, _, theirs in pairs}
