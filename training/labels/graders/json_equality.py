"""JSON: the reference is an object or a list, and the answer must hold the same value, keys in any order.

An object that maps each key to a list of labels is graded: the mean over its keys of the F1 of the labels.
An answer without JSON scores 0: whoever asks for JSON can't use it.
"""

from __future__ import annotations

from typing import Any

from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.texts import embedded_json, is_label, json_value, normal_form


def _read(question: Question) -> Grade | None:
    gold = json_value(question.reference)
    if not gold:
        return None
    if _is_label_lists(gold):
        return lambda answer: _mean_f1(gold, embedded_json(answer))
    return lambda answer: float(same_json(gold, embedded_json(answer)))


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal up to the order of keys; `1` equals `1.0` but not `true`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def _is_label_lists(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels)
        for labels in value.values()
    )


def _mean_f1(gold: dict[str, list[str]], found: Any) -> float:
    if not isinstance(found, dict):
        return 0.0
    return sum(_f1(labels, found.get(key)) for key, labels in gold.items()) / len(gold)


def _f1(gold: list[str], found: Any) -> float:
    said = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    labels = [label for label in said if isinstance(label, str)]
    # What is longer than a label beside labels explains them: models are often asked for ["label", "why"].
    wanted, got = set(map(normal_form, gold)), {normal_form(label) for label in labels if is_label(label)}
    return 2 * len(wanted & got) / (len(wanted) + len(got)) if got else 0.0


JSON = Grader("json", 0.9203, _read)
"""126 of 136 labels; the misses are all in a source whose gold names some classes otherwise than its prompt does."""
