"""The plug-in's hook on each endpoint of LiteLLM's proxy that carries a conversation, and on one that does not.

LiteLLM itself is not installed beside Turnout: of its base class, which brings nothing to this hook, an empty one is
enough. `tests/gateways/litellm` runs the real proxy.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle

TEXT = "hello"
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("acompletion", {"messages": [{"role": "user", "content": TEXT}]}),
    "/v1/responses": ("aresponses", {"input": TEXT}),
    "/v1/responses, items": ("responses", {"input": [{"role": "user", "content": TEXT}]}),
    "/v1/completions": ("atext_completion", {"prompt": TEXT}),
    "/v1/messages": ("anthropic_messages", {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 9}),
}
NO_CONVERSATION = {
    "/v1/embeddings": ("aembedding", {"input": TEXT}),
    "/v1/images": ("aimage_generation", {"prompt": TEXT}),
}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    if importlib.util.find_spec("litellm") is None:
        base = types.ModuleType("litellm.integrations.custom_logger")
        base.CustomLogger = type("CustomLogger", (), {})
        for name in ("litellm", "litellm.integrations"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, base.__name__, base)
    monkeypatch.delitem(sys.modules, "turnout.serving.gateways.litellm", raising=False)
    yield importlib.import_module("turnout.serving.gateways.litellm")
    sys.modules.pop("turnout.serving.gateways.litellm", None)


def model_for(plugin: types.ModuleType, bundle: Bundle, call_type: str, body: dict[str, Any]) -> tuple[str, int]:
    """Return the model that the proxy is told to call, and how many requests fell back."""

    async def check() -> tuple[str, int]:
        async with server_in_loop(bundle) as (_, address):
            hook = plugin.TurnoutPlugin(plugin.PluginSettings(server=address, timeout_s=60))
            data = await hook.async_pre_call_hook(None, None, {"model": "auto", **body}, call_type)
            fell_back = hook.router.fallbacks.total()
            await hook.router.close()
            return data["model"], fell_back

    return asyncio.run(check())


@pytest.mark.parametrize(("call_type", "body"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_auto_is_routed_on_every_endpoint_with_a_conversation(
    plugin: types.ModuleType, bundle: Bundle, call_type: str, body: dict[str, Any]
):
    assert model_for(plugin, bundle, call_type, body) == (bundle.manifest.pair.weak, 0)


@pytest.mark.parametrize(("call_type", "body"), NO_CONVERSATION.values(), ids=NO_CONVERSATION)
def test_auto_without_a_conversation_is_the_strong_model(
    plugin: types.ModuleType, bundle: Bundle, call_type: str, body: dict[str, Any]
):
    assert model_for(plugin, bundle, call_type, body)[0] == bundle.manifest.pair.strong
