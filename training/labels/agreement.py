"""Labels from agreement: two answers that say the same are a match, whatever the truth.

Disagreement says nothing (either may be right, or neither), so that this labeller only ever says match:
rows labelled by it alone carry no information about when the strong model is needed. All that the caller would use must
agree: every field of JSON, every tool call, code to its indentation, and what stands beside a stated answer.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from typing import Any, NamedTuple

from turnout.training.labels.choices import chosen_letter, options
from turnout.training.labels.classes import family_of
from turnout.training.labels.fences import blocks
from turnout.training.labels.figures import is_value, without_lead
from turnout.training.labels.graders.json_equality import EXPLAINING_KEYS, compare_json, same_json
from turnout.training.labels.stretches import (
    MAX_CHARS,
    AnswerStretch,
    LabelShape,
    states_nothing,
    stretches,
    without_thinking,
)
from turnout.training.labels.texts import exact_form, is_label, json_value, normal_form
from turnout.training.labels.usable import flaw, is_refusal
from turnout.training.labels.values import same_value
from turnout.training.logs.records import Label, Record

NAME = "agreement"


class AgreementKind(StrEnum):
    """In what the answers agree."""

    IDENTICAL = "identical"
    """The whole text, or the JSON that it is."""
    FINAL = "final"
    """The option, number or short text that both state as their answer."""


CONFIDENCE = {AgreementKind.IDENTICAL: 0.9997, AgreementKind.FINAL: 0.9983}
"""How often such rows are a match by their scores, as (hits + 1) / (rows + 2).

Counted on the held-out half of the shared rows (docs/labels.md). All of these are short or structured answers:
free text that is identical is rare.
"""

_CODE = re.compile(
    r"^(?: {2,}|\t)\S|[{};][ \t]*$|^[ \t]*(?:def|class|for|while|if|import|from|return|function|const|let|var|SELECT|#include)\b",  # noqa: E501
    re.MULTILINE,
)
_CLOSING = re.compile(
    r"[\s*_`$\\\])}.!。]*+(?:\b(?:i )?hope (?:this|that) helps[.!]*|let me know[^.\n]*[.!]?)?\s*", re.IGNORECASE
)
_DEPENDS = frozenset(
    {"yes", "no", "true", "false", "it depends", "maybe", "ja", "nein", "oui", "non", "none", "ok", "done"}
)
"""What says too little for the text around it to be left out."""


def label_by_agreement(record: Record) -> Label | None:
    """Return match = 1 when both answers say the same; None when they don't, or one is missing or can't be used."""
    if record.strong is None or record.weak is None or not record.strong.content or not record.weak.content:
        return None
    kind = agreement(record.strong.content, record.weak.content, record.prompt.text)
    if kind is None or flaw(record.strong) or flaw(record.weak):
        return None
    return Label(1, f"{NAME}:{kind}", CONFIDENCE[kind])


def agreement(strong: str, weak: str, prompt: str) -> AgreementKind | None:
    """Return in what the two answers agree, None when they don't."""
    if strong == weak or _is_same_text(strong, weak):
        return AgreementKind.IDENTICAL if strong.strip() else None
    if max(len(strong), len(weak)) > MAX_CHARS:
        return None
    value, other = json_value(strong), json_value(weak)
    if value is not None and other is not None:
        return AgreementKind.IDENTICAL if same_json(value, other) else _same_but_explained(value, other, prompt)
    if is_refusal(strong) or is_refusal(weak):
        return None
    offered = options(prompt)
    first, second = (chosen_letter(text, offered) if offered else None for text in (strong, weak))
    if first is not None or second is not None:
        return AgreementKind.FINAL if first == second else None
    return AgreementKind.FINAL if _end_alike(strong, weak, prompt) else None


def _end_alike(strong: str, weak: str, prompt: str) -> bool:
    """Whether both state the same figure or word at their end, and nothing else that differs but a working."""
    if _has_code(strong) or _has_code(weak):
        return False
    mine, yours = _final(strong), _final(weak)
    if mine is None or yours is None or not _is_same_answer(mine.said, yours.said, prompt):
        return False
    return mine.before == yours.before or _are_workings(mine, yours, prompt)


def _has_code(text: str) -> bool:
    fenced = blocks(text)
    return any(block.language not in _TEXTS for block in fenced) or (bool(fenced) and _CODE.search(text) is not None)


_TEXTS = frozenset(["", "json", "text", "txt", "plaintext", "markdown", "md", "latex", "tex", "math"])


def _is_same_text(one: str, other: str) -> bool:
    """Whether two texts are the same but for emphasis and line ends; code only to the last space."""
    if _CODE.search(one) or _CODE.search(other) or blocks(one):
        return unicodedata.normalize("NFC", one).strip("\n") == unicodedata.normalize("NFC", other).strip("\n")
    return abs(len(one) - len(other)) <= 40 + len(one) // 4 and exact_form(one) == exact_form(other) != ""


def _same_but_explained(one: Any, other: Any, prompt: str) -> AgreementKind | None:
    """Compare two JSON values by all their fields but those that explain; at least one must be left."""
    mine, yours = _without_explanations(one), _without_explanations(other)
    return (
        AgreementKind.FINAL
        if mine and yours and compare_json(mine, yours, prompt) and not _states_nothing(mine)
        else None
    )


def _without_explanations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_explanations(part) for key, part in value.items() if not EXPLAINING_KEYS.fullmatch(key)}
    return list(map(_without_explanations, value)) if isinstance(value, list) else value


def _states_nothing(value: Any) -> bool:
    parts = list(value.values()) if isinstance(value, dict) else value
    return all(part is None or (isinstance(part, str) and states_nothing(part)) for part in parts)


class Final(NamedTuple):
    """What an answer states at its end, or is, and what stands before it: nothing, or a working."""

    said: str
    before: str = ""


def _final(answer: str) -> Final | None:
    """Return the one thing that an answer states at its end, or that it is; None where more is said behind it."""
    found = stretches(answer)
    texts = {one.text for one in found}
    if len(texts) != 1 or states_nothing(found[0].text):
        return None
    stretch = found[0]
    text = without_thinking(answer).strip()
    if stretch.shape is LabelShape.MARKED:
        rest = text[text.rfind(stretch.text) + len(stretch.text) :]
        before = text[: text.rfind(stretch.text)]
        if not _CLOSING.fullmatch(rest) or (_is_bare_word(stretch.text) and len(before) > 80):
            return None
        said = _said(stretch)
        return None if said is None else Final(said, _before_lead(before))
    if stretch.shape not in {LabelShape.BARE, LabelShape.SENTENCE}:
        return None
    said = _said(stretch)
    return None if said is None else Final(said)


def _before_lead(text: str) -> str:
    """Return what stands before the words that lead to a stated answer: before its last sentence."""
    pieces = [piece for piece in _LEAD_START.split(text) if piece and piece.strip(" \t*_#")]
    return "\n".join(pieces[:-1]).strip()


def _are_workings(one: Final, other: Final, prompt: str) -> bool:
    """Whether what stands before two equal figures only works them out, so that it may differ."""
    if not is_value(one.said) or not is_value(other.said) or prompt[-500:].count("?") > 1:
        return False
    return not any(map(_SAYS_MORE.search, (one.before, other.before)))


_LEAD_START = re.compile(r"(?<=[.!?])\s+|\n+")
_SAYS_MORE = re.compile(
    r"^\W{0,4}(?!(?:answer|step|solution|reasoning|explanation|given|calculation|working|note|result|check|formula|total|so|therefore)\b)"
    r"[^\W\d_][\w ]{0,30}\W{0,3}:\W{0,3}[^\W\d_][^\d\n]*$"
    r"|\bI(?:['’]ve| have)? (?:already |just )?(?:booked|sent|deleted|removed|paid|bought|ordered|called|e-?mailed|updated|created|scheduled|cancell?ed"  # noqa: RUF001, E501
    r"|transferred|changed|moved|wrote|made|saved)\b|^(?:dear|hi|hello)\b|^[^\S\n]*(?:(?:def|class) \w+|import \w|from \w+ import|return\b|function \w+\(|const \w|#include)",  # noqa: E501
    re.IGNORECASE | re.MULTILINE,
)


def _is_bare_word(text: str) -> bool:
    return text.strip(" *_.!").casefold() in _DEPENDS


def _said(stretch: AnswerStretch) -> str | None:
    """Return the stretch where it is a label or a figure and nothing more: what stands beside it could differ."""
    plain = exact_form(without_lead(exact_form(stretch.text)))
    if (
        is_label(plain)
        and not any(map(str.isdigit, plain))
        and (stretch.shape is not LabelShape.SENTENCE or len(plain.split()) == 1)
    ):
        return plain
    return plain if is_value(plain) else None


def _is_same_answer(one: str, other: str, prompt: str) -> bool:
    if is_value(one) or is_value(other):
        return same_value(one, other, prompt) is True
    if exact_form(one) == exact_form(other):
        return True
    word = normal_form(one)
    return word == normal_form(other) and (family_of(word) is not None or (len(word) > 2 and one[1:] == other[1:]))
