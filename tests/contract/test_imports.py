"""What serving and its client may not bring along, seen from a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRAINING_ONLY = {"training", "torch", "sklearn", "scipy", "daft", "pyarrow", "onnx", "matplotlib", "jinja2"}
INFERENCE_ONLY = {"onnxruntime", "numpy", "tokenizers"}


def modules_after(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["turnout.serving.server.running", "turnout.serving.cli.route"])
def test_serving_imports_nothing_of_training(module: str):
    assert modules_after(f"import {module}") & TRAINING_ONLY == set()


@pytest.mark.parametrize(
    "module",
    [
        "turnout.serving.client",
        "turnout.serving.gateways.openai",
        "turnout.serving.decision.rules",
        "turnout.serving.decision.costs",
        "turnout.serving.cli.app",
        "turnout.serving.server.supervisor",
    ],
)
def test_client_rules_and_supervisor_import_no_inference_library(module: str):
    assert modules_after(f"import {module}") & (TRAINING_ONLY | INFERENCE_ONLY) == set()


def test_envoys_own_messages_are_not_needed():
    assert "envoy" not in modules_after("import turnout.serving.protocols.ext_proc.processor")
