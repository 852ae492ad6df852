"""Options that several training commands share, each named once; what they stand for is made here too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from turnout.serving.bundles.manifest import Manifest, Pair
from turnout.serving.cli.options import AsJson, Flag
from turnout.serving.errors import EXIT_USAGE, UsageRefused
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.encoders.embeddings import default_cache_dir
from turnout.training.logs.reading import AUTO, JoinBy, Reading

Logs = Annotated[
    list[str],
    Parameter(
        help="Logs: files, folders or patterns such as 'logs/*.jsonl.gz'. JSONL, JSON, CSV or Parquet, plain or "
        "compressed; which gateway wrote a file is found from its rows."
    ),
]
BundleFolder = Annotated[Path, Parameter(help="Folder of the bundle.")]


def _check_margin(_type: Any, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:  # NaN too: then no row is a match
        raise ValueError(f"Expected a number from 0 to 1, as scores are, got {value}.")


Margin = Annotated[
    float,
    Parameter(
        validator=_check_margin,
        help="By how much the weak score may be lower and still match, 0 to 1; 0 for right/wrong.",
    ),
]
Seed = Annotated[int, Parameter(help="Same logs and seed give the same result.")]
PolicyName = Annotated[str, Parameter(help="Policy of the bundle; its default one when empty.")]
EarlyExit = Annotated[bool, Parameter(help="Let the fast head answer where it is sure, as served.")]
HarnessRules = Annotated[
    int,
    Parameter(
        validator=validators.Number(gte=0, lte=LATEST_HARNESS_RULES),
        help="Version of the rules by which prompts lose what agent harnesses add to them; 0 leaves all text.",
    ),
]
EncoderName = Annotated[str, Parameter(help="Name or folder of the encoder.")]
EncoderInside = Annotated[
    str, Parameter(help="Name or folder of the encoder inside the bundle; the name it has there when empty.")
]
Cache = Annotated[bool, Parameter(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")]
ModelScores = Annotated[
    Path | None,
    Parameter(
        validator=validators.Path(exists=True, dir_okay=False),
        help="Of a ladder: table source, prompt_id, model, score (or id, model, score) of models that the logs lack.",
    ),
]
NonNegative = Parameter(validator=validators.Number(gte=0))


def cache_dir(cache: bool) -> Path | None:
    """Return the folder of the dense cache; None for none."""
    return default_cache_dir() if cache else None


def ladder_names(manifest: Manifest, model_scores: Path | None) -> tuple[str, ...]:
    """Return the names of a bundle's rungs, the cheapest first; none for a pair.

    Raises:
        UsageRefused: a table of models' scores is given for a pair.
    """
    names = tuple(rung.name for rung in manifest.ladder)
    if len(names) > 2:
        return names
    if model_scores is not None:
        raise UsageRefused(f"--model-scores gives the scores of a ladder, and {manifest.bundle_id} is a pair")
    return ()


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """What is printed.

    Attributes:
        quiet: No progress on stderr.
    """

    quiet: Flag = False
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """The two models.

    Attributes:
        strong: Name of the strong model.
        weak: Name of the weak model.
    """

    strong: str = "gpt-4o"
    weak: str = "gpt-4o-mini"

    @property
    def pair(self) -> Pair:
        """The pair; raises `UsageRefused` where the two are one."""
        if self.strong == self.weak:
            raise UsageRefused(f"--strong and --weak both name {self.strong}")
        return Pair(strong=self.strong, weak=self.weak)


def rung_names(models: str, pair: PairOptions) -> tuple[str, ...]:
    """Return the names of `--models`, the cheapest first; empty where the option is not given.

    Raises:
        UsageRefused: fewer than two names, a name twice, or `--strong` or `--weak` beside it.
    """
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    if not names:
        return ()
    if pair != PAIR:
        raise UsageRefused("--models names every model, the cheapest first; leave out --strong and --weak")
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageRefused(f"--models expects two or more names, each once, the cheapest first; got {models!r}")
    return names


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What can't be seen in the files."""

    column: Annotated[
        tuple[str, ...],
        Parameter(help="OURS=THEIRS, such as prompt=question, where the files name a column otherwise."),
    ] = ()
    log_format: Annotated[
        str,
        Parameter(
            name="--format",
            help="Format of every file: turnout, openai, openai-batch, litellm, langfuse, otel, arena, routerbench "
            "or routellm; auto finds it file by file.",
        ),
    ] = AUTO

    @property
    def reading(self) -> Reading:
        """How the files are to be read; raises `UsageRefused` for a column that is no pair of names."""
        return Reading(_columns(self.column), self.log_format)


@dataclass(frozen=True, kw_only=True)
class PairingOptions(FileOptions):
    """The same, and how rows are put together."""

    join: Annotated[
        JoinBy,
        Parameter(help="Pair rows with one model's answer each by the rendered prompt, by their ids, or not at all."),
    ] = JoinBy.PROMPT
    score_name: Annotated[str, Parameter(help="Name of the scores that count, where a log has several (Langfuse).")] = (
        ""
    )

    @property
    def reading(self) -> Reading:
        """How the files are to be read; raises `UsageRefused` for a column that is no pair of names."""
        return dataclasses.replace(super().reading, join=self.join, score=self.score_name)


@dataclass(frozen=True, kw_only=True)
class LearningOptions(PairingOptions):
    """The same, and which rows teach."""

    labels: Annotated[
        Path | None,
        Parameter(
            help="Labels of these very logs, as `turnout label` wrote them, judges' included; else made anew. Of a "
            "ladder a folder with a file a rung."
        ),
    ] = None
    allow_routed: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Learn also from rows with both answers that carry a route_propensity and no pair_propensity; each "
            "counts once, although a router chose which requests they are.",
        ),
    ] = False

    @property
    def reading(self) -> Reading:
        """How the files are to be read; raises `UsageRefused` for a column that is no pair of names."""
        return dataclasses.replace(super().reading, labels=self.labels, allows_routed=self.allow_routed)


Flat = Parameter(name="*")
"""A group of options whose names stand alone."""
FILES, PAIRING, LEARNING, PAIR, OUTPUT = (
    FileOptions(),
    PairingOptions(),
    LearningOptions(),
    PairOptions(),
    OutputFormat(),
)


def _columns(column: tuple[str, ...]) -> dict[str, str]:
    pairs = [one.partition("=") for one in column]
    if bad := [ours for ours, equals, theirs in pairs if not (ours and equals and theirs)]:
        raise UsageRefused(f"--column expects OURS=THEIRS, got {bad[0]!r} (exit code {EXIT_USAGE})")
    return {ours: theirs for ours, _, theirs in pairs}
