"""Makes Envoy's own messages importable, from a folder that `make envoy-messages` fills; skips where it is absent.

The package xds-protos brings old copies of OpenTelemetry's messages and of Google's, and overwrites or hides the newer
ones in the same environment: so it has a folder of its own, without them, which comes last on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / ".venv-envoy"

if not (FOLDER / "envoy").is_dir():
    pytest.skip("Envoy's messages are not installed; get them with: make envoy-messages", allow_module_level=True)
if str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))
