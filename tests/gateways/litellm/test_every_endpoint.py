"""The real LiteLLM proxy: `auto` is routed on every endpoint that carries a conversation, in each way to write one.

Its environment: `make test-litellm`. The upstream says which model it was asked for, so that an answer tells its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gateways.litellm.run import refusing_options
from tests.gateways.litellm.running import DEADLINE_MS, QUIET, ROOT, free_ports, proxy_program, wait_for
from tests.gateways.litellm.running import started as started_program
from tests.running import ServerProcess, serve_command, started
from tests.stub_upstream import Said, stub_upstream
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.client import Router
from turnout.training.sample.sample import make_sample

pytestmark = [pytest.mark.bench, pytest.mark.timeout(500)]
WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
KEY = "sk-only-for-this-test"
RULES = """
out_of_distribution = "model"
[[rules]]
name = "about half"
threshold = 0.83
"""
N_TEXTS = 12
Body = dict[str, Any]


def parts(text: str) -> list[Body]:
    return [{"type": "text", "text": text}]


WAYS: dict[str, tuple[str, Callable[[str], Body]]] = {
    "chat": ("/v1/chat/completions", lambda text: {"messages": [{"role": "user", "content": text}]}),
    "chat, parts": ("/chat/completions", lambda text: {"messages": [{"role": "user", "content": parts(text)}]}),
    "responses": ("/v1/responses", lambda text: {"input": text}),
    "responses, items": (
        "/v1/responses",
        lambda text: {"instructions": "Be brief.", "input": [{"role": "user", "content": text}]},
    ),
    "messages": ("/v1/messages", lambda text: {"max_tokens": 50, "messages": [{"role": "user", "content": text}]}),
    "messages, system": (
        "/v1/messages",
        lambda text: {
            "max_tokens": 50,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": parts(text)}],
        },
    ),
    "completions": ("/v1/completions", lambda text: {"prompt": text}),
    "completions, a list": ("/v1/completions", lambda text: {"prompt": [text]}),
    "gemini": (
        "/v1beta/models/{model}:generateContent",
        lambda text: {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    ),
    "interactions": ("/v1beta/interactions", lambda text: {"input": text}),
    "azure": (
        "/openai/deployments/{model}/chat/completions",
        lambda text: {"messages": [{"role": "user", "content": text}]},
    ),
}
AT_THE_END_OF_THE_PATH = {"gemini": ("generateContent", "streamGenerateContent?alt=sse")}


@dataclass
class Running:
    """Turnout and the proxy, and what ends them."""

    turnout: ServerProcess
    stack: contextlib.ExitStack
    address: str
    url: str
    folder: Path

    def ask(self, way: str, text: str, *, stream: bool, model: str = "auto") -> str:
        """Return the whole answer, put together where it streams."""
        path, body = WAYS[way]
        asked = body(text) | ({"stream": True} if stream else {})
        if "{model}" not in path:
            asked |= {"model": model}
        if stream and way in AT_THE_END_OF_THE_PATH:
            path = path.replace(*AT_THE_END_OF_THE_PATH[way])
        return self.post(path.format(model=model), asked)

    def post(self, path: str, body: Body) -> str:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            said = reply.read().decode()
        if not body.get("stream"):
            return text_in(json.loads(said))
        events = [line.removeprefix("data:").strip() for line in said.splitlines() if line.startswith("data:")]
        return "".join(delta_in(json.loads(event)) for event in events if event != "[DONE]").strip()

    def expected(self, way: str, texts: list[str]) -> list[str]:
        """Return the models that Route names for the same bodies."""
        with Router(self.address, timeout_s=60) as router:
            routed = [router.route(openai_body=json.dumps(WAYS[way][1](text)).encode()) for text in texts]
            assert not router.fallbacks
        return [one.model for one in routed]


def text_in(reply: Body) -> str:
    if "choices" in reply:
        choice = reply["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])
    if "candidates" in reply:
        return gemini_text(reply)
    if "outputs" in reply:
        return str(reply["outputs"][-1]["text"])
    blocks = reply["content"] if "content" in reply else reply["output"][0]["content"]
    return str(blocks[0]["text"])


def gemini_text(reply: Body) -> str:
    parts = reply["candidates"][0].get("content", {}).get("parts", []) if reply.get("candidates") else []
    return "".join(part.get("text", "") for part in parts)


def delta_in(event: Body) -> str:
    if "candidates" in event:
        return gemini_text(event)
    if event.get("choices"):
        choice = event["choices"][0]
        return str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    if event.get("type") == "content_block_delta" or event.get("event_type") == "step.delta":
        return str(event["delta"].get("text", ""))
    return ""


@contextlib.contextmanager
def serving(folder: Path, address: str, *options: object) -> Iterator[ServerProcess]:
    (folder / "rules.toml").write_text(RULES)
    command = serve_command(find_bundle(None), address, "--rules", folder / "rules.toml", *options)
    with started(command, folder / "turnout.log") as server:
        yield server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    program, folder = proxy_program(), tmp_path_factory.mktemp("endpoints")
    port, grpc_port = free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(stub_upstream(lambda model, _: Said(text=f"from {model}")))
        turnout = stack.enter_context(serving(folder, address))
        upstream = {"api_base": stub.url, "api_key": "sk-x"}
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **upstream}} for name in (WEAK, STRONG)
        ]
        callbacks = {"callbacks": "turnout.serving.gateways.litellm.turnout"}
        (folder / "config.yaml").write_text(yaml.safe_dump({"model_list": models, "litellm_settings": callbacks}))
        command = [str(program), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
        theirs = os.environ | QUIET | {"TURNOUT_SERVER": address, "TURNOUT_TIMEOUT_MS": str(DEADLINE_MS)}
        theirs |= {"PYTHONPATH": os.pathsep.join((str(ROOT / ".imports"), str(ROOT))), "LITELLM_MASTER_KEY": KEY}
        log = folder / "proxy.log"
        process = stack.enter_context(started_program(command, log, theirs))
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, log)
        yield Running(turnout, stack, address, f"http://127.0.0.1:{port}", folder)


@pytest.fixture(scope="module")
def texts(running: Running) -> list[str]:
    """Return questions of which half go either way, as a chat without more."""
    rows = [row["request"]["messages"] for row in make_sample(40 * N_TEXTS, seed=12)]
    found = [messages[0]["content"] for messages in rows if len(messages) == 1]
    models = running.expected("chat", found)
    return [
        text
        for model in (WEAK, STRONG)
        for text, of in [pair for pair in zip(found, models, strict=True) if pair[1] == model][: N_TEXTS // 2]
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_auto_is_answered_by_the_model_that_route_names(running: Running, texts: list[str], way: str, stream: bool):
    expected = running.expected(way, texts)
    assert min(Counter(expected)[model] for model in (WEAK, STRONG)) >= 2, expected
    assert [running.ask(way, text, stream=stream) for text in texts] == [f"from {model}" for model in expected]


@pytest.mark.parametrize("way", WAYS)
def test_policy_by_name_holds_on_every_endpoint(running: Running, texts: list[str], way: str):
    for threshold, model in ((0, WEAK), (1, STRONG)):
        assert running.ask(way, texts[0], stream=False, model=f"turnout-threshold={threshold}") == f"from {model}"
    assert running.ask(way, texts[0], stream=False, model="turnout-no-such-policy") == f"from {STRONG}"


def test_failures_of_turnout_lead_to_strong_on_every_endpoint(running: Running, texts: list[str]):
    """Turnout hangs, then is gone, then is there and lets nobody in; at the end it is back as before."""

    def all_strong() -> None:
        for way in WAYS:
            for stream in (False, True):
                began_s = time.monotonic()
                assert running.ask(way, texts[0], stream=stream, model="turnout-threshold=0") == f"from {STRONG}"
                assert time.monotonic() - began_s < 10 + DEADLINE_MS / 1e3

    try:
        running.turnout.process.send_signal(signal.SIGSTOP)
        all_strong()
        running.turnout.process.kill()
        running.turnout.wait()
        all_strong()
        with serving(running.folder, running.address, *refusing_options(running.folder)):
            time.sleep(2)  # past the wait of a client that was refused a connection
            all_strong()
    finally:
        running.turnout.process.kill()
        running.turnout.wait()
        running.turnout = running.stack.enter_context(serving(running.folder, running.address))
    give_up_at = time.monotonic() + 60
    while running.ask("chat", texts[0], stream=False, model="turnout-threshold=0") != f"from {WEAK}":
        assert time.monotonic() < give_up_at
        time.sleep(0.5)
