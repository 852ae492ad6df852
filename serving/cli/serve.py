"""`turnout serve`: every option is a field of the settings that the server runs by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from turnout.serving.bundles.registry import locate
from turnout.serving.cli.options import NotNegative
from turnout.serving.observe.logs import LogFormat
from turnout.serving.observe.settings import observe_settings
from turnout.serving.server.launching import serve as serve_bundles
from turnout.serving.server.launching import usable_cores
from turnout.serving.settings import ServerSettings, Sources, unix_path

DEFAULTS = ServerSettings()
CHAMPION = Sources()


def serve(
    *,
    sources: Annotated[Sources, Parameter(name="*", group="Bundles")] = CHAMPION,
    settings: Annotated[ServerSettings, Parameter(name="*", group="Server")] = DEFAULTS,
    workers: NotNegative | None = None,
    metrics: str | None = None,
    log_format: LogFormat = LogFormat.TEXT,
    traces: bool | None = None,
) -> int:
    """Serve routing decisions over gRPC until SIGTERM; SIGHUP reloads.

    Prints one line when ready. Whatever error a caller gets, it uses the strong model.

    Args:
        workers: Processes on the port, each with the whole model, replaced when they die or hang. Without it: one for
            each core. 0 serves from the one process, which nobody replaces.
        metrics: HOST:PORT for Prometheus, off for none. Without it: 127.0.0.1:9464, or none where that is taken.
        log_format: Log on stderr for people or as JSON lines.
        traces: Send a span for each call over OTLP; without it as the OTEL_ variables say.
    """
    located = dataclasses.replace(
        sources,
        bundles=tuple(map(locate, sources.bundles)) or (locate(),),
        canary=_located(sources.canary),
        shadow=_located(sources.shadow),
    )
    observe = observe_settings(metrics, log_format, traces)
    n_default = usable_cores() if unix_path(settings.listen) is None else 1
    return serve_bundles(located, settings, observe, n_default if workers is None else workers)


def _located(challenger: Path | None) -> Path | None:
    return None if challenger is None else locate(challenger)
