"""Commands of `turnout` that make labels and answers: `label` and `replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.cli import paid_options as paid
from turnout.training.cli.options import (
    AsJson,
    Columns,
    Format,
    HarnessRules,
    Join,
    Logs,
    Margin,
    Quiet,
    Score,
    Seed,
    Strong,
    Weak,
    named_pair,
    reading_of,
)
from turnout.training.dataset.features.keep import MAX_SALT_BYTES, Keep
from turnout.training.logs.reading import AUTO, JoinBy
from turnout.training.logs.sources import check_out, find_logs
from turnout.training.pipeline.choice import EngineChoice, EngineName

if TYPE_CHECKING:
    from turnout.training.dataset.features.keep import Keeping


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
    embed: Annotated[
        str,
        typer.Option(
            help="Encoder, such as minilm-l3-int8, whose vectors of the prompts are written beside the labels. "
            "Off when empty."
        ),
    ] = "",
    engine: Annotated[
        EngineName, typer.Option(help="Work in processes of this machine, or on a Ray cluster.")
    ] = EngineName.NATIVE,
    ray_address: Annotated[
        str,
        typer.Option(help="Ray cluster, as HOST:PORT or ray://HOST:PORT; when empty, one found or started here."),
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
    keep: Annotated[
        Keep,
        typer.Option(
            help="features: write vectors, counts and salted digests beside the labels, so that training needs neither "
            "logs nor prompts; prompts: labels only, training reads the logs again."
        ),
    ] = Keep.PROMPTS,
    encoder: Annotated[str, typer.Option(help="Name or folder of the encoder of --keep features.")] = "minilm-l3-int8",
    harness_rules: HarnessRules = LATEST_HARNESS_RULES,
    salt: Annotated[
        str,
        typer.Option(
            help="Salt of the digests of --keep features, 64 bytes at most. Files that are to be trained from together "
            "need the same; when empty it follows from the logs."
        ),
    ] = "",
    cache: Annotated[
        bool,
        typer.Option(help="Keep dense vectors of --keep features on disk ($TURNOUT_CACHE, else ~/.cache/turnout)."),
    ] = True,
    redact: paid.Redact = False,
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
    from turnout.training.cli.labelling import label_logs

    if ray_address and engine is not EngineName.RAY:
        raise typer.BadParameter("--ray-address needs --engine ray")
    if embed and keep is Keep.FEATURES:
        raise typer.BadParameter("--keep features writes the vectors of --encoder; leave --embed out")
    if not judge:
        paid.refuse_without_judge(
            {
                "--judge-dry-run": judge_dry_run,
                "--judge-all": judge_all,
                "--judge-force": judge_force,
                "--judge-reasons": judge_reasons,
                "--judge-rubric": judge_rubric,
                "--judge-batch": judge_batch,
            }
        )
    judges = None
    if judge:
        from turnout.training.cli.judging import default_cache
        from turnout.training.judge.settings import BatchSettings, JudgeSettings

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
            redacts=redact,
            concurrency=judge_concurrency,
            prices=paid.prices(price_input, price_output),
            batch=BatchSettings(judge_batch_wait_s, judge_batch_poll_s) if judge_batch else None,
            seed=seed,
        )
    found = find_logs(logs)
    check_out(out, found)
    label_logs(
        found,
        out,
        named_pair(strong, weak),
        reading_of(column, log_format, join, score),
        margin,
        judges,
        run_code=run_code,
        similarity=similarity,
        embedding=embed,
        engine=EngineChoice(engine, ray_address),
        quiet=quiet,
        as_json=as_json,
        keeping=_keeping(encoder, harness_rules, salt, cache=cache, redact=redact) if keep is Keep.FEATURES else None,
    )


def _keeping(encoder: str, harness_rules: int, salt: str, *, cache: bool, redact: bool) -> Keeping:
    from turnout.training.dataset.features.keep import Keeping
    from turnout.training.encoders.embeddings import default_cache_dir

    if len(salt.encode()) > MAX_SALT_BYTES:
        raise typer.BadParameter(f"--salt: expected at most {MAX_SALT_BYTES} bytes, got {len(salt.encode())}")
    cache_dir = default_cache_dir() if cache else None
    return Keeping(encoder, harness_rules, salt, cache_dir, redact)


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
    redact: paid.Redact = False,
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
    from turnout.training.cli.replay import replay_logs
    from turnout.training.replay.replay import ReplaySettings, default_cache

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
        redacts=redact,
        concurrency=concurrency,
        prices=paid.prices(price_input, price_output),
        seed=seed,
    )
    reading = reading_of(column, log_format, join, score)
    found = find_logs(logs)
    check_out(out, found)
    replay_logs(found, out, named_pair(strong, weak), reading, settings, quiet=quiet, as_json=as_json)
