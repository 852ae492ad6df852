"""Whether the fast head in C says what the graph says: asked before it may serve.

Comes in: both, and the golden prompts of a bundle. Goes out: nothing, or `NotNative` with the reason. 200 more prompts
are made here, by the same chance everywhere: words, what is no word, constraints, choices, signs, scripts, white space
of all kinds, from nothing to more than is read. It takes 0.1 s.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from math import inf, isnan

import numpy as np

from turnout.serving.router.features import HEAD_CHARS, TAIL_CHARS, Features, Featurizer
from turnout.serving.router.model import FastHead, Stage
from turnout.serving.router.native.native_head import Found, NativeHead, NotNative
from turnout.serving.router.prompt import Prompt, prompt_from_text
from turnout.serving.router.rungs import RungHeads

MORE_PROMPTS = 200
PARITY = 1e-6
"""Largest difference of p_match: float32 rounds it by 6e-8, and the order of sums by as much again."""

THRESHOLDS = (0.05, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 0.0, 1.0)
"""One for each prompt, in turn: what is left open goes by them."""

TEXTS = (
    *("the", "of", "must", "Only", "exactly", "at", "least", "no", "more", "than", "without", "step", "by", "EVERY"),
    *("at least", "no more than", "step by step by step", "must_not", "should", "ferry", "Quarterly", "unbelievably"),
    *("xqzt", "zyzzyva", "x" * 99, "y" * 130, "3.14159", "2024-05-03", "1,000", "don't", "e-mail", "a_b", "C++"),
    *("(A) one\n", "B. two\n", "\n c) three", "\nJ: four\n", "\n K. five ", "{", "}", "[", "`", "$", "?", "??"),
    *(" ", "  ", "\t", "\n", "\n\n", "\r\n", "\x0b", "\x1c", "\x00", "\x7f", "\xa0", "\u2003", "\u200b", "\ufeff"),
    *("naïve", "Straße", "ÀÉÎ", "Ångström", "e\u0301", "—", "“quoted”", "…", "€", "½", "\u0301"),
    *(
        "ελληνικά",
        "Привет",
        "עברית",
        "العربية",
        "ไทย",
        "日本語",
        "中文。",
        "한국어",
        "カナ",
        "🚆",
        "👩‍🔬",
        "\U0001d4b3",
    ),
)
STRANGE = ("[CLS]", "İstanbul", "\u017fhould", "\u212a", "বাংলো", "\u302e", "\U00020000", "\ue000", "\U0001fae8")
"""What is handed over, or may be; every fourth prompt holds some of it."""


def check_agreement(
    native: NativeHead, head: FastHead, featurize: Featurizer, golden: Sequence[str], rungs: RungHeads | None = None
) -> str:
    """Compare features and answers, prompt by prompt; return why p of the rungs differs, empty where it does not.

    Args:
        native: the head in C.
        head: the same stage as a graph.
        featurize: the Python path to its inputs.
        golden: texts of the golden prompts.
        rungs: of a ladder, the heads of the rungs between, which `native` holds too; None for a pair.

    Raises:
        NotNative: they differ, or nothing is read by the head in C; the message holds no prompt.
    """
    prompts = [*map(prompt_from_text, golden), *more_prompts(MORE_PROMPTS)]
    n_read, rungs_differ = 0, ""
    for place, prompt in enumerate(prompts):
        threshold = THRESHOLDS[place % len(THRESHOLDS)]
        found = native.look(prompt, threshold, wants_features=True)
        if found is None:
            continue
        n_read += 1
        features, at = featurize(prompt), f"prompt {place + 1} of {len(prompts)}"
        differs = _differs(found, features, head, threshold)
        if differs:
            raise NotNative(f"{at}: {differs}")
        if rungs is not None and not rungs_differ:
            off = most_off(found.p_rungs, rungs.p_rungs(features))
            rungs_differ = "" if off <= PARITY else f"{at}: p of a rung off by {off:.1e}, allowed {PARITY:.0e}"
    if n_read < len(prompts) / 2:
        raise NotNative(f"it read {n_read} of {len(prompts)} prompts")
    return rungs_differ


def most_off(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest difference of p; infinite where there are not as many, or one is no number."""
    if len(one) != len(other):
        return inf
    off = [abs(p - q) for p, q in zip(one, other, strict=True)]
    return inf if any(map(isnan, off)) else max(off, default=0.0)


def more_prompts(n: int, seed: int = 20) -> Iterator[Prompt]:
    """Yield prompts of up to 60 pieces of text, and now and then one that is longer than what is read."""
    chance = random.Random(seed)  # noqa: S311  # the same prompts everywhere
    for place in range(n):
        words = chance.choices(TEXTS + STRANGE * (place % 4 == 3), k=chance.randrange(60))
        text = "".join(word + chance.choice((" ", " ", " ", "", "\n")) for word in words)
        if place % 50 == 49:
            text = text * (1 + (HEAD_CHARS + TAIL_CHARS) // max(1, len(text)))
        turns, tools, images = chance.choice((1, 1, 2, 9)), chance.choice((0, 0, 3)), chance.choice((0, 0, 2))
        yield Prompt(text, turns, images, tools, wants_json=chance.random() < 0.1)


def _differs(found: Found, features: Features, head: FastHead, threshold: float) -> str:
    """Return in what they differ; empty for nothing."""
    for name in Features.__slots__:
        if not np.array_equal(getattr(found.features, name), getattr(features, name)):
            return f"other {name}"
    said = head.first_stage(features, threshold)
    if found.is_open is not (said.stage is Stage.FULL):
        return f"stage {said.stage} at threshold {threshold} from the graph, and not from the head in C"
    if (head.is_unseen(found.measures) or found.is_unlike) is not said.is_out_of_distribution:
        return "one calls it out of distribution"
    if not abs(found.p_match - said.p_match) <= PARITY:  # NaN differs too
        return f"p_match off by {abs(found.p_match - said.p_match):.1e}, allowed {PARITY:.0e}"
    return ""
