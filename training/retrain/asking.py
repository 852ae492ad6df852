"""Asking: what champion and challenger say of the same prompts, as each would be served, turn about.

Comes in: both graphs, each with the threshold of the served policy, and prompts. Goes out: their answers, and how long
each answer took. The turns alternate, so that a busy moment of the machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.serving.router.model import RouterModel
from turnout.serving.router.prompt import Prompt
from turnout.training.arrays import Floats
from turnout.training.retrain.gate import Answers

WARM_UP_PROMPTS = 5


@dataclass(frozen=True)
class Side:
    """A graph and the threshold, in [0, 1], at which it routes."""

    model: RouterModel
    threshold: float


@dataclass(frozen=True)
class Asked:
    """Answers to n prompts, and the milliseconds that each took, (n,), from text to route."""

    answers: Answers
    latency_ms: Floats


def ask_both(
    champion: Side, challenger: Side, prompts: Sequence[Prompt], advance: Callable[[int], None] = lambda _: None
) -> tuple[Asked, Asked]:
    """Return what both say of each prompt; raises `ModelFault` when one gives no usable number."""
    sides = champion, challenger
    p_match, took_ms = np.empty((2, len(prompts))), np.empty((2, len(prompts)))
    goes_weak = np.zeros((2, len(prompts)), dtype=bool)
    for prompt in prompts[:WARM_UP_PROMPTS]:
        for side in sides:
            side.model.predict(prompt, side.threshold)
    for row, prompt in enumerate(prompts):
        for number in (0, 1) if row % 2 else (1, 0):
            side, started = sides[number], time.perf_counter()
            said = side.model.predict(prompt, side.threshold)
            took_ms[number, row] = 1e3 * (time.perf_counter() - started)
            p_match[number, row], goes_weak[number, row] = said.p_match, said.goes_weak(side.threshold)
        advance(1)
    first, second = (Asked(Answers(p_match[one], goes_weak[one]), took_ms[one]) for one in (0, 1))
    return first, second
