"""Adds the processor to a server that is to have it."""

from __future__ import annotations

from typing import Any

from turnout.serving.observe.tracing import Tracing
from turnout.serving.protocols.ext_proc.processor import SERVICE_NAME, Processor
from turnout.serving.service.service import RouterService
from turnout.serving.settings import ExtProc, ServerSettings


def add_ext_proc(server: Any, service: RouterService, settings: ServerSettings, tracing: Tracing | None) -> list[str]:
    """Add `ExternalProcessor` to a gRPC server where the settings ask for it; return the names of services added."""
    if settings.ext_proc is ExtProc.OFF:
        return []
    server.add_generic_rpc_handlers((Processor(service, settings, tracing).handlers(),))
    return [SERVICE_NAME]
