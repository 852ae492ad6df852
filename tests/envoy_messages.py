"""Envoy's own messages, from `xds-protos` in a folder of its own.

That package holds an old copy of OpenTelemetry's messages too, and would put it over the newer one in a shared
environment; `make` takes it out of the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / ".venv-envoy"


def envoys(module: str) -> Any:
    """Return a module of Envoy's; skips whoever asks where the folder is absent."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return pytest.importorskip(f"envoy.{module}", reason="needs `make .venv-envoy/.ready`")


base_pb2 = envoys("config.core.v3.base_pb2")
ProcessingMode = envoys("extensions.filters.http.ext_proc.v3.processing_mode_pb2").ProcessingMode
ext = envoys("service.ext_proc.v3.external_processor_pb2")
