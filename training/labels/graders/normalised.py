"""Normalised: the reference is a class, a name or a formula, compared without what does not change an answer.

An answer is right when it gives the same; wrong only when it gives another class of a closed set (`classes`): another
name may be another name of the same thing.
"""

from __future__ import annotations

import re

from turnout.training.labels.classes import are_listed, classes_in, family_of, same_class
from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.stretches import states_nothing, stretches
from turnout.training.labels.texts import CASED_CHARS, is_label, is_negated, loose_form, normal_form, tells_by_case

_CLAUSE = re.compile(r"(?:[\s*_\"'#>]|-\s)*([^\n.,:;!?()]+)")
_QUALIFIES = re.compile(
    r"\b(?:part(?:ly|ially)|half|mostly|mainly|somewhat|sometimes|only if|only when|if and only|unless|provided|as long as|except|opposite|contrary"  # noqa: E501
    r"|almost|nearly|teilweise|halb)\b|\b(?:true|false) (?:positive|negative)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:it is|it's|it was|this is|that is|that's|the (?:text|statement|claim|sentence|message|review|sentiment|label|class|category|tone|comment|answer) (?:is|seems|sounds)"  # noqa: E501
    r"|(?:sentiment|label|class|category|classification|verdict|prediction|output|klasse|kategorie)\s*(?::|is)|clearly|classified as|=)\s+",  # noqa: E501
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|hardly|nicht|kein\w*|pas|nunca|rather than|instead of|unlike|or|either|maybe|perhaps|might|could)\b|n['’]t\b",  # noqa: E501, RUF001
    re.IGNORECASE,
)


def is_comparable(reference: str) -> bool:
    """Whether a reference is a label, name or formula; a letter alone is of use only beside its options."""
    plain = reference.strip()
    return is_label(plain) and len(plain) > 1 and plain[0] not in "[{" and bool(normal_form(plain))


def _read(question: GraderQuestion) -> Grade | None:
    if not is_comparable(question.reference):
        return None
    gold = question.reference.strip()
    wanted = normal_form(gold)
    is_cased = len(gold) <= CASED_CHARS and family_of(wanted) is None
    is_primed = "'" in gold[-1:] or "\u2032" in gold

    def grade(answer: str) -> float | None:
        found = _grade_class(answer, wanted, question.prompt)
        if found and ((is_cased and _is_cased_otherwise(gold, answer)) or (is_primed and answer.strip() != gold)):
            return None
        return found

    return grade


def _is_cased_otherwise(gold: str, answer: str) -> bool:
    said = [answer, *(one.text for one in stretches(answer))]
    return any(tells_by_case(gold, text) for text in said)


def _grade_class(answer: str, wanted: str, prompt: str) -> float | None:
    """Return 1 for the class or name wanted, 0 for another of its closed set, None for anything else."""
    if answer.rstrip(' \n*_"').endswith(("?", "？")):  # noqa: RUF001  # asks back
        return None
    if normal_form(answer) == wanted or loose_form(answer) == loose_form(wanted):
        return 1.0
    said = [one.text for one in stretches(answer)]
    if not said or any(map(states_nothing, said)) or any(map(is_negated, said)):
        return None
    if wanted in _VERDICTS and any(_is_no_verdict(one) for one in said):
        return None
    verdicts = {_of_stretch(one, wanted, prompt) for one in said}
    verdict = verdicts.pop() if len(verdicts) == 1 else None
    return None if verdict is None else float(verdict)


def _of_stretch(said: str, wanted: str, prompt: str) -> bool | None:
    if normal_form(said) == wanted or loose_form(said) == loose_form(wanted):
        return True
    opening = _opening(_LEAD.sub("", said))
    if opening == wanted or loose_form(opening) == loose_form(wanted):
        return None if _names_another(said, wanted) else True
    family = family_of(wanted)
    if family is not None:
        return _of_family(said, opening, wanted)
    if not is_label(opening) or _DENIES.search(opening):
        return None
    return (
        False
        if are_listed(wanted, opening, prompt)
        and not re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", normal_form(said))
        else None
    )


def _of_family(said: str, opening: str, wanted: str) -> bool | None:
    """Judge words that exclude one another: the opening word, or the only one named; "not true" is false."""
    if _QUALIFIES.search(said.partition(". ")[0]):
        return None
    first = opening.partition(" ")[0]
    for word in (opening, first):
        if (family := family_of(word)) is not None and family is family_of(wanted):
            is_verdict = len(word) > 1 and (word == opening or word in _OPENERS)
            return same_class(wanted, word, "") if is_verdict else None
    named = classes_in(said, wanted)
    if len(named) != 1:
        return None
    names = named.pop()
    denied = _DENIES.search(re.sub(r"\bnot (?:true|correct|toxic|spam)\b", "", normal_form(said)))
    return None if denied else wanted in names


_OPENERS = frozenset({"yes", "no", "true", "false", "ja", "nein", "oui", "non", "sí", "да", "нет"})


_VERDICTS = frozenset({"yes", "no"})
_NO_ANSWER = re.compile(
    r"[\W_]*no[\s-]+(?:(?:real |more |such |two )?(?:doubts?|questions?|problems?|wonder|one|body|later|less|more"
    r"|fewer|sooner|longer|matter|need|way|ways|kidding|surprise|idea|clue|comment|answer|person|evidence|worries|thanks|other))\b",
    re.IGNORECASE,
)
"""What begins with "no" and says something else by it."""
_TURNS = {
    one: re.compile(rf"[,;:.!?\u2013\u2014-]\s*(?:\w+,?\s){{0,2}}{other}\b(?=\W*$|[,.;:!])", re.IGNORECASE)
    for one, other in (("yes", "no"), ("no", "yes"))
}
"""Where the contrary of what a text begins with is a clause of its own: "Yes, I see, but no."."""


def _is_no_verdict(said: str) -> bool:
    """Whether a text that begins with yes or no says something else by it, or says the contrary behind it."""
    first = _opening(said).partition(" ")[0]
    return _NO_ANSWER.match(said) is not None or (first in _TURNS and _TURNS[first].search(said) is not None)


def _names_another(said: str, wanted: str) -> bool:
    """Whether a text that opens with the class names another one of a family of classes in its first sentence."""
    head = re.split(r"(?<=[.!?])\s|\n", said, maxsplit=1)[0]
    return len(classes_in(head, wanted)) > 1 and not {"yes", "no"} & {wanted}


def _opening(text: str) -> str:
    """Return the first clause in its normal form: `Positive` of "Positive. The speaker ..."."""
    found = _CLAUSE.match(text)
    return normal_form(found[1]) if found else ""


NORMALISED = Grader("normalised", 0.9969, _read)
