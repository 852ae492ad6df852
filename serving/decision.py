"""From a prompt and a policy to a `Decision`; used by the service, the command line and `predict`.

Guards come before the model: they need no probability, and the strong model is always a safe answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from serving.bundle import Bundle, Pair, Policy
from serving.errors import InvalidRequest
from serving.model import Prediction, Stage
from serving.prompt import Prompt

MAX_ESTIMATED_TOKENS = 50_000
"""Beyond it gpt-4o-mini degrades although its window is 128,000 tokens; UTF-8 bytes / 4."""


class Route(StrEnum):
    """The tier a request is sent to."""

    WEAK = "weak"
    STRONG = "strong"


class Reason(StrEnum):
    """What decided."""

    MODEL = "MODEL"
    RULE = "RULE"
    TOO_LONG = "TOO_LONG"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class Decision:
    """One routing decision.

    Attributes:
        route: the tier.
        model: the model's name, from the bundle's pair.
        p_match: calibrated probability of a match; None when the model did not run.
        confidence: `p_match` when weak, `1 - p_match` when strong; None when the model did not run.
            Below 0.5 is normal for strong under a cautious policy: insurance bought.
        threshold: in [0, 1]; `p_match` at or above it goes weak.
        policy: the policy's name, `threshold=...` for an override.
        reason: what decided.
        stage: the head that answered; None when the model did not run.
    """

    route: Route
    model: str
    p_match: float | None
    confidence: float | None
    threshold: float
    policy: str
    reason: Reason
    stage: Stage | None


def threshold_policy(threshold: float) -> Policy:
    """Return the policy that a caller's plain threshold stands for.

    Raises:
        InvalidRequest: the threshold is NaN or outside [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise InvalidRequest(f"threshold: expected a number in [0, 1], got {threshold}")
    return Policy(
        name=f"threshold={threshold:g}",
        kind="threshold",
        target=threshold,
        threshold=threshold,
        is_met=True,
        share_weak=float("nan"),
        quality_kept=None,
        share_worse=float("nan"),
    )


def guard(prompt: Prompt) -> Reason | None:
    """Return why the prompt goes strong without asking the model, or None.

    Raises:
        InvalidRequest: there is nothing to route: no text, no image, no tool.
    """
    if prompt.is_empty:
        if prompt.images or prompt.tools:
            return Reason.RULE
        raise InvalidRequest("the request has no content: expected text, messages or an OpenAI body with some text")
    if len(prompt.text.encode("utf-8")) > 4 * MAX_ESTIMATED_TOKENS:
        return Reason.TOO_LONG
    return None


def decide(bundle: Bundle, prompt: Prompt, policy: Policy, *, early_exit: bool = True) -> Decision:
    """Route one prompt; raises what `guard` and `RouterModel.predict` raise."""
    reason = guard(prompt)
    if reason is not None:
        return guarded_decision(bundle.manifest.pair, policy, reason)
    prediction = bundle.model.predict(prompt, policy.threshold, early_exit=early_exit)
    return model_decision(bundle.manifest.pair, policy, prediction)


def guarded_decision(pair: Pair, policy: Policy, reason: Reason) -> Decision:
    """Return the decision for the strong model that a guard took, without any probability."""
    return Decision(Route.STRONG, pair.strong, None, None, policy.threshold, policy.name, reason, None)


def model_decision(pair: Pair, policy: Policy, prediction: Prediction) -> Decision:
    """Return the decision that `p_match` and the policy's threshold give."""
    p_match = prediction.p_match
    is_weak = p_match >= policy.threshold
    return Decision(
        route=Route.WEAK if is_weak else Route.STRONG,
        model=pair.weak if is_weak else pair.strong,
        p_match=p_match,
        confidence=p_match if is_weak else 1.0 - p_match,
        threshold=policy.threshold,
        policy=policy.name,
        reason=Reason.MODEL,
        stage=prediction.stage,
    )
