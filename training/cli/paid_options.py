"""Options of the commands that pay for calls, `label --judge` and `replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from turnout.serving.cli.options import Flag
from turnout.serving.errors import UsageRefused
from turnout.training.calls.address import Address
from turnout.training.calls.budget import Caps
from turnout.training.calls.tariff import GivenPrices
from turnout.training.cli.options import NonNegative
from turnout.training.judge.settings import BatchSettings, JudgeSettings

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_KEY_ENV = "OPENAI_API_KEY"
DEFAULT_MAX_USD = 5.0

Seconds = Annotated[float, Parameter(validator=validators.Number(gte=0.1))]
RowsAtATime = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=256))]


@dataclass(frozen=True, kw_only=True)
class PriceOptions:
    """What calls cost where the price list lacks the model, and what is kept of them.

    Attributes:
        price_input: USD per million prompt tokens, where the price list lacks the model.
        price_output: USD per million completion tokens; goes with --price-input.
        redact: Replace e-mail addresses, telephone, IBAN and card numbers and IP addresses in every text that is kept
            or written; calls go out as logged.
    """

    price_input: Annotated[float | None, NonNegative] = None
    price_output: Annotated[float | None, NonNegative] = None
    redact: Flag = False

    @property
    def prices(self) -> GivenPrices | None:
        """The prices given; None when the list is to be read. Raises `UsageRefused` when only one of the two is."""
        if (self.price_input is None) != (self.price_output is None):
            raise UsageRefused("--price-input and --price-output go together: give both or neither")
        if self.price_input is None or self.price_output is None:
            return None
        return GivenPrices(self.price_input, self.price_output)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """A language model that compares the answers which nothing else decides.

    Attributes:
        judge: Model that compares the answers nothing else decides; given several times, a majority.
        judge_url: OpenAI-compatible endpoint of the judges.
        judge_key_env: Environment variable that holds the API key; empty where the endpoint needs none.
        judge_max_usd: Most USD that these rows may cost, over all runs.
        judge_max_calls: Most billed calls for these rows, over all runs.
        judge_dry_run: Print calls and cost; send and write nothing.
        judge_cache: SQLite file that remembers what was paid for; beside --out when not given.
        judge_all: Judge this many rows with a known label too, to measure the judge.
        judge_force: Let a model of the pair judge.
        judge_reasons: Keep the judge's reasons, which may quote prompts.
        judge_rubric: TOML file with another rubric than Turnout's.
        judge_concurrency: Rows asked at a time.
        judge_timeout_s: Seconds for one call.
        judge_batch: Use the Batch API: submit, and collect when run again.
        judge_batch_wait_s: Seconds to wait for batches before leaving.
        judge_batch_poll_s: Seconds between two looks at a batch.
    """

    judge: tuple[str, ...] = ()
    judge_url: str = DEFAULT_URL
    judge_key_env: str = DEFAULT_KEY_ENV
    judge_max_usd: Annotated[float, NonNegative] = DEFAULT_MAX_USD
    judge_max_calls: Annotated[int | None, NonNegative] = None
    judge_dry_run: Flag = False
    judge_cache: Path | None = None
    judge_all: Annotated[int, NonNegative] = 0
    judge_force: Flag = False
    judge_reasons: Flag = False
    judge_rubric: Path | None = None
    judge_concurrency: RowsAtATime = 8
    judge_timeout_s: Seconds = 120.0
    judge_batch: Flag = False
    judge_batch_wait_s: Annotated[float, NonNegative] = 0.0
    judge_batch_poll_s: Seconds = 30.0

    def settings(self, out: Path, prices: PriceOptions, seed: int) -> JudgeSettings | None:
        """Return how to judge; None where no judge is named.

        Raises:
            UsageRefused: options say something to judges that nobody named; a dry run without one would write labels.
        """
        if not self.judge:
            self._refuse_without_judge()
            return None
        return JudgeSettings(
            models=self.judge,
            address=Address(self.judge_url, self.judge_key_env, self.judge_timeout_s),
            cache=self.judge_cache or out.with_name(f"{out.name}.judge.sqlite"),
            caps=Caps(self.judge_max_usd, self.judge_max_calls),
            known_rows=self.judge_all,
            is_forced=self.judge_force,
            keeps_reasons=self.judge_reasons,
            is_dry_run=self.judge_dry_run,
            rubric=self.judge_rubric,
            redacts=prices.redact,
            concurrency=self.judge_concurrency,
            prices=prices.prices,
            batch=BatchSettings(self.judge_batch_wait_s, self.judge_batch_poll_s) if self.judge_batch else None,
            seed=seed,
        )

    def _refuse_without_judge(self) -> None:
        names = ("judge_dry_run", "judge_all", "judge_force", "judge_reasons", "judge_rubric", "judge_batch")
        if named := [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]:
            raise UsageRefused(f"{', '.join(named)}: name the judge with --judge MODEL")
