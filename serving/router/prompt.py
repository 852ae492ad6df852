"""From a request to the one `Prompt` that training and serving both see.

Comes in: plain text, chat messages, or the raw JSON body of a call in any shape of `turnout.serving.router.bodies`.
Goes out: `Prompt`, the rendered text with the few facts about the request that the text does not carry.

One user message renders to its own text. A conversation renders to its messages in order, each
headed by its role, so that the last turn is read with what came before it.
"""

from __future__ import annotations

import msgspec

from turnout.serving.errors import InvalidRequest
from turnout.serving.router.bodies import Conversation, Message, ResponseFormat, add_messages, read_body
from turnout.serving.router.content import IMAGE_TOKENS, ContentKind, embedded_in

__all__ = ["ChatBody", "ContentPart", "Message", "Prompt", "ResponseFormat", "clean_text", "prompt_from_chat"]
__all__ += ["prompt_from_json", "prompt_from_text", "prompt_of"]


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A request as the router sees it.

    Attributes:
        text: the messages rendered to one string; valid Unicode without lone surrogates.
        turns: number of user messages, at least 1.
        images: number of images.
        tools: number of tools offered.
        wants_json: whether the request asks for JSON output.
        audio, files, videos, unknown: numbers of such parts; the router reads none of them, and no feature counts them.
        wants_other_output: whether something else than text is asked for.
        is_stored: whether some of the content is at the vendor only, such as the turns before.
        embedded_images: pictures as data URLs inside the text, which `images`, a feature, has never counted.
        extra_tokens: estimate for tools, audio, files, videos and unknown parts.
    """

    text: str
    turns: int = 1
    images: int = 0
    tools: int = 0
    wants_json: bool = False
    audio: int = 0
    files: int = 0
    videos: int = 0
    unknown: int = 0
    wants_other_output: bool = False
    is_stored: bool = False
    embedded_images: int = 0
    extra_tokens: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of the text after trimming white space."""
        return not self.text or self.text.isspace()

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to route: no text, no part of any kind, no tool, nothing stored at the vendor."""
        return self.is_empty and not self.is_more_than_text

    @property
    def is_more_than_text(self) -> bool:
        """Whether it holds a part or a tool, or asks for another output than text."""
        return bool(self.images or self.tools or self.is_beyond_features)

    @property
    def is_beyond_features(self) -> bool:
        """Whether it holds or asks for what neither the text nor any feature tells of."""
        return bool(
            self.audio
            or self.files
            or self.videos
            or self.unknown
            or self.embedded_images
            or self.wants_other_output
            or self.is_stored
        )

    @property
    def has_images(self) -> bool:
        """Whether it holds pictures, in parts or inside the text."""
        return bool(self.images or self.embedded_images)

    @property
    def tokens_beside(self) -> int:
        """Estimated tokens of all that is not text, images at gpt-4o's figure."""
        return self.extra_tokens + IMAGE_TOKENS * self.images


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message, as readers of logs make them."""

    type: str = "text"
    text: str | None = None


class ChatBody(msgspec.Struct, frozen=True):
    """A chat that is in memory already; what comes as JSON is read by `prompt_from_json`."""

    messages: list[Message]


def clean_text(text: str) -> str:
    """Return `text` with lone surrogates replaced, so that it can be encoded as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def prompt_from_text(text: str) -> Prompt:
    """Return the prompt of one plain user message."""
    if ";base64," in text:
        return prompt_of(Conversation([("user", text)]))
    return Prompt(clean_text(text))  # what `prompt_of` makes of it, in a tenth of the time


def prompt_from_chat(body: ChatBody) -> Prompt:
    """Render messages to a `Prompt`."""
    found = Conversation()
    add_messages(found, body.messages)
    return prompt_of(found)


def prompt_from_json(body: bytes, name: str = "openai_body") -> Prompt:
    """Read the raw JSON body of a call in any shape of `serving.router.bodies`; `name` heads the message of a refusal.

    Raises:
        InvalidRequest: the body is not JSON, or of no such shape.
    """
    try:
        return prompt_of(read_body(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # msgspec's text names the field and the expected type, never the value.
        shapes = "a chat, Responses, completions, Messages or Gemini body"
        raise InvalidRequest(f"{name} is not {shapes}: {error}") from None


def prompt_of(found: Conversation) -> Prompt:
    """Render a conversation; data URLs inside its texts count as what they hold."""
    text = clean_text(_render(found.texts))
    embedded = embedded_in(text)
    counts = found.counts + embedded
    return Prompt(
        text=text,
        turns=max(1, sum(role == "user" for role, _ in found.texts)),
        images=found.counts[ContentKind.IMAGE],
        tools=found.tools,
        wants_json=found.wants_json,
        audio=counts[ContentKind.AUDIO],
        files=counts[ContentKind.FILE],
        videos=counts[ContentKind.VIDEO],
        unknown=counts[ContentKind.UNKNOWN],
        wants_other_output=found.wants_other_output,
        is_stored=found.is_stored,
        embedded_images=embedded[ContentKind.IMAGE],
        extra_tokens=found.tokens,
    )


def _render(texts: list[tuple[str, str]]) -> str:
    if len(texts) == 1:
        return texts[0][1]
    return "\n\n".join(f"{role}:\n{text}" for role, text in texts if text.strip())
