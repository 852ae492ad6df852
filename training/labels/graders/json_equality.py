"""JSON: the reference is an object or a list, and the answer must hold the same value, keys in any order.

An object that maps each key to a list of labels is graded: the mean over its keys of the F1 of the labels.
An answer is wrong where a figure, a key or a class differs; texts that differ may be two names of one thing, and an
answer without JSON may hold the same in another notation: those decide nothing.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from turnout.training.labels.classes import same_class
from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.stretches import without_thinking
from turnout.training.labels.texts import embedded_json, is_label, json_value, json_values, normal_form
from turnout.training.labels.values import same_value

EXPLAINING_KEYS = re.compile(
    r"(?:reason(?:ing|s)?|explanations?|thoughts?|thinking|rationale|analysis|steps?|chain_?of_?thought|cot|justification|comments?|notes?|work(?:ing)?|scratchpad"
    r"|confidence|step_by_step|begründung|explication)",
    re.IGNORECASE,
)
"""Fields that explain an answer rather than being it."""
ROUNDED = 1e-9
MAX_TEXT_CHARS = 200


def _read(question: GraderQuestion) -> Grade | None:
    gold = json_value(question.reference)
    if not gold:
        return None
    if _is_label_lists(gold):
        return lambda answer: _mean_f1(gold, embedded_json(without_thinking(answer)))

    def grade(answer: str) -> float | None:
        said = [value for value in json_values(without_thinking(answer)) if type(value) is type(gold)]
        verdicts = {compare_json(gold, value, question.prompt) for value in said}
        verdict = verdicts.pop() if len(verdicts) == 1 else None
        return None if verdict is None else float(verdict)

    return grade


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal up to the order of keys; `1` equals `1.0` but not `true`."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def compare_json(gold: Any, found: Any, prompt: str = "", depth: int = 0) -> bool | None:
    """Whether two JSON values say the same; None where a difference may be one of writing only."""
    if gold is None or found is None:
        return True if gold is found else None if isinstance(gold, str) or isinstance(found, str) else False
    if isinstance(gold, _SCALAR) and isinstance(found, _SCALAR):
        return _compare_scalars(gold, found, prompt)
    if type(gold) is not type(found) or depth > MAX_DEPTH:
        return None  # an object for a list, a text for an object: another shape of it, perhaps
    if isinstance(gold, dict):
        return _compare_objects(gold, found, prompt, depth)
    return _compare_lists(gold, found, prompt, depth)


_SCALAR = (str, int, float)
MAX_DEPTH = 30
"""Of nesting; what lies deeper is not compared."""


def _compare_scalars(gold: str | float, found: str | float, prompt: str) -> bool | None:
    """Compare numbers, booleans and texts; booleans are no numbers here."""
    if isinstance(gold, str) and isinstance(found, str):
        return _compare_texts(gold, found, prompt)
    if isinstance(gold, str) or isinstance(found, str):
        is_boolean = isinstance(gold, bool) or isinstance(found, bool)
        return False if not is_boolean and same_value(str(gold), str(found), prompt) is False else None
    if isinstance(gold, bool) or isinstance(found, bool):
        return gold is found
    if gold == found or abs(gold - found) <= ROUNDED * max(abs(gold), abs(found)):
        return True
    return _when_rounded(gold, found)


def _compare_objects(gold: dict[str, Any], found: dict[str, Any], prompt: str, depth: int) -> bool | None:
    missing, more = gold.keys() - found.keys(), found.keys() - gold.keys()
    verdicts = [compare_json(value, found[key], prompt, depth + 1) for key, value in gold.items() if key in found]
    if False in verdicts:
        return False
    if any(EXPLAINING_KEYS.fullmatch(key) for key in (*missing, *more)):
        more = {key for key in more if not EXPLAINING_KEYS.fullmatch(key)}
        missing = {key for key in missing if not EXPLAINING_KEYS.fullmatch(key)}
        verdicts.append(None)
    if missing or more:
        same_names = {_key(key) for key in missing} & {_key(key) for key in more}
        is_wrapped = len(found) == 1 and isinstance(next(iter(found.values())), dict | list)
        empty = all(found.get(key, gold.get(key)) in (None, "", [], {}) for key in (*missing, *more))
        return None if same_names or is_wrapped or empty or not verdicts else False
    return True if all(verdicts) else None


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _compare_lists(gold: list[Any], found: list[Any], prompt: str, depth: int) -> bool | None:
    if len(gold) != len(found):
        return False if len(gold) < 200 else None
    verdicts = [compare_json(one, other, prompt, depth + 1) for one, other in zip(gold, found, strict=True)]
    if all(verdicts):
        return True
    if False in verdicts:
        left = list(found)
        for one in gold[:200]:
            same = next((other for other in left if compare_json(one, other, prompt, depth + 10) is not False), None)
            if same is None:
                return False
            left.remove(same)
    return None  # the same in another order, or written otherwise


def _compare_texts(gold: str, found: str, prompt: str) -> bool | None:
    mine, yours = (" ".join(unicodedata.normalize("NFC", text).split()) for text in (gold, found))
    if mine == yours:
        return True
    if max(len(mine), len(yours)) > MAX_TEXT_CHARS:
        return None
    one, other = normal_form(mine), normal_form(yours)
    if same_class(one, other, prompt) is False or same_value(mine, yours, prompt) is False:
        return False
    return False if _are_extracts(mine, yours, prompt) else None


def _are_extracts(one: str, other: str, prompt: str) -> bool:
    """Whether both are taken from the prompt, and share no word and no initials: then they are not two names of one thing."""  # noqa: E501
    if one not in prompt or other not in prompt or len(one) < 3 or len(other) < 3:
        return False
    words = [set(re.findall(r"\w+", text.casefold())) for text in (one, other)]
    initials = ["".join(word[0] for word in re.findall(r"\w+", text.casefold())) for text in (one, other)]
    return not words[0] & words[1] and initials[0] not in words[1] and initials[1] not in words[0]


def _when_rounded(gold: float, found: float) -> bool | None:
    places = [
        len(repr(value).partition(".")[2]) if isinstance(value, float) and "e" not in repr(value) else 0
        for value in (gold, found)
    ]
    fewest = min(places)
    return None if fewest >= 2 and places[0] != places[1] and round(gold, fewest) == round(found, fewest) else False


def _is_label_lists(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels)
        for labels in value.values()
    )


def _mean_f1(gold: dict[str, list[str]], found: Any) -> float | None:
    if not isinstance(found, dict):
        return None
    said = {_key(key): labels for key, labels in found.items()}
    if not any(_key(key) in said for key in gold):
        return None
    return sum(_f1(labels, said.get(_key(key))) for key, labels in gold.items()) / len(gold)


def _f1(gold: list[str], found: Any) -> float:
    said = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    labels = [label for label in said if isinstance(label, str)]
    # What is longer than a label beside labels explains them: models are often asked for ["label", "why"].
    wanted, got = set(map(normal_form, gold)), {normal_form(label) for label in labels if is_label(label)}
    return 2 * len(wanted & got) / (len(wanted) + len(got)) if got else 0.0


JSON = Grader("json", 0.9254, _read)
"""Misses are all in a source whose gold names some classes otherwise than its prompt does."""
