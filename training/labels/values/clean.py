"""Clean: one way to write what can be written in many, without a change of value.

Comes in: the text of a value. Goes out: the same without mark-up, in plain signs: ASCII digits and minus, `^` for raised
digits, `1/2` for a vulgar fraction, one kind of space.
"""  # noqa: E501

from __future__ import annotations

import re
import unicodedata

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_VULGAR = re.compile("(\\d?)\\s*([¼-¾⅐-⅞↉])")
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000\t\n\r]")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad]")
_BOLD = re.compile(r"(?<![\w*)\]}^])(\*\*|__|\*|_|`{1,3})(?=[^\s*_`])(.{1,400}?)(?<=[^\s*_`])\1(?![\w*(\[{^])")
_WRAPPED = (
    re.compile(r"\$\$(.+)\$\$", re.DOTALL),
    re.compile(r"\$([^$]+)\$", re.DOTALL),
    re.compile(r"\\\((.+)\\\)", re.DOTALL),
    re.compile(r"\\\[(.+)\\\]", re.DOTALL),
    re.compile(r"\\(?:boxed|fbox)\s*\{(.+)\}", re.DOTALL),
    re.compile(r"\"([^\"]+)\"|'([^']+)'|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|‘([^’]+)’|「([^」]+)」"),  # noqa: RUF001
)
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname|rm|bf)\s*\{([^{}]*)\}")
_LATEX_GROUP = re.compile(r"(?<=\d)\s*(?:\{,\}|\\,|\\!|,\\!|\\;|\\ |~)\s*(?=\d{3}(?!\d))")
_LATEX_SPACE = re.compile(r"\\[,;:! ]|~|\\q?quad\b|\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|\\limits")
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\ufe0f]+")
_EDGES = " .,;:!?。、，；：！？…"  # noqa: RUF001  # of many languages
_SEPARATORS = str.maketrans({"\u066b": ".", "\u066c": ",", "\u2019": "'", "\u02bc": "'", "\u2018": "'", "\u00b4": "'"})
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
MAX_CHARS = 400
"""Of a value; what is longer is no value, and costs no more than this look."""


def without_bold(text: str) -> str:
    """Return the text without paired emphasis and code marks; `2**3` and `a_1` stay."""
    return _BOLD.sub(r"\2", text) if "*" in text or "_" in text or "`" in text else text


def unwrapped(text: str) -> str:
    """Return the text without marks around the whole of it: emphasis, quotation marks, mathematics, a box, full stops."""  # noqa: E501
    before = None
    text = text.strip()
    while text != before and text:
        before = text
        text = without_bold(text).strip()
        edges = _EDGES.replace("!", "") if text[-2:-1].isdigit() else _EDGES  # 5! is no shout, perhaps
        trimmed = text.rstrip(edges)
        trimmed = trimmed if trimmed.startswith(".") else trimmed.lstrip(_EDGES)
        text = trimmed or text
        for pattern in _WRAPPED:
            if (found := pattern.fullmatch(text)) and _is_one(pattern, found):
                text = next(part for part in found.groups() if part is not None).strip()
    return text


def _is_one(pattern: re.Pattern[str], found: re.Match[str]) -> bool:
    r"""Whether the marks at both ends belong together: not in `$a$ and $b$`, nor in `\\boxed{a}, \\boxed{b}`."""
    inner = found[1] or ""
    if pattern is _WRAPPED[4]:
        depth = 0
        for char in inner:
            depth += (char == "{") - (char == "}")
            if depth < 0:
                return False
    return not (pattern in _WRAPPED[:1] + _WRAPPED[2:4] and any(mark in inner for mark in ("$$", r"\(", r"\[")))


def cleaned(text: str) -> str:
    """Return the text of one value in plain signs; linear in its length."""
    text = unwrapped(text)
    if text.isascii() and "\\" not in text and "{" not in text and "~" not in text:
        return " ".join(text.split())
    text = _VULGAR.sub(_plain_fraction, text)
    text = _RAISED_RUN.sub(lambda found: f"^({found[0].translate(_RAISED)})", text)
    text = _INVISIBLE.sub("", EMOJI.sub("", text))
    text = _INVISIBLE.sub("", _SPACES.sub(" ", _DASHES.sub("-", text))).translate(_SEPARATORS)
    text = _OTHER_DIGIT.sub(lambda found: _digit(found[0]), unicodedata.normalize("NFKC", text))
    if "\\" in text or "~" in text or "{" in text:
        text = _LATEX_TEXT.sub(r" \1 ", _LATEX_GROUP.sub("", text))
        text = _LATEX_SPACE.sub(" ", text).replace("\\%", "%").replace("\\$", "$").replace("\\#", "#")
        text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    return unwrapped(" ".join(text.split()))


def _plain_fraction(found: re.Match[str]) -> str:
    parts = unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/")
    return f"{found[1]} {parts}" if found[1] else parts


def _digit(char: str) -> str:
    if char.isascii() or not char.isdecimal():
        return char
    return str(unicodedata.decimal(char))
