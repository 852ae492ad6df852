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
from turnout.serving.router.rungs import RungHeads
from turnout.training.arrays import Bools, Floats
from turnout.training.retrain.gate import ServedAnswers

WARM_UP_PROMPTS = 5


@dataclass(frozen=True)
class Side:
    """A graph and the threshold, in [0, 1], at which it routes; of a ladder also the heads of the rungs between."""

    model: RouterModel
    threshold: float
    rungs: RungHeads | None = None


@dataclass(frozen=True)
class TimedAnswers:
    """Answers to n prompts, and the milliseconds that each took, (n,), from text to route.

    Of a ladder also p of the rungs between, (n, rungs), and which prompts are unlike the training data, (n,).
    """

    answers: ServedAnswers
    latency_ms: Floats
    p_rungs: Floats | None = None
    is_unlike: Bools | None = None


def ask_both(
    champion: Side, challenger: Side, prompts: Sequence[Prompt], advance: Callable[[int], None] = lambda _: None
) -> tuple[TimedAnswers, TimedAnswers]:
    """Return what both say of each prompt; raises `ModelFault` when one gives no usable number."""
    sides = champion, challenger
    p_match, took_ms = np.empty((2, len(prompts))), np.empty((2, len(prompts)))
    goes_weak, is_unlike = np.zeros((2, 2, len(prompts)), dtype=bool)
    p_rungs: list[list[tuple[float, ...]]] = [[], []]
    for prompt in prompts[:WARM_UP_PROMPTS]:
        for side in sides:
            side.model.predict(prompt, side.threshold)
    for row, prompt in enumerate(prompts):
        for number in (0, 1) if row % 2 else (1, 0):
            side, started = sides[number], time.perf_counter()
            features = side.model.featurize(prompt)
            said = side.model.predict_features(features, side.threshold)
            p_rungs[number].append(side.rungs.p_rungs(features) if side.rungs else ())
            took_ms[number, row] = 1e3 * (time.perf_counter() - started)
            p_match[number, row], goes_weak[number, row] = said.p_match, said.goes_weak(side.threshold)
            is_unlike[number, row] = said.is_out_of_distribution
        advance(1)
    first, second = (
        TimedAnswers(ServedAnswers(p_match[one], goes_weak[one]), took_ms[one], np.array(p_rungs[one]), is_unlike[one])
        for one in (0, 1)
    )
    return first, second
