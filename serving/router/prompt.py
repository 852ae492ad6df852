"""From a request to the one `Prompt` that training and serving both see.

Comes in: plain text, chat messages, or the raw JSON body of an OpenAI chat.completions call.
Goes out: `Prompt`, the rendered text with the few facts about the request that the text does not carry.

One user message renders to its own text. A conversation renders to its messages in order, each
headed by its role, so that the last turn is read with what came before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from turnout.serving.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the router sees it.

    Attributes:
        text: the messages rendered to one string; valid Unicode without lone surrogates.
        turns: number of user messages, at least 1.
        images: number of image parts.
        tools: number of tools offered.
        wants_json: whether the request asks for JSON output.
    """

    text: str
    turns: int = 1
    images: int = 0
    tools: int = 0
    wants_json: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of the text after trimming white space."""
        return not self.text.strip()


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a multi-part message; only `type` and `text` matter to the router."""

    type: str = "text"
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One chat message of the OpenAI shape; unknown fields are ignored."""

    role: str
    content: str | list[ContentPart] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """`response_format` of the OpenAI shape."""

    type: str = "text"


class ChatBody(msgspec.Struct, frozen=True):
    """The fields of a chat.completions body that routing depends on; the others are ignored."""

    messages: list[Message]
    tools: list[msgspec.Raw] | None = None
    response_format: ResponseFormat | None = None


_decode_body = msgspec.json.Decoder(ChatBody).decode
IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


def clean_text(text: str) -> str:
    """Return `text` with lone surrogates replaced, so that it can be encoded as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def prompt_from_text(text: str) -> Prompt:
    """Return the prompt of one plain user message."""
    return Prompt(clean_text(text))


def prompt_from_chat(body: ChatBody) -> Prompt:
    """Render a chat body (its messages, tools and response format) to a `Prompt`."""
    texts = [(message.role, _message_text(message)) for message in body.messages]
    images = sum(
        part.type in IMAGE_PARTS
        for message in body.messages
        if isinstance(message.content, list)
        for part in message.content
    )
    wants_json = body.response_format is not None and body.response_format.type.startswith("json")
    return Prompt(
        text=clean_text(_render(texts)),
        turns=max(1, sum(role == "user" for role, _ in texts)),
        images=images,
        tools=len(body.tools or ()),
        wants_json=wants_json,
    )


def prompt_from_json(body: bytes) -> Prompt:
    """Decode the raw JSON body of an OpenAI chat.completions call.

    Raises:
        InvalidRequest: the body is not JSON, or not of the chat.completions shape.
    """
    try:
        return prompt_from_chat(_decode_body(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # msgspec's text names the field and the expected type, never the value.
        raise InvalidRequest(f"openai_body is not a chat.completions body: {error}") from None


def _message_text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content or () if part.text)


def _render(texts: list[tuple[str, str]]) -> str:
    if len(texts) == 1:
        return texts[0][1]
    return "\n\n".join(f"{role}:\n{text}" for role, text in texts if text.strip())
