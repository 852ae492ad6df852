"""`--print-config`: each setting of a command as TOML, and where it comes from.

Comes in: the command line with its sources, and the words typed. Goes out: a table that `--config` would read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from cyclopts import App
from cyclopts.config import Env

from turnout.serving.cli.options import OPTION_NAMES


def print_config(app: App, command: str, words: Sequence[str]) -> None:
    """Print the settings that a command would run with.

    A setting's source is the weakest of default, file, environment and flag with which it has its value.
    """
    sources = tuple(app.config)
    file = [source for source in sources if not isinstance(source, Env)]
    steps = {"flag": (), "environment": (sources[0],), "file": tuple(file)}
    found = {name: dict(_settings(app, words, step)) for name, step in steps.items()}
    final = dict(_settings(app, words, sources))
    print(f"[{command}]")
    for name, (value, default) in final.items():
        came = next((step for step, seen in found.items() if value != default and seen[name][0] == value), "default")
        written = _toml(value)
        print(f"{name} = {written}  # {came}" if written else f"# {name} is not set  # {came}")


def _settings(app: App, words: Sequence[str], sources: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield each setting's name, its value under these sources, and its default."""
    before, app.config = app.config, sources
    try:
        _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    finally:
        app.config = before
    for name, parameter in bound.signature.parameters.items():
        default = parameter.default
        value = bound.arguments.get(name, default)
        if dataclasses.is_dataclass(default):
            yield from _fields(value, default)
        elif parameter.kind is not parameter.POSITIONAL_ONLY:
            yield _name(name), (value, default)


def _fields(value: Any, default: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for field in dataclasses.fields(default):
        yield _name(field.name), (getattr(value, field.name), getattr(default, field.name))


def _name(field: str) -> str:
    return OPTION_NAMES.get(field, field)


def _toml(value: Any) -> str:
    """Return a value as TOML writes it; empty for what is not set."""
    if value is None:
        return ""
    if isinstance(value, (Path, Enum)):
        return json.dumps(str(value))
    if isinstance(value, Mapping):
        return json.dumps({str(key): str(one) for key, one in value.items()})
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
