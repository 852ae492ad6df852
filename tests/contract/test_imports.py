"""What serving and its client may not bring along, seen from a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRAINING_ONLY = {"turnout.training", "torch", "sklearn", "scipy", "daft", "pyarrow", "onnx", "matplotlib", "jinja2"}
INFERENCE_ONLY = {"onnxruntime", "numpy", "tokenizers"}


def modules_after(statement: str) -> set[str]:
    """Return the packages that a fresh interpreter holds after `statement`: top-level ones, and the two of ours."""
    ours = "{'.'.join(name.split('.')[:2]) for name in sys.modules if name.startswith('turnout.')}"
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}} | {ours}))"
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


def test_turnout_exports_what_callers_need_and_loads_it_late():
    import turnout

    assert turnout.__all__ == ["AsyncRouter", "Routed", "Router", "__version__"]
    assert all(getattr(turnout, name) is not None for name in turnout.__all__)
    assert modules_after("import turnout") & {"grpc", "numpy", "turnout.serving"} == set()


def test_users_own_folders_named_as_ours_do_no_harm(tmp_path):
    for name in ("serving", "training", "models", "proto"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    code = "import turnout, turnout.serving.cli.app, turnout.training.errors; print(turnout.Router.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Router\n"), done.stderr
