"""Requests as they were paid for: one decision of the log with its answers, who answered in the end, and at what price.

Comes in: rows of the log's table. Goes out: `Request`. A request may have been tried: then the weak model answered
first, and where its answer was not accepted the strong one too. A try without a verdict counts as escalated, which is
what every client makes of a check that failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnout.serving.decision.prices import Price, load_prices
from turnout.serving.decision.routes import Action, Route, Verdict
from turnout.training.offpolicy.answers import (
    STRONG,
    WEAK,
    Decided,
    Tokens,
    answers_of,
    price_at,
    self_check_usd,
    tokens_of,
)

COLUMNS = (
    "created", "route", "action", "model", "other_model", "session_id", "responses", "error_code", "wants_both",
    "weak_cost_usd", "strong_cost_usd", "verdict", "self_check", "checked_prompt_tokens", "checked_completion_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One decision with the answers that are known of it.

    Attributes:
        decided: when, by which tier and which models.
        session_id: None for none.
        known: tokens of each answer as the vendor counted them, by tier.
        prices: of either tier, on that day.
        expected_usd: of either tier's answer; None without a price.
        is_tried: whether the weak answer was to be checked, or was.
        verdict: on the weak answer; None where nobody gave one.
        weak_failed: whether the weak model was asked and gave no answer.
        wants_both: whether exploration asked for both answers.
        self_check_usd: of asking the weak model whether it was right; 0 where nobody did.
    """

    decided: Decided
    session_id: str | None
    known: dict[int, Tokens]
    prices: tuple[Price, Price]
    expected_usd: tuple[float | None, float | None]
    is_tried: bool
    verdict: Verdict | None
    weak_failed: bool
    wants_both: bool
    self_check_usd: float

    @property
    def served(self) -> int:
        """The tier whose answer was shown: the routed one, by its verdict, or the other where the caller fell back."""
        if self.verdict is not None or self.is_tried:
            return WEAK if self.verdict is Verdict.ACCEPT else STRONG
        return self.decided.tier if self.decided.tier in self.known or not self.known else next(iter(self.known))

    @property
    def obtained(self) -> set[int]:
        """The tiers that answered and are to be paid, their tokens known or not."""
        tried = {WEAK} if self.is_tried and not self.weak_failed else set()
        return {*self.known, self.served, *tried}

    @property
    def is_counted(self) -> bool:
        """Whether the vendor's tokens of all its answers are known."""
        return self.obtained <= self.known.keys()

    def usd(self, tier: int) -> float | None:
        """Return what an answer that was obtained cost: by its tokens, else as expected."""
        if tier in self.known:
            return self.prices[tier].cost_usd(*self.known[tier])
        return self.expected_usd[tier]


def request_of(row: dict[str, object]) -> Request | None:
    """Return a row of the log; None where neither tokens and prices nor expected costs tell what it cost."""
    tier = WEAK if row["route"] == Route.WEAK else STRONG
    decided = Decided(float(row["created"]), tier, str(row["model"]), str(row["other_model"] or ""))  # type: ignore[arg-type]
    weak, strong = (price_at(model, decided.created_s, load_prices()) for model in decided.models)
    if weak is None or strong is None:
        return None
    responses = row["responses"]
    answers = answers_of(None if responses is None else str(responses), decided)
    known = {tier: tokens for tier, answer in enumerate(answers) if (tokens := tokens_of(answer)) is not None}
    if row["verdict"] and WEAK not in known and (checked := _checked(row)) is not None:
        known[WEAK] = checked
    request = Request(
        decided=decided,
        session_id=row["session_id"],  # type: ignore[arg-type]
        known=known,
        prices=(weak, strong),
        expected_usd=(row["weak_cost_usd"], row["strong_cost_usd"]),  # type: ignore[arg-type]
        is_tried=row["action"] == Action.TRY,
        verdict=Verdict(str(row["verdict"])) if row["verdict"] else None,
        weak_failed=not row["verdict"] and WEAK not in known and bool(row["error_code"]),
        wants_both=bool(row["wants_both"]),
        self_check_usd=self_check_usd(answers[WEAK], known.get(WEAK), weak, was_asked=row["self_check"] is not None),
    )
    return request if all(request.usd(tier) is not None for tier in (*request.obtained, *_strong(request))) else None


def _strong(request: Request) -> set[int]:
    """Return what must have a price beside what was obtained: the strong answer, where no tokens tell of any."""
    return set() if request.known else {STRONG}


def _checked(row: dict[str, object]) -> Tokens | None:
    """Return the tokens of the weak answer as the check had them: nobody says there what was cached."""
    prompt, completion = row["checked_prompt_tokens"], row["checked_completion_tokens"]
    return (prompt, completion, 0) if isinstance(prompt, int) and isinstance(completion, int) else None
