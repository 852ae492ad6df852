"""The words of a decision, where a request goes and why; what rules, costs and decisions have in common.

Imports nothing of inference.
"""

from __future__ import annotations

from enum import StrEnum

MAX_ESTIMATED_TOKENS = 50_000
"""Beyond it gpt-4o-mini degrades although its window is 128,000 tokens; a rules file may say another limit."""

BYTES_PER_TOKEN = 4
"""Of UTF-8 text, roughly; what "estimated tokens" means everywhere."""


class Route(StrEnum):
    """The tier a request is sent to."""

    WEAK = "weak"
    STRONG = "strong"

    @property
    def other(self) -> Route:
        """The tier of the pair that this one is not."""
        return Route.STRONG if self is Route.WEAK else Route.WEAK


class Action(StrEnum):
    """What the caller is to do: as the tier says, or have the weak model answer and ask for a verdict on that."""

    WEAK = "weak"
    TRY = "try"
    STRONG = "strong"

    @property
    def route(self) -> Route:
        """The tier that answers first."""
        return Route.STRONG if self is Action.STRONG else Route.WEAK


class Verdict(StrEnum):
    """What is to become of the weak model's answer."""

    ACCEPT = "accept"
    ESCALATE = "escalate"


class Reason(StrEnum):
    """What decided; the proto's names, and INVALID for log rows without content."""

    MODEL = "MODEL"
    RULE = "RULE"
    TOO_LONG = "TOO_LONG"
    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"
    SESSION = "SESSION"
    EXPLORATION = "EXPLORATION"
    ROLLOUT = "ROLLOUT"
    NO_ANSWER = "NO_ANSWER"
    CAPABILITY = "CAPABILITY"
    INVALID = "INVALID"


def utf8_bytes(text: str) -> int:
    """Return how many bytes a text takes in UTF-8; free for ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimated_tokens(text: str) -> int:
    """Return UTF-8 bytes / 4, rounded up; what is not text is estimated by `turnout.serving.router.content`."""
    return -(-utf8_bytes(text) // BYTES_PER_TOKEN)
