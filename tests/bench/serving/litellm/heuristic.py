"""LiteLLM's complexity heuristics as a call in process."""

from litellm import Router
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter


def decider(_: list[str]):
    """Return what decides on one prompt."""
    return ComplexityRouter("auto", Router(model_list=[]), default_model="gpt-4o").classify
