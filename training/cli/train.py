"""`turnout train`: from logs to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.options import Flag
from turnout.serving.errors import UsageRefused
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.cli.figures import print_trained
from turnout.training.cli.options import (
    LEARNING,
    OUTPUT,
    PAIR,
    Cache,
    EncoderName,
    Flat,
    HarnessRules,
    LearningOptions,
    Logs,
    Margin,
    ModelScores,
    OutputFormat,
    PairOptions,
    Seed,
    cache_dir,
    rung_names,
)
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train as train_router
from turnout.training.logs.sources import find_logs
from turnout.training.progress import Reporter


def train(
    logs: Logs,
    /,
    *,
    out: Path,
    seed: Seed = 0,
    name: str = "router",
    search: Flag = False,
    scores: Path | None = None,
    signals: Path | None = None,
    learning_curve: Flag = False,
    policy: str = "",
    balance: Literal["source"] | None = None,
    by_task: str = "",
    max_wait_twice: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lte=1))] = None,
    max_rows: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    note: Annotated[Path | None, Parameter(validator=validators.Path(exists=True, dir_okay=False))] = None,
    harness_rules: HarnessRules = LATEST_HARNESS_RULES,
    margin: Margin = 0.0,
    pair: Annotated[PairOptions, Flat] = PAIR,
    models: str = "",
    model_scores: ModelScores = None,
    data: Annotated[LearningOptions, Flat] = LEARNING,
    encoder: EncoderName = DEFAULT_ENCODER,
    cache: Cache = True,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Learn a router from logs: embed, fit, calibrate, solve policies, evaluate, export.

    Every labelled row teaches. Figures and policies rest on what each row was told by fits without its group.

    Args:
        out: Folder of the bundle to write; an earlier bundle there is replaced.
        name: Name of the router, the first half of its id.
        search: Search every form and the whole grid; takes long.
        scores: Table source, prompt_id, model, score of other models on the same prompts; steadies labels.
        signals: Table source, prompt_id, model, signal (mean_logprob or self_check), value of the weak model's answers.
        learning_curve: Fit on 500 rows to all as well, for the report; takes as long again.
        policy: Policy that is served unless a request names another, such as max_worse=0.03; without it the strictest
            promise that is met and sends at least a tenth to the weak model.
        by_task: Promise such as max_worse=0.02 that is solved for each task too; all of these hold together with 90 %
            confidence. A rules file gives max_worse=0.02@TASK to the requests of a task.
        max_wait_twice: Largest share of past traffic that may wait for both models' answers under a policy; without it
            what is cheapest. Of use only where logs hold answers.
        max_rows: Labelled rows that teach, at most about so many: near-duplicates and sessions stay together, of each
            source the same share. Without it all teach.
        balance: Weigh large sources down, so that none of them dominates.
        models: Models of a ladder, the cheapest first, such as gpt-4o-mini,gpt-4o,o3; a model at a reasoning effort is
            one of its own, o3:high. In place of --strong and --weak.
        note: Markdown file for the card: intended use, origin and licences of the logs.
    """
    names = rung_names(models, pair)
    if model_scores is not None and len(names) < 3:
        raise UsageRefused("--model-scores gives the scores of a ladder of three models or more; name them by --models")
    settings = TrainSettings(
        pair=Pair(strong=names[-1], weak=names[0]) if names else pair.pair,
        models=names,
        model_scores=model_scores,
        name=name,
        seed=seed,
        margin=margin,
        wide_search=search,
        reading=data.reading,
        cache_dir=cache_dir(cache),
        scores=scores,
        signals=signals,
        learning_curve=learning_curve,
        harness_rules=harness_rules,
        policy=policy,
        balance=balance or "",
        by_task=by_task,
        max_wait_twice=max_wait_twice,
        max_rows=max_rows,
        note=note.read_text(encoding="utf-8").strip() if note else "",
    )
    reporter = Reporter(quiet=output.quiet)
    trained = train_router(find_logs(logs), out, load_encoder(find_encoder(encoder)), settings, reporter)
    print_trained(trained, as_json=output.as_json)
