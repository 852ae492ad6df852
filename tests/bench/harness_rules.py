"""What leaving out harness text costs: the rules alone, and as a share of the features of the same prompt.

    python -m tests.bench.harness_rules

Prompts take turns in one run, and both variants of a prompt too: times on a shared machine vary, their ratios hold.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.features import Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES, strip_harness
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder

ROUNDS, RUNS = 60, 50
SENTENCE = "The ferry leaves the northern pier at noon and seven lamps light the street. "
REMINDER = "<system-reminder>\nThe to-do list is empty. Do not mention it.\n</system-reminder>"
HTML = "<div>\n<b>noon</b>\n</div>\n"
PROMPTS = {
    "plain, 80 characters": SENTENCE,
    "plain, 8,000 characters": SENTENCE * 100,
    "HTML, 8,000 characters": HTML * 300,
    "a reminder, 800 characters": SENTENCE * 9 + "\n\n" + REMINDER,
    "conversation of 6, 1,000 characters": "\n\n".join(
        f"{role}:\n{SENTENCE * 2}" for role in ("user", "assistant") * 3
    ),
    "agent of 40 messages, 100,000 characters": "\n\n".join(
        f"{role}:\n{SENTENCE * 30}\n{REMINDER}" for role in ("user", "assistant", "tool", "assistant") * 10
    ),
}


def main() -> None:
    """Measure and print."""
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    readers = [
        Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, rules) for rules in (0, LATEST_HARNESS_RULES)
    ]
    print(f"{'prompt':42s} rules, us   features without, us   features with / without (quartiles)")
    for name, text in PROMPTS.items():
        prompt = prompt_from_text(text)
        runs: list[Callable[[], object]] = [lambda: strip_harness(text, LATEST_HARNESS_RULES)]  # noqa: B023
        runs += [lambda read=read: read(prompt) for read in readers]  # type: ignore[misc]  # noqa: B023
        rules, without, with_rules = zip(*([_us(run) for run in runs] for _ in range(ROUNDS)), strict=True)
        ratios = [ours / theirs for ours, theirs in zip(with_rules, without, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:42s} {statistics.median(rules):9.2f} {statistics.median(without):22.1f}   "
            f"{middle:.3f} ({low:.3f} to {high:.3f})"
        )


def _us(run: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    for _ in range(RUNS):
        run()
    return (time.perf_counter() - started_s) / RUNS * 1e6


if __name__ == "__main__":
    sys.exit(main())
