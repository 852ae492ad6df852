"""Options that several training commands of `turnout` share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnout.serving.errors import EXIT_USAGE
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.logs.reading import JoinBy, Reading

if TYPE_CHECKING:
    from turnout.serving.bundles.bundle import Pair

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
        help="Format of every file: turnout, openai, openai-batch, litellm, langfuse, otel, arena, routerbench "
        "or routellm; auto finds it file by file.",
    ),
]
Join = Annotated[
    JoinBy,
    typer.Option(help="Pair rows with one model's answer each by the rendered prompt, by their ids, or not at all."),
]
Score = Annotated[
    str, typer.Option("--score-name", help="Name of the scores that count, where a log has several (Langfuse).")
]
Labels = Annotated[
    Path | None,
    typer.Option(help="Labels of these very logs, as `turnout label` wrote them, judges' included; else made anew."),
]
AllowRouted = Annotated[
    bool,
    typer.Option(
        "--allow-routed",
        help="Learn also from rows with both answers that carry a route_propensity and no pair_propensity; each "
        "counts once, although a router chose which requests they are.",
    ),
]
HarnessRules = Annotated[
    int,
    typer.Option(
        min=0,
        max=LATEST_HARNESS_RULES,
        help="Version of the rules by which prompts lose what agent harnesses add to them; 0 leaves all text.",
    ),
]
Strong = Annotated[str, typer.Option(help="Name of the strong model.")]
Weak = Annotated[str, typer.Option(help="Name of the weak model.")]


def _margin(value: float) -> float:
    if not 0 <= value <= 1:  # NaN too, which a range of the option would let pass: then no row is a match
        raise typer.BadParameter(f"expected a number from 0 to 1, as scores are, got {value}")
    return value


Margin = Annotated[
    float,
    typer.Option(
        help="By how much the weak score may be lower and still match, 0 to 1; 0 for right/wrong.", callback=_margin
    ),
]
Seed = Annotated[int, typer.Option(help="Same logs and seed give the same result.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PolicyName = Annotated[str, typer.Option(help="Policy of the bundle; its default one when empty.")]
EarlyExit = Annotated[bool, typer.Option(help="Let the fast head answer where it is sure, as served.")]


def named_pair(strong: str, weak: str) -> Pair:
    """Return the pair that the operator names; the two must differ."""
    from turnout.serving.bundles.bundle import Pair

    if strong == weak:
        raise typer.BadParameter(f"--strong and --weak both name {strong}")
    return Pair(strong=strong, weak=weak)


def reading_of(
    column: list[str] | None,
    log_format: str,
    join: JoinBy = JoinBy.PROMPT,
    score: str = "",
    *,
    labels: Path | None = None,
    allow_routed: bool = False,
) -> Reading:
    """Return how the operator wants logs to be read."""
    return Reading(_columns(column), log_format, join, score, labels, allow_routed)


def _columns(column: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in column or ()]
    if bad := [ours for ours, equals, theirs in pairs if not (ours and equals and theirs)]:
        raise typer.BadParameter(f"--column expects OURS=THEIRS, got {bad[0]!r} (exit code {EXIT_USAGE})")
    return {ours: theirs for ours, _, theirs in pairs}
