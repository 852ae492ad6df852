"""Usable: whether an answer can be used at all: it is there, it is whole, and it is not a refusal.

Comes in: an answer. Goes out: why it can't be used, or None. Beside a usable strong answer, one of the weak model that is
empty, cut off or refused is a non-match: whoever asked got nothing from it.
"""  # noqa: E501

from __future__ import annotations

import json
import re
from enum import StrEnum

from turnout.training.labels.fences import blocks
from turnout.training.labels.stretches import without_thinking
from turnout.training.logs.records import Label, Record, Response

NAME = "usable"
CONFIDENCE = 0.98
"""Assumed, not measured: no shared row says which answers broke off or were refused."""


class Flaw(StrEnum):
    """Why an answer can't be used."""

    EMPTY = "empty"
    CUT_OFF = "cut_off"
    REFUSED = "refused"


_REFUSAL = re.compile(
    r"^\W*(?:(?:i['’]?m|i am|we are|we['’]re)\s+(?:very |so |really |truly )?(?:sorry|afraid)|sorry|apologies|unfortunately|i apologi[sz]e|my apologies|thank you[^.]{0,40}\.)?[\W_]*"  # noqa: E501, RUF001
    r"(?:but\s+|however,?\s+)?(?:as an? (?:ai|large)[^,.]{0,40},?\s*)?"
    r"(?:i|we)(?:['’]m| am| are|['’]re)?\s*(?:can['’]?t|cannot|can not|won['’]?t|will not|unable to|not able to|must decline|have to decline|decline to|don['’]t feel comfortable|not comfortable|couldn['’]t)"  # noqa: RUF001,E501
    r"\s*(?:to\s+)?(?:help|assist|comply|fulfil|do that|do this|provide|support|continue|engage|discuss|answer|respond|create|generate|write|share|with|be\b|give|offer|produce|process|complete|participate|that\b|this\b)",  # noqa: E501
    re.IGNORECASE,
)
_OTHER_REFUSALS = re.compile(
    r"^\W*(?:(?:es )?tut mir leid|entschuldigung|désolée?|je suis désolée?|lo siento|mi dispiace|desculpe|申し訳|抱歉|对不起|對不起|죄송)[^\n]{0,40}"  # noqa: E501
    r"(?:kann (?:ich )?(?:dir |ihnen )?(?:dabei |damit )?(?:leider )?nicht|nicht helfen|ne peux pas|ne puis|no puedo|non posso|não posso|できません|できかね|お手伝い|无法|無法|不能|없습니다|어렵)",  # noqa: E501
    re.IGNORECASE,
)
_KNOWS_NOTHING = re.compile(
    r"\W*(?:i['’]?m sorry,?\s*)?(?:but\s+)?(?:i (?:do not|don['’]?t) (?:actually )?know|i have no (?:idea|information)|no idea|i(?:['’]m| am) not sure|i(?:['’]m| am) unsure|unknown"  # noqa: E501, RUF001
    r"|ich weiß (?:es )?nicht|je ne sais pas|no lo sé|no sé|non lo so|não sei|не знаю|わかりません|分かりません|不知道|모르겠습니다)[^\n]{0,120}",  # noqa: E501
    re.IGNORECASE,
)
MIN_REFUSAL_CHARS, MAX_REFUSAL_CHARS = 7, 400
"""A longer text refuses one thing and gives another."""
_CUT_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete"})
_REFUSING_REASONS = frozenset({"content_filter", "refusal", "safety", "prohibited_content", "blocklist", "recitation"})


def is_refusal(text: str) -> bool:
    """Whether a text, as a whole, declines to answer."""
    plain = text.strip()
    if not MIN_REFUSAL_CHARS <= len(plain) <= MAX_REFUSAL_CHARS:
        return False
    return bool(_REFUSAL.match(plain) or _OTHER_REFUSALS.match(plain))


def knows_nothing(text: str) -> bool:
    """Whether a text, as a whole, says that it does not know."""
    return 3 <= len(text) <= MAX_REFUSAL_CHARS and _KNOWS_NOTHING.fullmatch(text.strip()) is not None


def flaw(response: Response) -> Flaw | None:
    """Return why an answer can't be used; None where it can."""
    reason = (response.finish_reason or "").casefold()
    if response.is_refusal or reason in _REFUSING_REASONS:
        return Flaw.REFUSED
    content = response.content
    if content is None:
        return None  # the log kept its score alone
    if not content.strip() or not without_thinking(content).strip():
        return Flaw.CUT_OFF if content.strip() and reason in _CUT_REASONS else Flaw.EMPTY
    if reason in _CUT_REASONS or breaks_off(content):
        return Flaw.CUT_OFF
    return Flaw.REFUSED if is_refusal(content) else None


def breaks_off(text: str) -> bool:
    """Whether a text ends inside the JSON that it is."""
    bare = text.strip()
    if bare[:1] not in {"{", "[", "`", "~"}:
        return False
    fenced = blocks(bare) if bare.startswith(("```", "~~~")) else []
    if fenced and fenced[-1].language in {"json", ""} and len(fenced) == 1:
        if fenced[0].is_closed:
            return False
        bare = fenced[0].code.strip()
    if bare[:1] not in {"{", "["} or bare[-1:] in {"}", "]"} or len(bare) < 2 or not re.match(r"[{\[]\s*[\"{\[]", bare):
        return False
    try:
        json.JSONDecoder(strict=False).raw_decode(bare)
    except json.JSONDecodeError as error:
        return (
            error.pos >= len(bare) - 1
            or "Unterminated" in error.msg
            or ("Expecting" in error.msg and error.pos >= len(bare) - 2)
        )
    except RecursionError:
        return False
    return False


def label_by_use(record: Record) -> Label | None:
    """Return match = 0 where the strong answer can be used and the weak one can't; None otherwise."""
    if record.strong is None or record.weak is None or not record.strong.content or flaw(record.strong):
        return None
    found = flaw(record.weak)
    return None if found is None else Label(0, f"{NAME}:{found}", CONFIDENCE)
