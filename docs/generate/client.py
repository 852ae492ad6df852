"""The page of the Python client, from its signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from turnout.serving import client
from turnout.serving.gateways import openai

HEAD = """# Python client

<!-- written by python -m docs.generate from serving/client and serving/gateways/openai.py -->
`from turnout import Router, AsyncRouter, Routed`; the rest from `turnout.serving.client`. What the fields mean on the wire:
[gRPC API](proto.md).
"""
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")


def client_page() -> str:
    """Return the page: both routers with their methods, what goes in and comes out, and `route_and_call`."""
    names = ["Router", "AsyncRouter", *(name for name in client.__all__ if not name.endswith("Router"))]
    parts = [HEAD, *(part for name in names for part in _class(getattr(client, name)))]
    parts.append("## turnout.serving.gateways.openai\n")
    parts.extend(_function(getattr(openai, name), name, "###") for name in ("route_and_call", "route_and_call_async"))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _class(kind: type) -> Iterator[str]:
    yield f"## {kind.__name__}\n\n{_markdown(inspect.getdoc(kind) or '')}"
    if not kind.__name__.endswith("Router"):
        return
    yield _function(kind.__init__, kind.__name__, "###", title="Construction")
    if kind.__name__ == "AsyncRouter":
        yield "Its methods are those of `Router`, awaited:\n"
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            yield _function(method, name, "###")


def _function(function: Any, name: str, level: str, title: str = "") -> str:
    signature = inspect.signature(function)
    lines = "".join(f"    {one},\n" for one in _parameters(signature))
    words = "" if title else "async def " if inspect.iscoroutinefunction(function) else "def "
    answer = "" if title else f" -> {signature.return_annotation}"
    code = f"{words}{name}(\n{lines}){answer}" if lines else f"{words}{name}(){answer}"
    return f"{level} {title or name}\n\n```text\n{code}\n```\n\n{_markdown(inspect.getdoc(function) or '')}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Yield parameters as they are written in the source, whose annotations are strings."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    is_open = True
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is inspect.Parameter.KEYWORD_ONLY and is_open:
            yield "*"
        is_open = is_open and one.kind not in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL)
        kind = "" if one.annotation is inspect.Parameter.empty else f": {one.annotation}"
        default = "" if one.default is inspect.Parameter.empty else f" = {one.default!r}"
        yield f"{stars.get(one.kind, '')}{one.name}{kind}{default}"


def _markdown(docstring: str) -> str:
    """Return a docstring in Google's form as Markdown, its sections as lists."""
    out: list[str] = []
    listed = False
    for line in docstring.splitlines():
        if SECTION.match(line):
            listed = True
            out.append(f"**{line.rstrip(':')}**\n")
        elif listed and (found := re.match(r"^    (\*{0,2}\w[\w, ]*|`[^`]+`): (.*)$", line)):
            out.append(f"- `{found[1].strip('`')}`: {found[2]}")
        elif listed and line.startswith("     "):
            out.append("  " + line.strip())
        else:
            out.append(line.strip() if listed else line)
    return "\n".join(out) + "\n"
