"""What LiteLLM's plug-in asks of the model that is tried and of the one above it, LiteLLM itself left out.

The real proxy has tests of its own (tests/gateways/litellm), in an environment of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from turnout.serving.wire.asking import Routed
from turnout.serving.wire.asking_check import Judged

PLUGIN = "turnout.serving.gateways.litellm"
BODY = {
    "model": "auto",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 50,
    "temperature": 0.2,
    "reasoning_effort": "high",
    "metadata": {"trace": "t"},
}
ANSWER = SimpleNamespace(choices=[], model_dump=dict)


@dataclass
class Proxy:
    """The plug-in, with a router that tries a rung and escalates to another, and what the proxy was asked after."""

    plugin: Any
    asked: list[dict[str, Any]] = field(default_factory=list)

    def sent(self, tried: dict[str, str], above: dict[str, str], **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the bodies that the tried rung and the one above it get."""

        async def route(**_: Any) -> Routed:
            return Routed(tier="weak", action="try", reason="MODEL", latency_ms=1.0, **tried)

        async def check(*_: Any, **__: Any) -> Judged:
            return Judged(verdict="escalate", reason="MODEL", latency_ms=1.0, **above)

        async def run() -> dict[str, Any]:
            self.plugin._router = SimpleNamespace(route=route, check=check)
            body = BODY | more
            data = {**body, "proxy_server_request": {"body": dict(body)}}
            first = await self.plugin.async_pre_call_hook(None, None, data, "acompletion")
            first = {name: value for name, value in first.items() if name != "proxy_server_request"}
            await self.plugin.async_post_call_success_hook(data, None, ANSWER)
            return first

        return asyncio.run(run()), self.asked[-1]


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    logger, server = ModuleType("litellm.integrations.custom_logger"), ModuleType("litellm.proxy.proxy_server")
    logger.CustomLogger = object
    for name in ("litellm", "litellm.integrations", "litellm.proxy"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for module in (logger, server):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    plugin = importlib.import_module(PLUGIN)
    made = Proxy(plugin.TurnoutPlugin(plugin.PluginSettings(checks=True)))

    async def acompletion(**call: Any) -> None:
        made.asked.append(call)

    server.llm_router = SimpleNamespace(acompletion=acompletion)
    yield made
    sys.modules.pop(PLUGIN)


def test_what_is_escalated_is_asked_for_as_the_caller_asked(proxy: Proxy):
    tried, above = proxy.sent({"model": "mini", "rung": "mini:low", "effort": "low"}, {"model": "gpt-4o"})
    assert (tried["model"], tried["reasoning_effort"], tried["max_completion_tokens"]) == ("mini", "low", 50)
    assert not tried.keys() & {"logprobs", "top_logprobs", "temperature", "max_tokens"}
    assert {name: above[name] for name in BODY} == BODY | {"model": "gpt-4o", "metadata": above["metadata"]}
    assert above["metadata"]["trace"] == "t"


def test_a_rung_that_reasons_above_gets_its_own_effort_and_the_callers_limit(proxy: Proxy):
    above = {"model": "o3", "rung": "o3:high", "effort": "high"}
    _, asked = proxy.sent({"model": "mini", "rung": "mini:low", "effort": "low"}, above, reasoning_effort="medium")
    assert (asked["reasoning_effort"], asked["max_completion_tokens"]) == ("high", 50)


@pytest.mark.parametrize("more", [{}, {"logprobs": None}])
def test_a_rung_that_does_not_reason_is_asked_for_logprobs(proxy: Proxy, more: dict[str, Any]):
    tried, above = proxy.sent({"model": "mini"}, {"model": "gpt-4o"}, **more)
    assert (tried["logprobs"], tried["top_logprobs"]) == (True, 2)
    assert (above.get("logprobs"), "top_logprobs" in above) == (None, False)
