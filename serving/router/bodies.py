"""Bodies of LLM calls in every shape: OpenAI chat.completions, Responses, completions; Anthropic Messages; Gemini.

Comes in: the raw JSON of a call. Goes out: `Conversation`, its texts under their roles, what beside text it holds, and
what it asks for. gRPC, HTTP, ext_proc, the plug-ins and the readers of logs all read with it.

    messages        chat.completions, or Messages with `system`, `tool_result` blocks and tools with `input_schema`
    input           Responses: a text or items, with `instructions`, flat tools and `text.format`
    prompt          completions: a text or several; tokens can't be read. An object is a prompt stored at the vendor
    contents        Gemini's generateContent: a text or turns of parts, with `systemInstruction` and `generationConfig`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from turnout.serving.router.content import Content, ContentKind, read_beside, read_content

BYTES_PER_TOKEN = 4
SHAPES = frozenset({"messages", "input", "prompt", "contents"})
"""A body has at least one of these fields."""

STORED = ("previous_response_id", "conversation", "container", "thread_id", "cachedContent", "cached_content")
"""Fields that name content which is at the vendor and not in the body."""

OUTPUT_TOOLS = frozenset({"image_generation"})
STORED_TOOLS = frozenset({"file_search"})
TEXT_OUTPUT = frozenset({"text"})


BESIDE_TEXT = frozenset({"audio", "images", "files", "videos", "attachments", "parts"})
"""Fields of a message that bring content beside its text."""


class Message(msgspec.Struct, frozen=True):
    """One message of a chat; content is a text or parts. Fields that bring content beside it are kept too."""

    role: str
    content: str | list[Any] | None = None
    audio: Any = None
    images: Any = None
    files: Any = None
    videos: Any = None
    attachments: Any = None
    parts: Any = None

    def beside(self) -> Iterable[tuple[str, Any]]:
        """Yield the fields that bring content beside the text."""
        return [(name, getattr(self, name)) for name in ("audio", "images", "files", "videos", "attachments")]


class ResponseFormat(msgspec.Struct, frozen=True):
    """`response_format` of the OpenAI shape, `format` of the others."""

    type: str = "text"


class _Tool(msgspec.Struct, frozen=True):
    type: Any = None
    functionDeclarations: Any = None  # noqa: N815  # as Gemini spells it
    function_declarations: Any = None
    fileSearch: Any = None  # noqa: N815  # as Gemini spells it
    file_search: Any = None
    retrieval: Any = None


class _Body(msgspec.Struct, frozen=True):
    messages: list[Message] | None = None
    input: Any = None
    instructions: Any = None
    system: Any = None
    prompt: Any = None
    contents: Any = None
    systemInstruction: Any = None  # noqa: N815  # as Gemini spells it
    system_instruction: Any = None
    generationConfig: Any = None  # noqa: N815  # as Gemini spells it
    generation_config: Any = None
    config: Any = None
    cachedContent: Any = None  # noqa: N815  # as Gemini spells it
    cached_content: Any = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None
    response_format: ResponseFormat | None = None
    text: Any = None
    output_format: Any = None
    output_config: Any = None
    modalities: Any = None
    response_modalities: Any = None
    audio: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    container: Any = None
    thread_id: Any = None
    turnout_tokens: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0


FIELDS = _Body.__struct_fields__
"""All fields of a call that are read; what is not among them matters to no route."""


@dataclass(slots=True)
class Conversation:
    """A call as the router sees it, whatever shape it came in.

    Attributes:
        texts: (role, text) in their order; a text may be empty.
        counts: parts of each kind but text.
        tools: number of tools offered.
        wants_json: whether the answer is to be JSON.
        wants_other_output: whether it is to be, or to hold, something else than text.
        is_stored: whether some of the content is at the vendor only.
        tokens: estimate for tools and for all parts but text and images.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[ContentKind] = field(default_factory=Counter)
    tools: int = 0
    wants_json: bool = False
    wants_other_output: bool = False
    is_stored: bool = False
    tokens: int = 0

    def add(self, role: str, content: Content) -> None:
        """Add a message."""
        self.texts.append((role, content.text))
        self.counts += content.counts
        self.tokens += content.tokens


_decode = msgspec.json.Decoder(_Body).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode


def read_body(raw: bytes | msgspec.Raw) -> Conversation:
    """Read the JSON of a call.

    Raises:
        msgspec.MsgspecError: not JSON, or of no shape that is known; the text names the field, never a value.
        UnicodeDecodeError, RecursionError: likewise.
    """
    body = _decode(raw)
    found = Conversation()
    for instructions in (body.system, body.instructions, *_settings(body, "systemInstruction", "system_instruction")):
        if instructions is not None:
            _add(found, "system", _field(instructions, "parts") or instructions)
    if body.messages is not None:
        add_messages(found, body.messages)
    if body.input is not None:
        _add_input(found, body.input)
    if body.contents is not None:
        _add_contents(found, body.contents)
    _add_prompt(found, body)
    _add_tools(found, [*(body.tools or ()), *(body.functions or ())])
    _add_wishes(found, body)
    found.tokens = max(found.tokens, body.turnout_tokens)
    return found


def add_messages(found: Conversation, messages: Iterable[Message]) -> None:
    """Add messages of a chat; results of tools among a user's blocks become messages of the role `tool`."""
    for message in messages:
        content = message.parts if message.content is None else message.content
        rest = content
        if isinstance(content, list):
            results = [one for one in content if isinstance(one, dict) and one.get("type") == "tool_result"]
            for result in results:
                _add(found, "tool", [result])
            rest = [one for one in content if not any(one is result for result in results)] if results else content
            if results and not rest:
                continue
        read = read_content(rest, Content())
        read_beside(message.beside(), read)
        found.add(message.role, read)


def call_body(found: Conversation) -> dict[str, Any]:
    """Return the shortest chat body from which `read_body` reads the same: a mark for each part but text, no bytes."""
    messages = [{"role": role, "content": text} for role, text in found.texts]
    marks = [{"type": kind.value} for kind, number in sorted(found.counts.items()) for _ in range(number)]
    if marks:
        last = messages.pop() if messages else {"role": "user", "content": ""}
        messages.append({"role": last["role"], "content": [{"type": "text", "text": last["content"]}, *marks]})  # type: ignore[dict-item]
    body = {
        "messages": messages,
        "tools": [{"type": "function"}] * found.tools or None,  # that there is one is all that counts
        "response_format": {"type": "json_object"} if found.wants_json else None,
        "modalities": ["text", "other"] if found.wants_other_output else None,
        "conversation": "stored" if found.is_stored else None,
        "turnout_tokens": found.tokens or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _add(found: Conversation, role: str, content: Any) -> None:
    found.add(role, read_content(content, Content()))


def _add_input(found: Conversation, value: Any) -> None:
    """Add the `input` of the Responses API: one user message, or items."""
    if isinstance(value, str):
        _add(found, "user", value)
        return
    if not isinstance(value, list):
        raise msgspec.ValidationError("Expected `str | array` - at `$.input`")
    for item in value:
        kind = item.get("type") if isinstance(item, dict) else None
        if isinstance(item, dict) and (role := item.get("role")) is not None and kind in (None, "message"):
            if not isinstance(role, str):
                raise msgspec.ValidationError("Expected `str` - at `$.input[...].role`")
            add_messages(found, [msgspec.convert(item, Message)])
        elif kind == "item_reference":
            found.is_stored = True
        elif isinstance(kind, str) and kind.endswith("_call_output"):
            _add(found, "tool", item.get("output"))
        elif (read := read_content([item], Content())) and (read.text or read.counts):
            found.add("user", read)


def _add_contents(found: Conversation, contents: Any) -> None:
    """Add the `contents` of generateContent: turns, or the texts and parts of one. A function's result is a tool's."""
    turns = contents if isinstance(contents, list) else [contents]
    if not any(isinstance(turn, dict) and "parts" in turn for turn in turns):
        turns = [{"parts": turns}]
    for turn in turns:
        parts = turn["parts"] if isinstance(turn, dict) and "parts" in turn else turn
        rest = []
        for part in parts if isinstance(parts, list) else [parts]:
            if (result := _field(part, "functionResponse")) is not None:
                _add(found, "tool", [_result_text(_field(result, "response")), _field(result, "parts")])
            else:
                rest.append(part)
        if rest or not parts:
            role = _field(turn, "role")
            _add(found, "assistant" if role == "model" else role if isinstance(role, str) else "user", rest)


def _result_text(response: Any) -> str:
    """Return a function's result as chats have it: the text, or the JSON."""
    return response if isinstance(response, str) else msgspec.json.encode(response).decode()


def _add_prompt(found: Conversation, body: _Body) -> None:
    """Add the `prompt` of completions; an object is one that is stored at the vendor."""
    prompt = body.prompt
    if isinstance(prompt, str):
        _add(found, "user", prompt)
    elif isinstance(prompt, list):  # tokens are numbers, of which the reader makes unknown content
        read = read_content(prompt, Content())
        if read.text or read.counts:
            found.add("user", read)
    elif prompt is not None:
        found.is_stored = True
    elif all(getattr(body, name) is None for name in SHAPES) and not any(getattr(body, name) for name in STORED):
        raise msgspec.ValidationError("Object has none of the fields `messages`, `input`, `prompt`, `contents`")


def _add_tools(found: Conversation, tools: Sequence[msgspec.Raw]) -> None:
    found.tokens += sum(-(-len(msgspec.json.format(bytes(tool), indent=-1)) // BYTES_PER_TOKEN) for tool in tools)
    for tool in tools:
        try:
            read = _decode_tool(tool)
        except msgspec.MsgspecError:
            found.tools += 1
            continue
        name, several = read.type, read.functionDeclarations or read.function_declarations
        found.tools += len(several) if isinstance(several, list) else 1
        found.is_stored |= any(one is not None for one in (read.fileSearch, read.file_search, read.retrieval))
        if not isinstance(name, str):
            continue
        found.wants_other_output |= name in OUTPUT_TOOLS
        found.is_stored |= name in STORED_TOOLS
        if name.startswith("computer"):  # what it shows comes as pictures, and few models can use it
            found.counts[ContentKind.UNKNOWN] += 1


def _add_wishes(found: Conversation, body: _Body) -> None:
    formats = [body.output_format, *(_field(one, "format") for one in (body.text, body.output_config))]
    names = [_field(one, "type") for one in formats] + [body.response_format and body.response_format.type]
    names += [str(one).rpartition("/")[2] for one in _settings(body, "responseMimeType", "response_mime_type")]
    found.wants_json = any(isinstance(one, str) and one.startswith("json") for one in names)
    found.is_stored |= any(getattr(body, name) is not None for name in STORED)
    modalities = (body.modalities, *_settings(body, "responseModalities", "response_modalities"))
    wanted = [name for one in modalities for name in _listed(one)]
    found.wants_other_output |= body.audio is not None or any(str(one).lower() not in TEXT_OUTPUT for one in wanted)


def _settings(body: _Body, *names: str) -> list[Any]:
    """Return what a body says under these names, itself or in the settings of generateContent."""
    places = (msgspec.structs.asdict(body), body.generationConfig, body.generation_config, body.config)
    return [one[name] for one in places if isinstance(one, dict) for name in names if one.get(name) is not None]


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
