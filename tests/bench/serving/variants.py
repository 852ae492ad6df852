"""What is compared: the parts of ours, ours, and the peers; how each is started and spoken to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""Where everything is started, and where the environments lie."""

HERE = "tests/bench/serving"
PACKAGE = "tests.bench.serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of the table.

    Attributes:
        name: short, for the command line and the JSON.
        what: for people.
        command: arguments after `python`; `{port}` is a free port.
        protocol: one of `PROTOCOLS`; None for a decider in process, whose command is a module with its options.
        peer: whose environment runs it, `.venv-bench-<peer>` of the checkout; None for this one.
        environ: variables; `{upstream}` is the base URL of the stub upstream.
    """

    name: str
    what: str
    command: tuple[str, ...]
    protocol: str | None = None
    peer: str | None = None
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> Path | None:
        """The folder of its environment."""
        return None if self.peer is None else ROOT / f".venv-bench-{self.peer}"

    @property
    def is_there(self) -> bool:
        """Whether its environment was made, to the end."""
        return self.environment is None or (self.environment / ".ready").exists()

    @property
    def python(self) -> str:
        """The interpreter that runs it."""
        return sys.executable if self.environment is None else str(self.environment / "bin" / "python")


_SERVE = (
    "-m",
    "turnout.serving.cli.app",
    "serve",
    "--listen",
    "127.0.0.1:{port}",
    "--cache-items",
    "0",
    "--lame-duck-s",
    "0",
)
_OPENAI = {"OPENAI_API_KEY": "sk-local", "OPENAI_BASE_URL": "{upstream}", "UPSTREAM": "{upstream}"}
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""As ours. Two torch threads wait for each other: 13 instead of 18 ms at 8 tokens alone, 50 to 500 when it is busy."""
_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "DISABLE_ADMIN_UI": "True"}

ECHO = Variant(name="echo", what="bare gRPC echo", command=("-m", f"{PACKAGE}.echo", "{port}"), protocol="turnout")
IN_PROCESS = Variant(name="in-process", what="the graph in process", command=(f"{PACKAGE}.ours",))
IN_PROCESS_FULL = Variant(
    name="in-process-full", what="the graph in process, no early exit", command=(f"{PACKAGE}.ours", "full")
)
OURS = Variant(name="ours", what="Turnout as shipped, cache off", command=_SERVE, protocol="turnout")
OURS_FULL = Variant(
    name="ours-full",
    what="Turnout, no early exit, cache off",
    command=(*_SERVE, "--no-early-exit"),
    protocol="turnout",
)
FASTAPI = Variant(
    name="fastapi",
    what="FastAPI + sentence-transformers + scikit-learn",
    command=("-m", f"{PACKAGE}.fastapi.server", "{port}", ".venv-bench-fastapi/trained/head.joblib"),
    protocol="json",
    peer="fastapi",
    environ=_ONE_THREAD,
)
_MLSERVER = (".venv-bench-mlserver/bin/mlserver", "start", f"{HERE}/mlserver")  # its workers import the script again
_MLSERVER_ENVIRON = {
    "MLSERVER_HOST": "127.0.0.1",
    "MLSERVER_GRPC_PORT": "{port}",
    "MLSERVER_HTTP_PORT": "{port_2}",
    "MLSERVER_METRICS_PORT": "{port_3}",
    "MLSERVER_DEBUG": "false",
    "MLSERVER_METRICS_DIR": ".venv-bench-mlserver",
}
MLSERVER = Variant(
    name="mlserver",
    what="the same graph in MLServer, gRPC, as it comes (one worker process)",
    command=_MLSERVER,
    protocol="v2",
    peer="mlserver",
    environ=_MLSERVER_ENVIRON,
)
MLSERVER_INLINE = Variant(
    name="mlserver-inline",
    what="the same, parallel_workers = 0",
    command=_MLSERVER,
    protocol="v2",
    peer="mlserver",
    environ=_MLSERVER_ENVIRON | {"MLSERVER_PARALLEL_WORKERS": "0"},
)
ROUTELLM = Variant(
    name="routellm",
    what="RouteLLM's server, MF re-trained, stub upstream",
    command=(
        *("-m", "routellm.openai_server", "--routers", "mf", "--config", f"{HERE}/routellm/config.yaml"),
        *("--port", "{port}", "--base-url", "{upstream}", "--api-key", "sk-local"),
        *("--strong-model", "openai/gpt-4o", "--weak-model", "openai/gpt-4o-mini"),
    ),
    protocol="routellm",
    peer="routellm",
    environ=_OPENAI | _QUIET | _ONE_THREAD,
)
LITELLM = Variant(
    name="litellm",
    what="LiteLLM's complexity heuristics in process",
    command=(f"{PACKAGE}.litellm.heuristic",),
    peer="litellm",
    environ=_QUIET,
)
LITELLM_PROXY = Variant(
    name="litellm-proxy",
    what="LiteLLM's proxy with them, stub upstream",
    command=(
        *("-c", "from litellm import run_server; run_server()"),
        *("--config", f"{HERE}/litellm/config.yaml", "--host", "127.0.0.1", "--port", "{port}"),
    ),
    protocol="litellm",
    peer="litellm",
    environ=_OPENAI | _QUIET | {"LITELLM_MASTER_KEY": "sk-local", "NO_DOCS": "True"},
)
VARIANTS = (
    *(ECHO, IN_PROCESS, OURS, IN_PROCESS_FULL, OURS_FULL),
    *(MLSERVER, MLSERVER_INLINE, FASTAPI, ROUTELLM, LITELLM, LITELLM_PROXY),
)
"""In the order of the table; neighbours take their turns next to each other."""
