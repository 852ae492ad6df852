"""Content parts by kind: the one place that knows what a part of a message is, whichever vendor's shape it has.

Comes in: the `content` of a message, of a tool's result or of an item, as decoded JSON. Goes out: `Content`, the text
that the router reads, how often each kind that it can't read occurs, and an estimate of the tokens those take.

What is not known here is `UNKNOWN`: it is counted, never skipped, so that no request is judged by its caption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

MAX_DEPTH = 16
"""Deeper nesting of parts counts as unknown: no vendor documents more than three levels."""


class ContentKind(StrEnum):
    """What a part holds; the names stand in rules files too, with `images` and `files` in the plural."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"
    VIDEO = "video"
    UNKNOWN = "unknown"


IGNORED = frozenset(
    {"tool_use", "server_tool_use", "tool_call", "function_call", "custom_tool_call", "web_search_call", "functionCall"}
    | {"thinking", "redacted_thinking", "reasoning", "reasoning_content", "computer_call", "cache_point"}
)
"""Calls and thoughts of the model that answered before: what a chat's `tool_calls` are, which no training reads."""

NESTING = frozenset(
    {"tool_result", "search_result", "web_search_tool_result", "mcp_tool_result", "tool_call_response"}
    | {"function_call_output", "custom_tool_call_output", "message", "functionResponse"}
)
"""Parts whose `content` or `output` holds text or parts again."""

_TYPES: dict[str, ContentKind] = {
    **dict.fromkeys(("text", "input_text", "output_text", "summary_text", "refusal"), ContentKind.TEXT),
    **dict.fromkeys(("image", "image_url", "input_image", "output_image", "image_file"), ContentKind.IMAGE),
    **dict.fromkeys(("computer_screenshot", "image_generation_call"), ContentKind.IMAGE),
    **dict.fromkeys(("audio", "audio_url", "input_audio", "output_audio"), ContentKind.AUDIO),
    **dict.fromkeys(
        ("file", "input_file", "file_url", "document", "document_url", "container_upload"), ContentKind.FILE
    ),
    **dict.fromkeys(("video", "video_url", "input_video"), ContentKind.VIDEO),
}

_PAYLOADS: dict[str, ContentKind] = {
    **dict.fromkeys(("image", "images", "image_url", "image_file"), ContentKind.IMAGE),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), ContentKind.AUDIO),
    **dict.fromkeys(("file", "files", "file_id", "file_data", "file_url", "document", "attachments"), ContentKind.FILE),
    **dict.fromkeys(("video", "videos", "video_url"), ContentKind.VIDEO),
}
"""Fields that bring content with them, in a part or beside the text of a message."""

_BY_MIME = ("inline_data", "inlineData", "fileData", "file_data", "source")
_MIMES = {"image": ContentKind.IMAGE, "audio": ContentKind.AUDIO, "video": ContentKind.VIDEO}
_PLAIN = frozenset(
    {"type", "text", "role", "content", "annotations", "citations", "cache_control", "logprobs", "id", "status", "name"}
    | {"refusal", "phase", "thought", "thoughtSignature", "prompt_cache_breakpoint"}
)
"""Fields of a text part that bring nothing of their own."""

IMAGE_TOKENS = 765
"""OpenAI's guide to images and vision: a picture of 1024 x 1024 at high detail is 85 + 4 x 170 tokens of gpt-4o."""

_BYTES_PER_TOKEN = {ContentKind.AUDIO: 1600, ContentKind.VIDEO: 400, ContentKind.FILE: 4, ContentKind.UNKNOWN: 4}
"""Of decoded bytes. Audio: 10 tokens a second (OpenAI's guide to the costs of the Realtime API) of MP3 at 128 kbit/s.
Video: 300 tokens a second (Gemini's guide to video) at 1 Mbit/s. Files: as text, which a PDF with pictures is below."""

_TOKENS_UNSEEN = {ContentKind.AUDIO: 600, ContentKind.VIDEO: 18_000, ContentKind.FILE: 1500, ContentKind.UNKNOWN: 0}
"""At least, and where only an address is in the body: a minute of sound or video, a page of a PDF (1,500 to 3,000
tokens a page by Anthropic's guide to PDF support)."""

_DATA_URL = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+)?[^,\s\"']{0,100};base64,[A-Za-z0-9+/_-]{16}[A-Za-z0-9+/_=-]*")
"""Sixteen characters of base64: people who only talk of such addresses write fewer (`iVBORw0KGgo...` are eleven)."""


@dataclass(slots=True)
class Content:
    """What was found so far.

    Attributes:
        texts: pieces of text in their order.
        counts: how many parts of each kind but text there are.
        tokens: estimate for the audio, files, videos and unknown parts; images are not in it.
    """

    texts: list[str] = field(default_factory=list)
    counts: Counter[ContentKind] = field(default_factory=Counter)
    tokens: int = 0

    @property
    def text(self) -> str:
        """The pieces, one a line."""
        return "\n".join(text for text in self.texts if text)

    def add(self, kind: ContentKind, payload: Any) -> None:
        """Count one part of a kind other than text."""
        self.counts[kind] += 1
        if kind is not ContentKind.IMAGE:
            self.tokens += max(_TOKENS_UNSEEN[kind], _payload_bytes(payload) // _BYTES_PER_TOKEN[kind])


def read_content(value: Any, into: Content, depth: int = 0) -> Content:
    """Read a content of any shape, a text, a part or a list of parts; raises nothing."""
    if isinstance(value, str):
        into.texts.append(value)
    elif isinstance(value, msgspec.Struct):
        read_content(msgspec.structs.asdict(value), into, depth)
    elif depth > MAX_DEPTH:
        into.add(ContentKind.UNKNOWN, value)
    elif isinstance(value, list | tuple):
        for one in value:
            read_content(one, into, depth + 1)
    elif isinstance(value, Mapping):
        _read_part(value, into, depth)
    elif value is not None:
        into.add(ContentKind.UNKNOWN, value)
    return into


def read_beside(fields: Iterable[tuple[str, Any]], into: Content) -> None:
    """Count what fields beside the text bring, such as `audio` or `images` of a message."""
    for name, value in fields:
        if value and (kind := _payload_kind(name, value)) is not None:
            for one in value if isinstance(value, list) else [value]:
                into.add(kind, one)


def embedded_in(text: str) -> Counter[ContentKind]:
    """Return the kinds of the data URLs in a text; its base64 is nothing that the router reads."""
    if ";base64," not in text:
        return Counter()
    return Counter(_mime_kind(found["mime"] or "") for found in _DATA_URL.finditer(text))


def _read_part(part: Mapping[str, Any], into: Content, depth: int) -> None:
    name = part.get("type")
    if name is None:
        name = next((one for one in ("functionCall", "functionResponse", "cachePoint") if one in part), "text")
    if name in ("functionCall", "cachePoint") or (isinstance(name, str) and name in IGNORED):
        return
    if isinstance(name, str) and name in NESTING:
        nested = [part[one] for one in ("content", "output", "response", "functionResponse") if part.get(one)]
        read_content(nested, into, depth + 1)
        return
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is ContentKind.TEXT:
        _read_text(part, into)
    elif kind is None:
        _read_unknown(part, into, depth)
    else:
        into.add(kind, part)


def _read_text(part: Mapping[str, Any], into: Content) -> None:
    """Take the text of a part, and count what else it brings: `inline_data` beside a caption is no caption."""
    text = part.get("text") or part.get("refusal")
    before = into.counts.total()
    if isinstance(text, str):
        into.texts.append(text)
    elif text is not None:
        into.add(ContentKind.UNKNOWN, text)
    read_beside(part.items(), into)
    if not isinstance(text, str) and into.counts.total() == before and any(part[one] for one in part.keys() - _PLAIN):
        into.add(ContentKind.UNKNOWN, part)


def _read_unknown(part: Mapping[str, Any], into: Content, depth: int) -> None:
    """Count a part of a type that nobody knows, by what it brings where that is plain; its text is still text."""
    before = into.counts.total()
    read_beside(part.items(), into)
    if into.counts.total() == before:
        into.add(ContentKind.UNKNOWN, part)
    if isinstance(text := part.get("text"), str):
        into.texts.append(text)
    if isinstance(nested := part.get("content"), list | Mapping):
        read_content(nested, into, depth + 1)


def _payload_kind(name: str, value: Any) -> ContentKind | None:
    if name in _BY_MIME and isinstance(value, Mapping):
        names = ("mime_type", "mimeType", "media_type")
        return _mime_kind(next((str(value[one]) for one in names if value.get(one)), ""))
    return _PAYLOADS.get(name)


def _mime_kind(mime: str) -> ContentKind:
    return _MIMES.get(mime.partition("/")[0].lower(), ContentKind.FILE)


def _payload_bytes(value: Any, depth: int = 0) -> int:
    """Return the decoded bytes that a part holds, its strings taken as base64; addresses count as their letters."""
    if isinstance(value, str):
        return len(value) * 3 // 4
    if depth > MAX_DEPTH:
        return 0
    if isinstance(value, Mapping):
        return sum(_payload_bytes(one, depth + 1) for one in value.values())
    return sum(_payload_bytes(one, depth + 1) for one in value) if isinstance(value, list | tuple) else 0
