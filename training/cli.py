"""Training commands of `turnout`; heavy packages are imported by the command that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.errors import EXIT_USAGE
from training import paid_options as paid
from training.reading import AUTO, JoinBy, Reading
from training.sources import find_logs

Logs = Annotated[
    list[str],
    typer.Argument(
        help="Logs: files, folders or patterns such as 'logs/*.jsonl.gz'. JSONL, JSON, CSV or Parquet, plain or "
        "compressed; which gateway wrote a file is found from its rows."
    ),
]
BundleArgument = Annotated[Path, typer.Argument(help="Folder of the bundle.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="OURS=THEIRS, such as prompt=question, where the files name a column otherwise."),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="Format of every file: turnout, openai, openai-batch, litellm, langfuse, otel, routerbench or "
        "routellm; auto finds it file by file.",
    ),
]
Join = Annotated[
    JoinBy,
    typer.Option(help="Pair rows with one model's answer each by the rendered prompt, by their ids, or not at all."),
]
Score = Annotated[str, typer.Option(help="Name of the scores that count, where a log has several (Langfuse).")]
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


def add_commands(app: typer.Typer) -> None:
    """Add the training commands to the command line."""
    for command in (sample, label, replay, assess, train, recalibrate, predict, evaluate, report):
        app.command()(command)
    app.add_typer(encoder_app, name="encoder")


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
    run_code: Annotated[
        bool,
        typer.Option(
            "--run-code", help="Run the code in answers against tests given as reference, in a limited subprocess."
        ),
    ] = False,
    similarity: Annotated[
        str,
        typer.Option(
            help="Encoder, such as minilm-l3-int8, that also labels answers which say nearly the same; the threshold "
            "is fitted on rows whose truth is known. Off when empty."
        ),
    ] = "",
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    judge: paid.JudgeModels = None,
    judge_url: paid.JudgeUrl = paid.DEFAULT_URL,
    judge_key_env: paid.KeyEnv = paid.DEFAULT_KEY_ENV,
    judge_max_usd: paid.MaxUsd = paid.DEFAULT_MAX_USD,
    judge_max_calls: paid.MaxCalls = None,
    judge_dry_run: paid.DryRun = False,
    judge_cache: paid.Cache = None,
    judge_all: paid.JudgeAll = 0,
    judge_force: paid.JudgeForce = False,
    judge_reasons: paid.JudgeReasons = False,
    judge_rubric: paid.JudgeRubric = None,
    judge_concurrency: paid.Concurrency = 8,
    judge_timeout_s: paid.TimeoutS = 120.0,
    judge_batch: paid.JudgeBatch = False,
    judge_batch_wait_s: paid.JudgeBatchWait = 0.0,
    judge_batch_poll_s: paid.JudgeBatchPoll = 30.0,
    price_input: paid.PriceInput = None,
    price_output: paid.PriceOutput = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Label a log by whether the weak model matched the strong one, and count who said so.

    With --judge, a language model compares the answers of rows that nothing else decides. Exit code 5: a batch is
    not done, run the same command later.
    """
    from training.labelling import label_logs

    judges = None
    if judge:
        from training.judge.commands import default_cache
        from training.judge.settings import BatchSettings, JudgeSettings

        judges = JudgeSettings(
            models=tuple(judge),
            address=paid.address(judge_url, judge_key_env, judge_timeout_s),
            cache=judge_cache or default_cache(out),
            caps=paid.caps(judge_max_usd, judge_max_calls),
            known_rows=judge_all,
            is_forced=judge_force,
            keeps_reasons=judge_reasons,
            is_dry_run=judge_dry_run,
            rubric=judge_rubric,
            concurrency=judge_concurrency,
            prices=paid.prices(price_input, price_output),
            batch=BatchSettings(judge_batch_wait_s, judge_batch_poll_s) if judge_batch else None,
            seed=seed,
        )
    label_logs(
        find_logs(logs),
        out,
        _pair(strong, weak),
        _reading(column, log_format, join, score),
        margin,
        judges,
        run_code=run_code,
        similarity=similarity,
        quiet=quiet,
        as_json=as_json,
    )


def replay(
    logs: Logs,
    out: Annotated[Path, typer.Option(help="JSONL file to write: the rows sampled, with both answers.")],
    model: Annotated[str, typer.Option(help="Weak model to ask, as the endpoint knows it; --weak when empty.")] = "",
    base_url: paid.ReplayUrl = paid.DEFAULT_URL,
    key_env: paid.KeyEnv = paid.DEFAULT_KEY_ENV,
    sample: Annotated[int, typer.Option(min=1, help="Rows to replay.")] = 500,
    plan: paid.Plan = "uniform",
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle whose p_match says what is uncertain; the champion when not given.")
    ] = None,
    max_usd: paid.MaxUsd = paid.DEFAULT_MAX_USD,
    max_calls: paid.MaxCalls = None,
    max_answer_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, where a request sets none.")] = 4096,
    dry_run: paid.DryRun = False,
    cache: paid.Cache = None,
    concurrency: paid.Concurrency = 8,
    timeout_s: paid.TimeoutS = 120.0,
    price_input: paid.PriceInput = None,
    price_output: paid.PriceOutput = None,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Send rows that hold only the strong answer to the weak model, and write them with both answers.

    Each row carries its pair_propensity: the probability that it was sampled, which weighs it in training.
    """
    from training.replay import ReplaySettings, default_cache
    from training.replay_command import replay_logs

    settings = ReplaySettings(
        model=model or weak,
        address=paid.address(base_url, key_env, timeout_s),
        cache=cache or default_cache(out),
        caps=paid.caps(max_usd, max_calls),
        rows=sample,
        plan=plan,
        bundle=bundle,
        max_answer_tokens=max_answer_tokens,
        is_dry_run=dry_run,
        concurrency=concurrency,
        prices=paid.prices(price_input, price_output),
        seed=seed,
    )
    reading = _reading(column, log_format, join, score)
    replay_logs(find_logs(logs), out, _pair(strong, weak), reading, settings, quiet=quiet, as_json=as_json)


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
    pair, reading = _pair(strong, weak), _reading(column, log_format, join, score)
    assess_logs(find_logs(logs), encoder, pair, reading, margin, seed, cache_dir, quiet=quiet, as_json=as_json)


def train(
    logs: Logs,
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write; an earlier bundle there is replaced.")],
    seed: Seed = 0,
    name: Annotated[str, typer.Option(help="Name of the router, the first half of its id.")] = "router",
    search: Annotated[bool, typer.Option("--search", help="Search every form and the whole grid; takes long.")] = False,
    margin: Margin = 0.0,
    strong: Strong = "gpt-4o",
    weak: Weak = "gpt-4o-mini",
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
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
        reading=_reading(column, log_format, join, score),
        cache_dir=default_cache_dir() if cache else None,
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

    settings = RecalibrateSettings(
        seed, _reading(column, log_format, join, score), default_cache_dir() if cache else None
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
    from training.commands import predict_file

    predict_file(bundle, find_logs(data), out, policy, _reading(column, log_format), early_exit=early_exit, quiet=quiet)


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
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on logs it has not seen, with intervals and baselines beside it."""
    from training.commands import evaluate_file

    evaluate_file(
        bundle,
        find_logs(data),
        out,
        policy,
        _reading(column, log_format, join, score),
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


def _reading(column: list[str] | None, log_format: str, join: JoinBy = JoinBy.PROMPT, score: str = "") -> Reading:
    return Reading(_columns(column), log_format, join, score)


def _columns(column: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in column or ()]
    if bad := [ours for ours, equals, theirs in pairs if not (ours and equals and theirs)]:
        raise typer.BadParameter(f"--column expects OURS=THEIRS, got {bad[0]!r} (exit code {EXIT_USAGE})")
    return {ours: theirs for ours, _, theirs in pairs}
