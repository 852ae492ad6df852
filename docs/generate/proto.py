"""The page of the gRPC contract, from the comments of the proto as protoc reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "turnout/v1/router.proto"
HEAD = f"""# gRPC API

<!-- written by python -m docs.generate from proto/{SOURCE} -->
Package `turnout.v1`, for any language: [router.proto](../../proto/{SOURCE}). The same in JSON over
HTTP: [gateways](../gateways/index.md#http); by hand: [grpcurl](../gateways/grpcurl.md); in Python: [the client](client.md).
"""
SERVICE, MESSAGE, ENUM = 6, 4, 5
"""Field numbers of FileDescriptorProto, by which comments name their places."""
METHOD, FIELD, VALUE = 2, 2, 2
F = descriptor_pb2.FieldDescriptorProto


def proto_page() -> str:
    """Return the page: the service, then messages and enums in their order."""
    file = _described()
    places = file.source_code_info.location
    comments = {tuple(one.path): one.leading_comments or one.trailing_comments for one in places}
    parts = [HEAD]
    for i, service in enumerate(file.service):
        parts.append(f"## {service.name}\n\n{_block(comments.get((SERVICE, i), ''))}")
        for j, method in enumerate(service.method):
            called = f"rpc {method.name}({_stream(method.client_streaming)}{_short(method.input_type)})"
            answer = f"returns ({_stream(method.server_streaming)}{_short(method.output_type)})"
            comment = _block(comments.get((SERVICE, i, METHOD, j), ""))
            parts.append(f"### {method.name}\n\n`{called} {answer}`\n\n{comment}")
    parts.append("## Messages\n")
    for i, message in enumerate(file.message_type):
        parts.append(f"### {message.name}\n\n{_block(comments.get((MESSAGE, i), ''))}")
        for j, field in enumerate(message.field):
            parts.append(_field(message, field, comments.get((MESSAGE, i, FIELD, j), "")))
    parts.append("## Enums\n")
    for i, enum in enumerate(file.enum_type):
        parts.append(f"### {enum.name}\n\n{_block(comments.get((ENUM, i), ''))}")
        for j, value in enumerate(enum.value):
            parts.append(f"**`{value.name}` = {value.number}**\n\n{_block(comments.get((ENUM, i, VALUE, j), ''))}")
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _described() -> Any:
    """Return the file's descriptor with its comments."""
    from grpc_tools import protoc  # noqa: PLC0415  # of the extra `dev`

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "router.pb"
        words = [f"-I{ROOT / 'proto'}", "--include_source_info", f"--descriptor_set_out={out}", SOURCE]
        if protoc.main(["protoc", *words]) != 0:
            raise SystemExit(f"protoc could not read {SOURCE}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def _field(message: Any, field: Any, comment: str) -> str:
    kind = _short(field.type_name) or F.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == F.LABEL_REPEATED:
        kind = f"repeated {kind}"
    elif field.proto3_optional:
        kind = f"optional {kind}"
    elif field.HasField("oneof_index"):
        kind = f"{kind}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return f"**`{field.name}` = {field.number}** ({kind})\n\n{_block(comment)}"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _stream(is_stream: bool) -> str:
    return "stream " if is_stream else ""


def _block(comment: str) -> str:
    """Return a comment as Markdown: its paragraphs, and what it sets out in columns as it stands."""
    blocks = "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines()).strip("\n").split("\n\n")
    written = (f"```text\n{block}\n```" if "\n  " in f"\n{block}" else _escaped(block) for block in blocks if block)
    return "\n\n".join(written) + "\n"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
