"""How often the fast head answers on the mix, and how often the full model would have routed otherwise."""

from __future__ import annotations

import msgspec

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.model import Stage
from turnout.serving.router.prompt import prompt_from_text


class EarlyExit(msgspec.Struct, frozen=True):
    """The cascade beside the full model, under the default policy.

    Attributes:
        prompts: asked.
        policy: the default one.
        fast_share: share answered by the fast head.
        disagreement: share of all prompts that the full model sends to the other tier.
    """

    prompts: int
    policy: str
    fast_share: float
    disagreement: float


def early_exit(texts: list[str]) -> EarlyExit:
    """Ask the champion twice for each prompt: as served, and without the early exit."""
    bundle = load_bundle(find_bundle())
    policy = bundle.manifest.policy("")
    fast = differ = 0
    for text in texts:
        prompt = prompt_from_text(text)
        served = bundle.model.predict(prompt, policy.threshold)
        fast += served.stage is Stage.FAST
        if served.stage is Stage.FAST:  # else both are the same number
            full = bundle.model.predict(prompt, policy.threshold, early_exit=False)
            differ += (served.p_match >= policy.threshold) != (full.p_match >= policy.threshold)
    return EarlyExit(len(texts), policy.name, fast / len(texts), differ / len(texts))
