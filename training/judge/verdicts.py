"""Verdicts: from a judge's two answers, one for each order, to what it thinks of a row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from turnout.serving.router.redaction import redact
from turnout.training.calls.call import Reply

JSON_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
Score = Annotated[float, msgspec.Meta(ge=0, le=10)]


class Opinion(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the judge said in one order; `reason` only where it is kept."""

    verdict: Literal["A", "B", "tie"]
    score_a: Score
    score_b: Score
    reason: str = ""

    @property
    def is_consistent(self) -> bool:
        """Whether verdict and scores say the same; a tie allows a gap of one point."""
        gap = self.score_a - self.score_b
        return {"A": gap >= 0, "B": gap <= 0, "tie": abs(gap) <= 1}[self.verdict]


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """What a judge thinks of a row, from both orders.

    Attributes:
        winner: `strong`, `weak` or `tie`.
        is_flip: whether the two orders named different winners; it is a tie then.
        score_gap: weak minus strong, mean over the orders, -10 to 10.
        first_wins, second_wins: in how many of the two orders the answer shown first won, and the other.
        reasons: one an order; empty where they are not kept.
    """

    winner: Literal["strong", "weak", "tie"]
    is_flip: bool
    score_gap: float
    first_wins: int
    second_wins: int
    reasons: tuple[str, str]

    @property
    def match(self) -> int:
        """1 unless the strong answer won."""
        return int(self.winner != "strong")


def read_opinion(reply: Reply, *, keep_reason: bool, redacts: bool = False) -> bytes | None:
    """Return the opinion in a reply as JSON, None if there is none to be read.

    Text around the JSON object is allowed: some models fence it.
    """
    found = JSON_OBJECT.search(reply.content)
    if found is None:
        return None
    try:
        opinion = msgspec.json.decode(found[0].encode("utf-8", "replace"), type=Opinion)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not opinion.is_consistent:
        return None
    reason = (redact(opinion.reason) if redacts else opinion.reason) if keep_reason else ""
    return msgspec.json.encode(msgspec.structs.replace(opinion, reason=reason))


def verdict_of(strong_first: bytes, weak_first: bytes) -> JudgeVerdict:
    """Combine what was kept of both orders: a winner must win in both, anything else is a tie."""
    one, two = (msgspec.json.decode(kept, type=Opinion) for kept in (strong_first, weak_first))
    winners = (
        {"A": "strong", "B": "weak"}.get(one.verdict, "tie"),
        {"A": "weak", "B": "strong"}.get(two.verdict, "tie"),
    )
    agreed = winners[0] if winners[0] == winners[1] else "tie"
    gap = ((one.score_b - one.score_a) + (two.score_a - two.score_b)) / 2
    return JudgeVerdict(
        winner="strong" if agreed == "strong" else "weak" if agreed == "weak" else "tie",
        is_flip=winners[0] != winners[1],
        score_gap=gap,
        first_wins=(one.verdict == "A") + (two.verdict == "A"),
        second_wins=(one.verdict == "B") + (two.verdict == "B"),
        reasons=(one.reason, two.reason),
    )
