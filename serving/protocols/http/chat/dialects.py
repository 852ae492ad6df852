"""The two shapes of a call that the upstream answers, chat completions and responses, as one interface for the flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.serving.gateways import completions, responses
from turnout.serving.protocols.http.chat.gathering import ChatGathering, Gathering, ResponsesGathering
from turnout.serving.wire.asking_check import AnswerItem

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One shape.

    Attributes:
        path: below the upstream's base URL.
        at_rung: the body for a rung: its model and effort put in.
        is_checkable: whether the answer to a body can be checked before anybody sees it.
        wants_logprobs: whether the caller asks for log-probabilities.
        forbids_logprobs: whether he will not have them asked for.
        with_signals, without_signals: the body to try the weak model with.
        is_answer: whether a reply holds anything to check.
        is_pending: whether a reply says that the answer is to be fetched later.
        answer_item: what the second look is told of a reply.
        without_logprobs: the reply as it is shown to a caller who did not ask for them.
        repeated: the body with which the other model can be asked the same, whole; None where that would change or keep
            anything at the vendor.
        gathering: what puts the events of a stream together.
        can_self_check: whether the model can be asked about its answer.
    """

    path: str
    at_rung: Callable[[Body, str, str], dict[str, Any]]
    is_checkable: Callable[[Body], bool]
    wants_logprobs: Callable[[Body], bool]
    forbids_logprobs: Callable[[Body], bool]
    with_signals: Callable[[Body], dict[str, Any]]
    without_signals: Callable[[Body], dict[str, Any]]
    is_answer: Callable[[Any], bool]
    is_pending: Callable[[Any], bool]
    answer_item: Callable[[Any, float | None, float | None], AnswerItem]
    without_logprobs: Callable[[Any], Any]
    repeated: Callable[[Body], dict[str, Any] | None]
    gathering: Callable[[], Gathering]
    can_self_check: bool = False


CHAT = Dialect(
    path="/chat/completions",
    at_rung=completions.at_rung,
    is_checkable=lambda body: body.get("n") in (None, 1),
    wants_logprobs=lambda body: body.get("logprobs") is True,
    forbids_logprobs=lambda body: body.get("logprobs") is False,
    with_signals=completions.with_signals,
    without_signals=completions.without_signals,
    is_answer=lambda reply: bool(completions.first_choice(reply)),
    is_pending=lambda _: False,
    answer_item=completions.answer_item,
    without_logprobs=completions.without_logprobs,
    repeated=completions.repeated,
    gathering=ChatGathering,
    can_self_check=True,
)
RESPONSES = Dialect(
    path="/responses",
    at_rung=responses.at_rung,
    is_checkable=responses.is_checkable,
    wants_logprobs=responses.wants_logprobs,
    forbids_logprobs=lambda _: False,
    with_signals=responses.with_signals,
    without_signals=responses.without_signals,
    is_answer=responses.is_answer,
    is_pending=responses.is_pending,
    answer_item=responses.answer_item,
    without_logprobs=responses.without_logprobs,
    repeated=responses.repeated,
    gathering=ResponsesGathering,
)
