"""A small second look for tests: a logistic regression over an answer's signals and length, with a bundle that has it.

Its p_match rises with the mean log-probability of the answer's tokens, or with the self-check:

    log-probabilities of 0      accepted          -0.5 and less      escalated (at a threshold of 0.7)
"""

from __future__ import annotations

import dataclasses
import math

import msgspec

from turnout.serving.bundles.bundle import Bundle, CheckedPolicy
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.checker import Checked, CheckHead

T_STRONG, T_WEAK, T_ACCEPT = 0.05, 0.99, 0.7


class SignalChecker:
    """p_match = sigmoid(3 + 8 x signal + 0.1 x log-odds of the first look), and low without a signal."""

    def check(
        self,
        prompt_text: str,
        answer: Answer,
        signals: Signals,
        first_log_odds: float,
        is_out_of_distribution: bool,
    ) -> Checked:
        name, value = _first_of(signals)
        if value is None and is_out_of_distribution:
            return Checked(0.0, CheckHead.NONE)
        head = CheckHead.SIGNALS if is_out_of_distribution else CheckHead.CHECKER
        line = 3.0 + 8.0 * value if value is not None else -1.0 - 0.001 * math.log1p(len(prompt_text))
        line += 0.1 * first_log_odds - (1.0 if answer.is_refusal else 0.0)
        return Checked(1.0 / (1.0 + math.exp(-line)), head, (name,) if name else ())


def _first_of(signals: Signals) -> tuple[str, float | None]:
    if signals.token_logprobs:
        return "token_logprobs", math.fsum(signals.token_logprobs) / len(signals.token_logprobs)
    for name in ("mean_logprob", "self_check"):
        if getattr(signals, name) is not None:
            return name, getattr(signals, name)
    return "", None


def checked_policy(**changes: object) -> CheckedPolicy:
    """Return thresholds under which nearly everything is tried."""
    whole = CheckedPolicy(
        t_strong=T_STRONG,
        t_weak=T_WEAK,
        t_accept=T_ACCEPT,
        is_met=True,
        share_weak=0.1,
        share_tried=0.8,
        share_escalated=0.3,
        share_answered_weak=0.6,
        quality_kept=0.99,
        share_worse=0.005,
        share_worse_bound=0.01,
        delta=0.1,
        cost_ratio=0.5,
    )
    return msgspec.structs.replace(whole, **changes)


def with_second_look(bundle: Bundle, **changes: object) -> Bundle:
    """Return the bundle with a second look, and all its policies with a rule over three actions."""
    checked = checked_policy(**changes)
    policies = [msgspec.structs.replace(policy, checked=checked) for policy in bundle.manifest.policies]
    manifest = msgspec.structs.replace(bundle.manifest, policies=policies)
    return dataclasses.replace(bundle, manifest=manifest, checker=SignalChecker())
