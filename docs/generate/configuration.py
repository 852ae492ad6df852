"""The page of settings: option, environment and file key of each setting of the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any

from turnout.serving.cli.app import option_name
from turnout.serving.settings import ServerSettings, Sources

HEAD = """# Configuration

<!-- written by python -m docs.generate from serving/settings.py -->
A setting comes from, the strongest first: the option, the environment, the file of `--config`, the default.
`turnout COMMAND --print-config` prints every setting as such a file, and where it comes from.

```toml
# turnout.toml: turnout serve --config turnout.toml
[serve]
listen = "127.0.0.1:50151"
max_queue_items = 128

[train]
seed = 7
```

For `serve` the variable is `TURNOUT_` and the setting (`TURNOUT_LISTEN`); for other commands the command stands between
(`TURNOUT_TRAIN_SEED`, `TURNOUT_ROUTE_POLICY`). What each setting means stands in [commands](commands.md#turnout-serve); their
own variables have the [LiteLLM plug-in](../gateways/index.md#litellm-proxy-with-the-plug-in) and
[OpenTelemetry](../operate/observe.md#traces). Beside these: `TURNOUT_MODELS` is the folder of the registry, `TURNOUT_CACHE` that of cached
vectors.

## Settings of the server

| option of `turnout serve` | environment | key in `[serve]` | default |
| --- | --- | --- | --- |
"""


def configuration_page() -> str:
    """Return the page."""
    return HEAD + "".join(f"{row}\n" for settings in (Sources(), ServerSettings()) for row in _rows(settings))


def _rows(settings: Any) -> Iterator[str]:
    for field in dataclasses.fields(settings):
        option = option_name(field.name)
        key = option.replace("-", "_")
        default = _written(getattr(settings, field.name))
        yield f"| `--{option}` | `TURNOUT_{key.upper()}` | `{key}` | {default} |"


def _written(value: Any) -> str:
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, Enum):
        value = value.value
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
