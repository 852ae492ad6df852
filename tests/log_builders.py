"""Builders of log rows and records for the training tests."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa

from turnout.serving.router.prompt import prompt_from_text
from turnout.training.logs.records import Record, Response


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def gateway_row(text: str = "Why is the sky blue?", **fields: Any) -> dict[str, Any]:
    return {"request": {"messages": [user(text)]}, **fields}


def flat_row(prompt: str = "Why is the sky blue?", **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, **fields}


def record(prompt: str = "Why?", strong: str | None = None, weak: str | None = None, **fields: Any) -> Record:
    """Return a record; `strong_score` and `weak_score` go into the responses."""
    scores = fields.pop("strong_score", None), fields.pop("weak_score", None)
    answers = [
        Response(text, score) if text is not None or score is not None else None
        for text, score in zip((strong, weak), scores, strict=True)
    ]
    fields = {"id": "r", "user_text": prompt} | fields
    return Record(prompt=prompt_from_text(prompt), strong=answers[0], weak=answers[1], **fields)


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write the content, compressed as the name says."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".bz2":
        path.write_bytes(bz2.compress(content))
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(content))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(content)
    else:
        path.write_bytes(content)
    return path


def write_log(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write_bytes(path, as_lines(rows))
