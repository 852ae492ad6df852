"""The LiteLLM proxy, its upstream and Turnout, each a process of its own; config: docs/gateways/index.md."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = ROOT / ".venv-litellm-proxy"
PAGE = ROOT / "docs" / "gateways" / "index.md"
START_LIMIT_S = 200.0
TURNOUT_HTTP = "http://127.0.0.1:8080"
DEADLINE_MS = 1000
"""In place of the 100 ms of the page: on a machine that is busy otherwise, a decision may take longer than that."""
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_MODE": "PRODUCTION",  # reads no .env file
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
}


@dataclass(frozen=True)
class Proxy:
    """A proxy that answers: its OpenAI API, the key to it, and where its upstream writes."""

    url: str
    key: str
    folder: Path


def proxy_program() -> Path:
    program = ENVIRONMENT / "bin" / "litellm"
    if not program.exists():
        pytest.skip("the LiteLLM proxy has an environment of its own: make test-litellm")
    return program


def readme_config(http: str, upstream: str) -> dict[str, Any]:
    """Return both configurations of the page as one, with the test's addresses, deadline and place for logs."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    configs = [yaml.safe_load(block.replace(TURNOUT_HTTP, f"http://{http}")) for block in blocks]
    models = {entry["model_name"]: entry for config in configs for entry in config["model_list"]}
    for entry in models.values():
        if entry["litellm_params"]["model"].startswith("openai/"):
            entry["litellm_params"] |= {"api_base": f"{upstream}/v1", "api_key": "sk-local"}
    classifiers = [
        models[name]["litellm_params"]["complexity_router_config"] for name in ("routed", "routed-by-plugin")
    ]
    classifiers[0]["opensource_classifier_config"]["timeout_ms"] = DEADLINE_MS
    classifiers[1]["classifier_plugin_timeout_ms"] = 2 * DEADLINE_MS
    settings = configs[1]["litellm_settings"] | {"success_callback": ["generic_api"]}
    return {"model_list": list(models.values()), "litellm_settings": settings}


@contextlib.contextmanager
def running_proxy(folder: Path, grpc_address: str, http_address: str) -> Iterator[Proxy]:
    """Start upstream and proxy, wait until both answer, and kill them at the end."""
    program = proxy_program()
    upstream_port, port = free_ports(2)
    upstream = f"http://127.0.0.1:{upstream_port}"
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(readme_config(http_address, upstream)))
    ours = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / ".imports"), str(ROOT)))}
    asking = {"TURNOUT_SERVER": grpc_address, "TURNOUT_TIMEOUT_MS": str(DEADLINE_MS)}
    key = f"sk-{secrets.token_urlsafe(32)}"  # without one, or with one that is known, it does not start
    theirs = ours | QUIET | asking | {"GENERIC_LOGGER_ENDPOINT": f"{upstream}/logs", "LITELLM_MASTER_KEY": key}
    module = [sys.executable, "-m", "tests.gateways.litellm.upstream", str(upstream_port), str(folder)]
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with started(module, folder / "upstream.log", ours), started(command, folder / "proxy.log", theirs) as process:
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "proxy.log")
        yield Proxy(f"http://127.0.0.1:{port}/v1", key, folder)


@contextlib.contextmanager
def started(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=log.parent) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + START_LIMIT_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url, timeout=60):
            return
        time.sleep(0.1)
    raise AssertionError(f"no answer at {url}: {log.read_text()[-3000:]}")


def free_ports(n_ports: int) -> list[int]:
    return [free_port() for _ in range(n_ports)]
