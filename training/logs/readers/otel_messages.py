"""OpenTelemetry messages: the request and the answer in the attributes of a span and of its events.

Read in this order: `gen_ai.input.messages` and `gen_ai.output.messages` (messages of parts); events
`gen_ai.user.message` ... `gen_ai.choice`; numbered attributes `gen_ai.prompt.0.content` ... of OpenLLMetry; JSON in
`gen_ai.prompt` and `gen_ai.completion`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnout.serving.router.content import IGNORED
from turnout.serving.router.prompt import ContentPart, Message
from turnout.training.logs.readers.completion import ChoiceMessage, reply_answer

Attributes = Mapping[str, Any]
Events = Sequence[tuple[str, Attributes]]

MESSAGE_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
CHOICE_EVENT = "gen_ai.choice"


class _Part(msgspec.Struct, frozen=True):
    type: str = "text"
    content: Any = None
    modality: str | None = None
    name: str = ""
    arguments: Any = None
    response: Any = None


class _PartsMessage(msgspec.Struct, frozen=True):
    role: str
    parts: list[_Part]


def request_of(attributes: Attributes, events: Events) -> dict[str, Any] | None:
    """Return the request as a chat.completions body; None where nothing of it was captured."""
    every = ChainMap(dict(attributes), *(dict(found) for _, found in events))
    messages = _input_messages(every) or _event_messages(events) or _older_messages(every, "gen_ai.prompt")
    if not messages:
        return None
    tools = _decoded(every.get("gen_ai.tool.definitions"))
    wants_json = attributes.get("gen_ai.output.type") == "json"
    return {
        "messages": messages,
        "tools": tools if isinstance(tools, list) else None,
        "response_format": {"type": "json_object"} if wants_json else None,
    }


def answer_of(attributes: Attributes, events: Events) -> dict[str, Any] | None:
    """Return the first answer as an entry of `responses`; None where none was captured."""
    every = ChainMap(dict(attributes), *(dict(found) for _, found in events))
    reply = _output_reply(every) or _choice_reply(events) or _older_reply(every)
    if reply is None:
        return None
    counts = {
        "prompt_tokens": attributes.get("gen_ai.usage.input_tokens", attributes.get("gen_ai.usage.prompt_tokens")),
        "completion_tokens": attributes.get(
            "gen_ai.usage.output_tokens", attributes.get("gen_ai.usage.completion_tokens")
        ),
    }
    return reply_answer(reply) | {"usage": counts}


def _decoded(value: Any) -> Any:
    """Return the JSON of an attribute, which exporters write as text or as structure."""
    return msgspec.json.decode(value) if isinstance(value, str) and value else value


def _parts_messages(value: Any) -> list[_PartsMessage]:
    return msgspec.convert(_decoded(value) or [], list[_PartsMessage])


def _input_messages(attributes: Attributes) -> list[Message]:
    if "gen_ai.input.messages" not in attributes:
        return []
    messages = [_message(one) for one in _parts_messages(attributes["gen_ai.input.messages"])]
    instructions = msgspec.convert(_decoded(attributes.get("gen_ai.system_instructions")) or [], list[_Part])
    return [_message(_PartsMessage("system", instructions)), *messages] if instructions else messages


def _message(message: _PartsMessage) -> Message:
    return Message(message.role, [part for one in message.parts if (part := _content_part(one))])


def _content_part(part: _Part) -> ContentPart | None:
    if part.type == "text":
        return ContentPart("text", _text(part.content))
    if part.type == "tool_call_response":
        return ContentPart("text", _text(part.response))
    if part.type in IGNORED:
        return None
    return ContentPart(part.modality or part.type)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _output_reply(attributes: Attributes) -> ChoiceMessage | None:
    messages = _parts_messages(attributes.get("gen_ai.output.messages"))
    if not messages:
        return None
    texts = [_text(part.content) or "" for part in messages[0].parts if part.type == "text"]
    calls = [(part.name, part.arguments) for part in messages[0].parts if part.type == "tool_call"]
    return _reply("\n".join(texts), calls)


def _reply(text: str | None, calls: Sequence[tuple[str, Any]]) -> ChoiceMessage:
    if not calls:
        return ChoiceMessage(text)
    functions = [{"function": {"name": name, "arguments": _text(arguments) or ""}} for name, arguments in calls]
    return ChoiceMessage(text, tool_calls=functions)


def _event_messages(events: Events) -> list[Message]:
    return [Message(MESSAGE_ROLES[name], _content(found)) for name, found in events if name in MESSAGE_ROLES]


def _content(attributes: Attributes) -> str | None:
    return _text(attributes.get("content"))


def _choice_reply(events: Events) -> ChoiceMessage | None:
    found = next((attributes for name, attributes in events if name == CHOICE_EVENT), None)
    if found is None:
        return None
    message = _decoded(found.get("message"))
    return ChoiceMessage(_content(message if isinstance(message, dict) else found))


def _older_messages(attributes: Attributes, prefix: str) -> list[Message]:
    if prefix in attributes:
        return msgspec.convert(_decoded(attributes[prefix]), list[Message])
    messages = list[Message]()
    while (role := attributes.get(f"{prefix}.{len(messages)}.role")) is not None:
        messages.append(Message(role, _text(attributes.get(f"{prefix}.{len(messages)}.content"))))
    return messages


def _older_reply(attributes: Attributes) -> ChoiceMessage | None:
    if found := _older_messages(attributes, "gen_ai.completion"):
        calls, call = list[tuple[str, Any]](), "gen_ai.completion.0.tool_calls.0"
        while (name := attributes.get(f"{call}.name")) is not None:
            calls.append((name, attributes.get(f"{call}.arguments")))
            call = f"gen_ai.completion.0.tool_calls.{len(calls)}"
        return _reply(found[0].content if isinstance(found[0].content, str) else None, calls)
    return None
