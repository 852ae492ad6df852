"""`POST /v1/systemone`: the contract by which LiteLLM's auto router asks a classifier, by configuration alone.

    {"state": ..., "model": ..., "questions": {"tier": {"type": "choice", "instructions", "criteria": {label: text}}}}
    {"model": ..., "answers": {"tier": {"type": "choice", "choice", "probabilities": {label: p}, "confidence": p}}}

Criteria stand in ascending order: the weak model has the first label, the strong one the last, unless labels are
named `weak` and `strong` or after the pair's models. Of a ladder each rung has one, where there are as many. Read from
LiteLLM 1.106 (complexity_router), whose `state` is made of blocks; they are taken apart here, so that the model reads
what it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import clean_text

ASK = "\nClassify this message:\n"
SYSTEM = "\nCaller system prompt, quoted as task context:\n"
BLOCKS = ("\n\nRecent conversation (context only, do not classify these):\n", "\n\nConversation so far: ~")
CERTAIN = 1.0
"""The protocol wants a confidence: this one where a rule or a guard decided, which leaves no doubt of the route."""


class SystemOneQuestion(msgspec.Struct, frozen=True):
    """One question; only those of the type `choice` can be answered."""

    criteria: Annotated[dict[str, str | None], msgspec.Meta(min_length=2)]
    type: str = "choice"


class SystemOne(msgspec.Struct, frozen=True):
    """The body of a request."""

    state: str
    questions: Annotated[dict[str, SystemOneQuestion], msgspec.Meta(min_length=1)]


_decode = msgspec.json.Decoder(SystemOne).decode


def read_systemone(body: bytes) -> SystemOne:
    """Return the request in a JSON body.

    Raises:
        InvalidRequest: another shape, fewer than two criteria, or a question of another type; the message names
            the field and quotes no value.
    """
    try:
        asked = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(
            "expected {state: text, questions: {name: {type: choice, criteria: {label: text, label: text, ...}}}}"
        ) from None
    if any(question.type != "choice" for question in asked.questions.values()):
        raise InvalidRequest("questions: expected the type choice, got another one")
    return asked


def request_of(state: str) -> bytes:
    """Return the bytes of the `RouteRequest` that a state stands for.

    A state of LiteLLM's is taken apart into the caller's system prompt and the last question; earlier turns,
    which come without the model's answers, are left out. Any other state is one user message.
    """
    system, question = _parts(state)
    if system is None:
        return bytes(pb.RouteRequest(text=clean_text(question), per_rung=True).SerializeToString())
    messages = [
        pb.Message(role="system", text=clean_text(system)),
        pb.Message(role="user", text=clean_text(question)),
    ]
    asked = pb.RouteRequest(messages=pb.Messages(messages=messages), per_rung=True)
    return bytes(asked.SerializeToString())


def write_systemone(asked: SystemOne, response: Any, rungs: Sequence[str]) -> dict[str, Any]:
    """Return the body that answers all questions with one decision.

    Args:
        asked: the request.
        response: the `RouteResponse`.
        rungs: names of the rungs of the bundle that answered, the cheapest first; of a pair of the weak and the strong
            model.
    """
    place = 0 if response.tier == pb.TIER_WEAK else len(rungs) - 1
    if response.tier == pb.TIER_UNSPECIFIED and response.rung in rungs:
        place = rungs.index(response.rung)
    answers = {
        name: _answer(labels_of(list(question.criteria), rungs), place, response)
        for name, question in asked.questions.items()
    }
    return {"model": response.bundle, "answers": answers}


def weak_and_strong(labels: Sequence[str], pair: tuple[str, str]) -> tuple[str, str]:
    """Return the labels that stand for the weak and for the strong model."""
    by_name = {label.casefold(): label for label in labels}
    for weak, strong in (("weak", "strong"), pair):
        if weak.casefold() in by_name and strong.casefold() in by_name:
            return by_name[weak.casefold()], by_name[strong.casefold()]
    return labels[0], labels[-1]


def labels_of(labels: Sequence[str], rungs: Sequence[str]) -> tuple[str, ...]:
    """Return the label of each rung: those named after rungs, else one a rung in their order.

    With another number of labels rungs between stand with the strong model.
    """
    by_name = {label.casefold(): label for label in labels}
    if len(rungs) > 2 and all(rung.casefold() in by_name for rung in rungs):
        return tuple(by_name[rung.casefold()] for rung in rungs)
    if len(rungs) > 2 and len(labels) == len(rungs):
        return tuple(labels)
    weak, strong = weak_and_strong(labels, (rungs[0], rungs[-1]))
    return (weak, *(strong,) * (len(rungs) - 1))


def _answer(labels: tuple[str, ...], place: int, response: Any) -> dict[str, Any]:
    p_match = response.p_match if response.HasField("p_match") else None
    return {
        "type": "choice",
        "choice": labels[place],
        "probabilities": {} if p_match is None else _probabilities(labels, p_match, response),
        "confidence": response.confidence if response.HasField("confidence") else CERTAIN,
    }


def _probabilities(labels: tuple[str, ...], p_match: float, response: Any) -> dict[str, float]:
    """Return, for each label, the probability that its rung is the cheapest that is not worse than the top."""
    reached, found = 0.0, dict.fromkeys(labels, 0.0)
    for label, p in zip(labels, (p_match, *(look.p for look in response.p_rungs[1:-1]), 1.0), strict=False):
        found[label] += max(0.0, p - reached)
        reached = max(reached, p)
    return found


def _parts(state: str) -> tuple[str | None, str]:
    """Return the system prompt of a state, or None, and its last question."""
    before, found, question = state.partition(ASK)
    if not found:
        return None, state
    if not before.startswith(SYSTEM):
        return None, question
    system = before.removeprefix(SYSTEM).removesuffix("\n")  # which joins the blocks
    for block in BLOCKS:
        system = system.partition(block)[0]
    return system, question
