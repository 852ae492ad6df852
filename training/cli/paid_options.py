"""Options of the commands that pay for calls, `label --judge` and `replay`; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # its modules need the extra `train`, and options are read before any command is chosen
    from turnout.training.calls.address import Address
    from turnout.training.calls.budget import Caps
    from turnout.training.calls.tariff import GivenPrices

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_KEY_ENV = "OPENAI_API_KEY"
DEFAULT_MAX_USD = 5.0

KeyEnv = Annotated[
    str, typer.Option(help="Environment variable that holds the API key; empty where the endpoint needs none.")
]
MaxUsd = Annotated[float, typer.Option(min=0, help="Most USD that these rows may cost, over all runs.")]
MaxCalls = Annotated[int | None, typer.Option(min=0, help="Most billed calls for these rows, over all runs.")]
DryRun = Annotated[bool, typer.Option(help="Print calls and cost; send and write nothing.")]
Cache = Annotated[
    Path | None, typer.Option(help="SQLite file that remembers what was paid for; beside --out when not given.")
]
Redact = Annotated[
    bool,
    typer.Option(
        "--redact",
        help="Replace e-mail addresses, telephone, IBAN and card numbers and IP addresses in every text that is kept "
        "or written; calls go out as logged.",
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Rows asked at a time.")]
TimeoutS = Annotated[float, typer.Option(min=0.1, help="Seconds for one call.")]
PriceInput = Annotated[
    float | None, typer.Option(min=0, help="USD per million prompt tokens, where the price list lacks the model.")
]
PriceOutput = Annotated[
    float | None, typer.Option(min=0, help="USD per million completion tokens; goes with --price-input.")
]
ReplayUrl = Annotated[str, typer.Option(help="OpenAI-compatible endpoint of the weak model.")]
Plan = Annotated[
    str, typer.Option(help="Which rows to sample: uniform, task (as many of each), uncertainty (p_match near 0.5).")
]
JudgeModels = Annotated[
    list[str] | None,
    typer.Option(help="Model that compares the answers nothing else decides; given several times, a majority."),
]
JudgeUrl = Annotated[str, typer.Option(help="OpenAI-compatible endpoint of the judges.")]
JudgeAll = Annotated[
    int, typer.Option(min=0, help="Judge this many rows with a known label too, to measure the judge.")
]
JudgeForce = Annotated[bool, typer.Option("--judge-force", help="Let a model of the pair judge.")]
JudgeReasons = Annotated[
    bool, typer.Option("--judge-reasons", help="Keep the judge's reasons, which may quote prompts.")
]
JudgeRubric = Annotated[Path | None, typer.Option(help="TOML file with another rubric than Turnout's.")]
JudgeBatch = Annotated[
    bool, typer.Option("--judge-batch", help="Use the Batch API: submit, and collect when run again.")
]
JudgeBatchWait = Annotated[float, typer.Option(min=0, help="Seconds to wait for batches before leaving.")]
JudgeBatchPoll = Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at a batch.")]


def refuse_without_judge(given: Mapping[str, object]) -> None:
    """Refuse options, by name, that say something to judges nobody named; those that are off pass.

    Raises:
        typer.BadParameter: any is given; a dry run without a judge would write labels.
    """
    if named := [name for name, value in given.items() if value]:
        raise typer.BadParameter(f"{', '.join(named)}: name the judge with --judge MODEL")


def address(url: str, key_env: str, timeout_s: float) -> Address:
    """Return where the endpoint is."""
    from turnout.training.calls.address import Address

    return Address(url, key_env, timeout_s)


def caps(max_usd: float, max_calls: int | None) -> Caps:
    """Return the caps."""
    from turnout.training.calls.budget import Caps

    return Caps(max_usd, max_calls)


def prices(price_input: float | None, price_output: float | None) -> GivenPrices | None:
    """Return the prices given; None when the list is to be read.

    Raises:
        typer.BadParameter: only one of the two is given.
    """
    if (price_input is None) != (price_output is None):
        raise typer.BadParameter("--price-input and --price-output go together: give both or neither")
    if price_input is None or price_output is None:
        return None
    from turnout.training.calls.tariff import GivenPrices

    return GivenPrices(price_input, price_output)
