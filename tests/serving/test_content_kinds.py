"""What the model can't read never passes as its caption: every kind of content, in every shape, at every door."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.decision.decision import NO_RULES
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules import Facts, Rules, RulesSpec
from turnout.serving.gateways.chat import routing_body
from turnout.serving.pb import ext_proc_pb2 as ext
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.protocols.ext_proc.processor import METHOD, SERVICE_NAME
from turnout.serving.protocols.http.route_json import read_route
from turnout.serving.router.bodies import read_body
from turnout.serving.router.content import IGNORED, NESTING, ContentKind
from turnout.serving.router.prompt import prompt_from_json, prompt_from_text
from turnout.serving.settings import ExtProc
from turnout.serving.wire.route import ROUTE_METHOD

CAPTION = "hello"
"""Goes to the weak model of the tiny bundle when it stands alone."""

BASE64 = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
Body = dict[str, Any]

PARTS: dict[str, tuple[ContentKind, Body]] = {
    "image_url": (ContentKind.IMAGE, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}),
    "input_image": (ContentKind.IMAGE, {"type": "input_image", "image_url": "https://example.org/a.png"}),
    "anthropic image": (ContentKind.IMAGE, {"type": "image", "source": {"type": "base64", "data": BASE64}}),
    "screenshot": (ContentKind.IMAGE, {"type": "computer_screenshot", "image_url": "https://example.org/a.png"}),
    "input_audio": (ContentKind.AUDIO, {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}),
    "file": (ContentKind.FILE, {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BASE64}"}}),
    "input_file": (ContentKind.FILE, {"type": "input_file", "file_id": "file-1"}),
    "document": (ContentKind.FILE, {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}),
    "text document": (
        ContentKind.FILE,
        {"type": "document", "source": {"type": "text", "data": "words"}, "citations": {}},
    ),
    "video_url": (ContentKind.VIDEO, {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}),
    "inline picture": (ContentKind.IMAGE, {"inline_data": {"mime_type": "image/png", "data": BASE64}}),
    "inline sound": (ContentKind.AUDIO, {"inlineData": {"mimeType": "audio/mp3", "data": BASE64}}),
    "file by MIME": (ContentKind.VIDEO, {"file_data": {"mime_type": "video/mp4", "file_uri": "gs://x"}}),
    "captioned": (
        ContentKind.IMAGE,
        {"type": "text", "text": "x", "inline_data": {"mime_type": "image/png", "data": "A"}},
    ),
    "unknown": (ContentKind.UNKNOWN, {"type": "hologram", "hologram": BASE64}),
    "unknown with text": (ContentKind.UNKNOWN, {"type": "hologram", "text": "words"}),
    "no type": (ContentKind.UNKNOWN, {"payload": BASE64}),
    "odd type": (ContentKind.UNKNOWN, {"type": 7}),
    "number": (ContentKind.UNKNOWN, 7),  # type: ignore[dict-item]
    "in a result": (ContentKind.IMAGE, {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}),
    "deep in results": (
        ContentKind.FILE,
        {"type": "tool_result", "content": [{"type": "search_result", "content": [{"type": "document"}]}]},
    ),
}


def _chat(parts: list[Any]) -> Body:
    return {"messages": [{"role": "user", "content": parts}]}


def _after_turns(parts: list[Any]) -> Body:
    asked = {"role": "user", "content": parts}
    return {"messages": [asked, {"role": "assistant", "content": "ok"}, {"role": "user", "content": CAPTION}]}


def _messages(parts: list[Any]) -> Body:
    return {"system": [{"type": "text", "text": "Be brief."}], "max_tokens": 9, **_chat(parts)}


def _tool_result(parts: list[Any]) -> Body:
    return _chat([{"type": "tool_result", "tool_use_id": "t", "content": parts}, {"type": "text", "text": CAPTION}])


def _responses(parts: list[Any]) -> Body:
    return {"input": [{"role": "user", "content": parts}], "instructions": "Be brief."}


def _output(parts: list[Any]) -> Body:
    called = {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c"}
    return {"input": [called, {"type": "function_call_output", "call_id": "c", "output": parts}]}


SHAPES: dict[str, Callable[[list[Any]], Body]] = {
    "chat": _chat,
    "earlier turn": _after_turns,
    "messages": _messages,
    "tool result": _tool_result,
    "responses": _responses,
    "call output": _output,
    "gemini": lambda parts: {"contents": [{"role": "user", "parts": parts}]},
    "gemini, parts alone": lambda parts: {"contents": parts},
    "gemini, a function's result": lambda parts: {
        "contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}, "parts": parts}}]}]
    },
}

WISHES: dict[str, Body] = {
    "sound": {**_chat([CAPTION]), "modalities": ["text", "audio"]},
    "picture": {"input": CAPTION, "tools": [{"type": "image_generation"}]},
    "file search": {"input": CAPTION, "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
    "turns before": {"input": CAPTION, "previous_response_id": "resp_1"},
    "turns before alone": {"previous_response_id": "resp_1"},
    "conversation": {"input": CAPTION, "conversation": {"id": "conv_1"}},
    "stored prompt": {"input": CAPTION, "prompt": {"id": "pmpt_1"}},
    "stored prompt alone": {"prompt": {"id": "pmpt_1", "variables": {}}},
    "item reference": {"input": [{"type": "item_reference", "id": "i"}, {"role": "user", "content": CAPTION}]},
    "computer output": {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot"}}]},
    "tokens": {"prompt": [1, 2, 3]},
    "gemini, picture": {"contents": CAPTION, "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}},
    "gemini, sound": {"contents": CAPTION, "config": {"response_modalities": ["AUDIO"]}},
    "gemini, stored": {"contents": CAPTION, "cachedContent": "cachedContents/1"},
    "gemini, file search": {"contents": CAPTION, "tools": [{"fileSearch": {"fileSearchStoreNames": ["s"]}}]},
    "gemini, nothing that is text": {"contents": 7},
    "sound spoken before": {
        "messages": [{"role": "user", "content": CAPTION}, {"role": "assistant", "audio": {"id": "a"}}]
    },
    "pictures beside": {"messages": [{"role": "user", "content": CAPTION, "images": [BASE64]}]},
    "parts of Gemini": {"messages": [{"role": "user", "parts": [{"text": CAPTION}, {"inlineData": {"data": BASE64}}]}]},
    "empty text": _chat([{"type": "text", "text": ""}, PARTS["file"][1]]),
    "data URL": _chat([{"type": "text", "text": f"See ![](data:image/png;base64,{BASE64})"}]),
    "data URL of a PDF": {"prompt": f"Read data:application/pdf;base64,{BASE64}"},
}

READABLE: dict[str, Body] = {
    "chat": _chat([{"type": "text", "text": CAPTION, "cache_control": {"type": "ephemeral"}, "citations": None}]),
    "responses": {"input": CAPTION},
    "items": {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": CAPTION}]}]},
    "completions": {"prompt": CAPTION},
    "messages": {"messages": [{"role": "user", "content": [{"type": "text", "text": CAPTION}]}], "max_tokens": 9},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": CAPTION}]}]},
    "gemini, a text": {"contents": CAPTION, "generationConfig": {"responseModalities": ["TEXT"]}},
    "gemini, turns": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": CAPTION}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"found": True}}}]},
        ],
    },
    "interaction": {"input": [{"type": "text", "text": CAPTION}], "system_instruction": "Be brief."},
    "developer": {"messages": [{"role": "developer", "content": "ok"}, {"role": "user", "content": CAPTION}]},
    "refusal": {
        "messages": [
            {"role": "user", "content": CAPTION},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    },
    "thoughts": {
        "messages": [
            {"role": "user", "content": CAPTION},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}]},
        ]
    },
}


def unreadable() -> Iterator[tuple[str, Body]]:
    """Yield every kind in every shape, with a caption, without one, and what has no part at all."""
    for part_name, (_, part) in PARTS.items():
        for shape_name, shape in SHAPES.items():
            yield f"{part_name}, {shape_name}", shape([{"type": "text", "text": CAPTION}, part])
            yield f"{part_name} alone, {shape_name}", shape([part])
    yield from WISHES.items()


async def through_envoy(channel: Any, body: bytes) -> tuple[dict[str, str], bytes]:
    """Return the headers that the processor sets on a buffered request, and the body that goes to the vendor."""
    process = channel.stream_stream(
        f"/{SERVICE_NAME}/{METHOD}",
        request_serializer=ext.ProcessingRequest.SerializeToString,
        response_deserializer=ext.ProcessingResponse.FromString,
    )(timeout=60)
    await process.write(ext.ProcessingRequest(request_body=ext.HttpBody(body=body, end_of_stream=True)))
    common = (await process.read()).request_body.response
    await process.done_writing()
    headers = {one.header.key: one.header.raw_value.decode() for one in common.header_mutation.set_headers}
    return headers, common.body_mutation.body or body


@contextlib.asynccontextmanager
async def doors(bundle: Bundle) -> AsyncIterator[dict[str, Callable[[Body], Any]]]:
    """Yield each door as a function from a body to (model, reason)."""
    async with (
        server_in_loop(bundle, ext_proc=ExtProc.REWRITE) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):

        async def asked(raw: bytes) -> tuple[str, str]:
            reply = pb.RouteResponse.FromString(await channel.unary_unary(ROUTE_METHOD)(raw, timeout=60))
            return reply.model, pb.Reason.Name(reply.reason).removeprefix("REASON_")

        async def by_envoy(body: Body) -> tuple[str, str]:
            headers, sent = await through_envoy(channel, json.dumps({"model": "auto", **body}).encode())
            assert json.loads(sent)["model"] == headers["x-turnout-model"]
            return headers["x-turnout-model"], headers["x-turnout-reason"]

        def of(**fields: bytes) -> bytes:
            return bytes(pb.RouteRequest(**fields).SerializeToString())

        yield {
            "gRPC": lambda body: asked(of(openai_body=json.dumps(body).encode())),
            "gRPC, Anthropic": lambda body: asked(of(anthropic_body=json.dumps(body).encode())),
            "HTTP": lambda body: asked(read_route(json.dumps({"openai_body": body}).encode())),
            "HTTP, Anthropic": lambda body: asked(read_route(json.dumps({"anthropic_body": body}).encode())),
            "plug-in": lambda body: asked(of(openai_body=routing_body(body))),
            "ext_proc": by_envoy,
        }


def answers(bundle: Bundle, door: str, bodies: dict[str, Body]) -> dict[str, tuple[str, str]]:
    async def check() -> dict[str, tuple[str, str]]:
        async with doors(bundle) as ways:
            return {name: await ways[door](body) for name, body in bodies.items()}

    return asyncio.run(check())


DOORS = ("gRPC", "gRPC, Anthropic", "HTTP", "HTTP, Anthropic", "plug-in", "ext_proc")


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_what_the_model_cannot_read_goes_strong_by_rule(bundle: Bundle, door: str):
    found = answers(bundle, door, dict(unreadable()))
    assert {name: got for name, got in found.items() if got != ("gpt-4o", "RULE")} == {}


@pytest.mark.parametrize("door", DOORS)
def test_text_in_any_shape_is_the_models_to_decide(bundle: Bundle, door: str):
    found = answers(bundle, door, READABLE)
    assert {name: got for name, got in found.items() if got[1] != "MODEL"} == {}
    alike = ("responses", "completions", "messages", "gemini", "gemini, a text")
    assert {found[name] for name in alike} == {("gpt-4o-mini", "MODEL")}


def test_gemini_says_what_a_chat_says():
    """The same conversation, with its tools and its wish for JSON, is the same prompt."""
    call = {"role": "assistant", "content": ""}
    chat = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": CAPTION},
            call,
            {"role": "tool", "content": '{"found":true}'},
        ],
        "tools": [{"type": "function", "function": {"name": name}} for name in "ab"],
        "response_format": {"type": "json_object"},
    }
    gemini = READABLE["gemini, turns"] | {
        "tools": [{"functionDeclarations": [{"name": "a"}, {"name": "b"}]}],
        "generationConfig": {"responseMimeType": "application/json"},
    }
    read = [prompt_from_json(json.dumps(body).encode()) for body in (chat, gemini)]
    assert msgspec.structs.replace(read[0], extra_tokens=0) == msgspec.structs.replace(read[1], extra_tokens=0)
    assert all(one.extra_tokens > 5 for one in read)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("kind", "part"), PARTS.values(), ids=PARTS)
def test_every_kind_is_known_by_name(kind: ContentKind, part: Body, shape: Callable[[list[Any]], Body]):
    assert dict(read_body(json.dumps(shape([part])).encode()).counts) == {kind: 1}


KNOWN = {*IGNORED, *NESTING, "text", "input_text", "output_text", "summary_text", "refusal"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.text(max_size=20).filter(lambda name: name not in KNOWN),
    st.dictionaries(st.sampled_from(["text", "content", "data", "source", "x"]), json_values, max_size=4),
    st.sampled_from(sorted(SHAPES)),
)
def test_a_part_of_unknown_type_never_goes_weak_by_default(name: str, fields: Body, shape: str):
    body = SHAPES[shape]([{"type": "text", "text": CAPTION}, {**fields, "type": name}])
    for raw in (json.dumps(body).encode(), routing_body(body)):
        before = NO_RULES.before(Facts(prompt_from_json(raw)))
        assert (before.route, before.reason) == (Route.STRONG, Reason.RULE)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("images", _chat([CAPTION, PARTS["image_url"][1]])),
        ("audio", _chat([CAPTION, PARTS["input_audio"][1]])),
        ("files", _chat([CAPTION, PARTS["file"][1]])),
        ("video", _chat([CAPTION, {"type": "video_url"}])),
        ("unknown_content", _chat([CAPTION, PARTS["unknown"][1]])),
        ("other_output", WISHES["sound"]),
        ("stored_content", WISHES["turns before"]),
    ],
)
def test_rules_name_each_kind_and_no_other(key: str, body: Body):
    facts = Facts(prompt_from_json(json.dumps(body).encode()))
    assert Rules(RulesSpec(**{key: "model"})).before(facts).route is None
    others = dict.fromkeys(("images", "audio", "files", "video", "unknown_content", "other_output"), "model")
    others["stored_content"] = "model"
    before = Rules(RulesSpec(**others | {key: "strong"})).before(facts)
    assert (before.route, before.reason) == (Route.STRONG, Reason.RULE)


@pytest.mark.parametrize(
    "text", ["What is a data:image/png;base64, URL?", "It begins iVBORw0KGgo", "data:text/plain,a"]
)
def test_who_talks_of_data_urls_holds_no_picture(text: str):
    prompt = prompt_from_text(text)
    assert not prompt.has_images
    assert not prompt.is_beyond_features


def test_length_and_costs_count_what_is_not_text():
    """A tool's schema counts by its bytes, sound and files by theirs, a picture at the model's own figure."""
    schema = {"type": "function", "function": {"name": "f", "description": "d" * 400_000}}
    offered = prompt_from_json(json.dumps({**_chat([CAPTION]), "tools": [schema]}).encode())
    assert NO_RULES.before(Facts(offered)).reason is Reason.TOO_LONG
    small = prompt_from_json(json.dumps(_chat([CAPTION, {"type": "file", "file": {"file_data": "A" * 4000}}])).encode())
    large = prompt_from_json(
        json.dumps(_chat([CAPTION, {"type": "file", "file": {"file_data": "A" * 40_000}}])).encode()
    )
    assert small.extra_tokens == 1500
    assert large.extra_tokens == pytest.approx(7500, abs=10)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "auto", "input": 7}',
        b'{"model": "auto", "messages": []}',
        b'{"model": "auto", "messages": "hello"}',
        b'{"model": "auto", "file": "x"}',
        b'{"model": "auto", "messages": [{"role": 3}]}',
        b'{"model": "auto", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model":"auto","messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model": "auto", "messages": [{"role": "user", "content": "' + b"x" * 5000 + b'"}]}',
        b'{"model" : "auto", "messages": [',
    ],
    ids=range(9),
)
def test_a_body_that_cannot_be_read_never_asks_a_vendor_for_auto(bundle: Bundle, body: bytes):
    async def check() -> None:
        async with (
            server_in_loop(bundle, ext_proc=ExtProc.REWRITE, max_request_bytes=4096) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            headers, sent = await through_envoy(channel, body)
            assert (headers["x-turnout-model"], headers["x-turnout-reason"]) == ("gpt-4o", "FALLBACK")
            assert b'"auto"' not in sent
            assert b'"gpt-4o"' in sent
            assert len(sent) >= len(body) - 64
            other = body.replace(b'"auto"', b'"claude-x"')
            assert await through_envoy(channel, other) == ({}, other)

    asyncio.run(check())
