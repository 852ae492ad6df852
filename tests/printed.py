"""What a page prints as commands, run as printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port
from tests.stub_upstream import SURE, Said, stub_upstream

PORTS = ("127.0.0.1:50151", "127.0.0.1:8080")
UPSTREAM = "https://api.openai.com/v1"
LIMIT_S = 900
"""The blocks fit a learning curve and a router; others may be at work on the cores."""


UNTIL_SERVING = """python - <<'PYTHON'
import time, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from turnout.serving.wire.route import SERVICE_NAME
check = health_pb2_grpc.HealthStub(grpc.insecure_channel("127.0.0.1:50151")).Check
asked = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
while check(asked, timeout=180, wait_for_ready=True).status != health_pb2.HealthCheckResponse.SERVING:
    time.sleep(0.1)
PYTHON
"""


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    return re.findall(rf"^```({'|'.join(languages)})\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def environment(cache: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    own = {
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "TURNOUT_CACHE": str(cache),
        "OPENAI_API_KEY": "none",
    }
    return os.environ | own


def script_of(page: str, upstream: str) -> str:
    """Return the page's shell and Python blocks as one script: later ones use what earlier ones wrote."""
    steps = [
        body if language == "sh" else f"python - <<'PYTHON'\n{body}PYTHON\n"
        for language, body in blocks(page, "sh", "python")
        if not body.startswith("make ")
    ]
    script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *steps])
    script = script.replace(UPSTREAM, upstream)
    script = script.replace("sleep 5\n", UNTIL_SERVING)  # other tests run beside: five seconds may be too few
    for address in PORTS:
        script = script.replace(address, f"127.0.0.1:{free_port()}")
    return script


def run(page: str, tmp_path: Path, cache: Path) -> tuple[str, str, list[str]]:
    """Run a page's blocks in an empty folder; return the script, what it printed, and what was asked upstream.

    Pages train on the same log: `cache` is where its vectors are kept.
    """
    with stub_upstream(lambda _model, _text: Said(text="571", logprob=SURE)) as stub:
        script = script_of(page, stub.url)
        where = {"cwd": tmp_path, "env": environment(cache)}
        done = subprocess.run(["bash", "-c", script], **where, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert not re.search(r'fallback(?!_reason"?: ?(null|None))', done.stdout, re.IGNORECASE)
        return script, done.stdout, list(stub.models)
