"""Adds the processor to a server that is to have it, or says what is missing."""

from __future__ import annotations

from typing import Any

from serving.gateways.ext_proc.mode import ExtProc
from serving.observe.tracing import Tracing
from serving.server.config import ServerSettings, SettingsRefused
from serving.server.service import RouterService


def add_ext_proc(server: Any, service: RouterService, settings: ServerSettings, tracing: Tracing | None) -> list[str]:
    """Add `ExternalProcessor` to a gRPC server where the settings ask for it; return the names of services added.

    Raises:
        SettingsRefused: the extra `envoy` is not installed.
    """
    if settings.ext_proc is ExtProc.OFF:
        return []
    try:
        from serving.gateways.ext_proc.processor import SERVICE_NAME, Processor  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "envoy":
            raise
        raise SettingsRefused("ext_proc: needs Envoy's messages; get them with: pip install 'turnout[envoy]'") from None
    server.add_generic_rpc_handlers((Processor(service, settings, tracing).handlers(),))
    return [SERVICE_NAME]
