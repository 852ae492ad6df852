"""Settings of the judge, and the judges that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.calls.address import Address
from turnout.training.calls.budget import Caps
from turnout.training.calls.tariff import GivenPrices, bare_name, find_tariff
from turnout.training.errors import CallsMisused
from turnout.training.judge.rubric import Judge

DEFAULT_MAX_USD = 5.0


@dataclass(frozen=True)
class BatchSettings:
    """How to wait for a batch: `wait_s` in all before leaving it to a later run, looking every `poll_s`."""

    wait_s: float = 0.0
    poll_s: float = 30.0


@dataclass(frozen=True)
class JudgeSettings:
    """What the operator asked for.

    Attributes:
        models: the judges; the first decides where their votes are even.
        address: where they are.
        cache: SQLite file of what was asked and answered.
        caps: on all judges together, over all runs on these rows.
        known_rows: rows with a label by scores, preference or reference to judge too, to measure the judge.
        is_forced: whether a model of the pair may judge.
        keeps_reasons: whether the judge's reasons, which may quote prompts, are stored and written.
        is_dry_run: only say what it would cost.
        rubric: file with another rubric.
        concurrency: rows asked at a time.
        prices: of every judge, for models that the price list lacks.
        batch: use the Batch API.
        seed: of the sample of known rows.
        redacts: whether personal data is replaced in reasons that are kept.
    """

    models: tuple[str, ...]
    address: Address
    cache: Path
    caps: Caps = field(default_factory=lambda: Caps(DEFAULT_MAX_USD))
    known_rows: int = 0
    is_forced: bool = False
    keeps_reasons: bool = False
    is_dry_run: bool = False
    rubric: Path | None = None
    concurrency: int = 8
    prices: GivenPrices | None = None
    batch: BatchSettings | None = None
    seed: int = 0
    redacts: bool = False


def find_judges(settings: JudgeSettings, pair: Pair) -> list[Judge]:
    """Return the judges with their prices.

    Raises:
        CallsMisused: one of them is a model of the pair (a dated snapshot is its model), or named twice.
        PriceUnknown: one has no price.
    """
    settings.address.check()
    if len(set(settings.models)) < len(settings.models):
        raise CallsMisused("--judge names a model twice; a judge can't be its own second opinion")
    for model in settings.models:
        own = [name for name in (pair.strong, pair.weak) if is_model(bare_name(model), bare_name(name))]
        if own and not settings.is_forced:
            raise CallsMisused(
                f"--judge {model} is {own[0]}, one of the pair: a model prefers its own answers. Name another one, "
                "or add --judge-force"
            )
    is_batch = settings.batch is not None
    return [
        Judge(model, settings.address.place, find_tariff(model, settings.prices, is_batch=is_batch))
        for model in settings.models
    ]
