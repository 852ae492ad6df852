"""Requests as they were paid for: one decision of the log with its answers, who answered in the end, and at what price.

Comes in: rows of the log's table. Goes out: `Request`. A request may have been tried: then the weak model answered
first, and where its answer was not accepted the strong one too. A try without a verdict counts as escalated, which is
what every client makes of a check that failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnout.serving.decision.prices import Price, load_prices
from turnout.serving.decision.routes import Action, Verdict
from turnout.serving.errors import PriceUnknown
from turnout.training.offpolicy.answers import (
    STRONG,
    WEAK,
    Decided,
    Tokens,
    answers_of,
    decided_of,
    prices_of,
    self_check_usd,
    tokens_of,
)

COLUMNS = (
    "created", "route", "action", "model", "other_model", "session_id", "responses", "error_code", "wants_both",
    "weak_cost_usd", "strong_cost_usd", "verdict", "self_check", "checked_prompt_tokens", "checked_completion_tokens",
    "rung", "rungs", "usd_rungs", "check_model", "check_rung",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One decision with the answers that are known of it.

    Attributes:
        decided: when, by which tier and which models.
        session_id: None for none.
        known: tokens of each answer as the vendor counted them, by tier, of a ladder by rung.
        prices: of each tier, on that day; None where nothing was obtained of a rung without one.
        expected_usd: of each tier's answer; None without a price.
        is_tried: whether the weak answer was to be checked, or was.
        verdict: on the weak answer; None where nobody gave one.
        weak_failed: whether the weak model was asked and gave no answer.
        wants_both: whether exploration asked for both answers.
        escalated_to: the tier, of a ladder the rung, that what is not accepted goes to.
        self_check_usd: of asking the weak model whether it was right; 0 where nobody did.
    """

    decided: Decided
    session_id: str | None
    known: dict[int, Tokens]
    prices: tuple[Price | None, ...]
    expected_usd: tuple[float | None, ...]
    is_tried: bool
    verdict: Verdict | None
    weak_failed: bool
    wants_both: bool
    escalated_to: int
    self_check_usd: float

    @property
    def served(self) -> int:
        """The tier whose answer was shown: the routed one, by its verdict, or the other where the caller fell back."""
        if self.verdict is not None or self.is_tried:
            return WEAK if self.verdict is Verdict.ACCEPT else self.escalated_to
        return self.decided.tier if self.decided.tier in self.known or not self.known else max(self.known)

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
            return self.price(tier).cost_usd(*self.known[tier])
        return self.expected_usd[tier]

    def price(self, tier: int) -> Price:
        """Return the price of a tier whose tokens are known, or of the strong one."""
        price = self.prices[tier]
        if price is None:  # `request_of` returns no such request
            raise PriceUnknown(f"no price for model {self.decided.models[tier]!r}")
        return price


def request_of(row: dict[str, Any]) -> Request | None:
    """Return a row of the log; None where neither tokens and prices nor expected costs tell what it cost."""
    decided = decided_of(row)
    prices = prices_of(decided, load_prices())
    answers = answers_of(row["responses"], decided)
    known = {tier: tokens for tier, answer in enumerate(answers) if (tokens := tokens_of(answer)) is not None}
    if row["verdict"] and WEAK not in known and (checked := _checked(row)) is not None:
        known[WEAK] = checked
    needed = {WEAK, decided.top, *known} if decided.rungs else {WEAK, STRONG}
    if (weak := prices[WEAK]) is None or any(prices[tier] is None for tier in needed):
        return None
    request = Request(
        decided=decided,
        session_id=row["session_id"],
        known=known,
        prices=prices,
        expected_usd=_expected_usd(row),
        is_tried=row["action"] == Action.TRY,
        verdict=Verdict(str(row["verdict"])) if row["verdict"] else None,
        weak_failed=not row["verdict"] and WEAK not in known and bool(row["error_code"]),
        wants_both=bool(row["wants_both"]),
        escalated_to=_escalated_to(row, decided),
        self_check_usd=self_check_usd(answers[WEAK], known.get(WEAK), weak, was_asked=row["self_check"] is not None),
    )
    return request if all(request.usd(tier) is not None for tier in (*request.obtained, *_strong(request))) else None


def _expected_usd(row: dict[str, Any]) -> tuple[float | None, ...]:
    if row["rungs"]:
        return tuple(row["usd_rungs"] or [None] * len(row["rungs"]))
    return row["weak_cost_usd"], row["strong_cost_usd"]


def _escalated_to(row: dict[str, Any], decided: Decided) -> int:
    """Return where the verdict sent what it did not accept; the strong model for a pair, and where nobody checked."""
    name = row["check_rung"] or row["check_model"]
    return decided.rungs.index(name) if row["verdict"] == Verdict.ESCALATE and name in decided.rungs else decided.top


def _strong(request: Request) -> set[int]:
    """Return what must have a price beside what was obtained: the strong answer, where no tokens tell of any."""
    return set() if request.known else {request.decided.top}


def _checked(row: dict[str, Any]) -> Tokens | None:
    """Return the tokens of the weak answer as the check had them: nobody says there what was cached."""
    prompt, completion = row["checked_prompt_tokens"], row["checked_completion_tokens"]
    return (prompt, completion, 0) if isinstance(prompt, int) and isinstance(completion, int) else None
