"""The real LiteLLM proxy with the plug-in's second look: answers are checked after the call, and escalated.

Its environment: `make test-litellm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from tests.checkers import with_second_look
from tests.gateways.litellm.running import DEADLINE_MS, QUIET, ROOT, free_ports, proxy_program, started, wait_for
from tests.running import server_in_loop
from tests.stub_upstream import SURE, UNSURE, Said, StubUpstream, stub_upstream
from turnout.serving.bundles.bundle import Bundle

pytestmark = [pytest.mark.bench, pytest.mark.timeout(500)]
WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
KEY = "sk-only-for-this-test"
ANSWERS = {
    "hello sure": Said(text="Paris.", logprob=SURE),
    "hello unsure": Said(text="Lyon?", logprob=UNSURE),
    "hello silent": Said(text="", logprob=SURE),
    "hello mute": Said(text="Paris.", logprob=None),
}


def said(model: str, text: str) -> Said:
    return ANSWERS[text] if model == WEAK else Said(text="Paris, I am certain.")


@contextlib.asynccontextmanager
async def proxied(bundle: Bundle, folder: Path) -> AsyncIterator[tuple[openai.AsyncOpenAI, StubUpstream]]:
    """Start upstream, Turnout and proxy; gives a client of the proxy and the upstream."""
    program, (port,) = proxy_program(), free_ports(1)
    with stub_upstream(said) as stub:
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": stub.url, "api_key": "sk-x"}}
            for name in (WEAK, STRONG, "auto")
        ]
        callbacks = {"callbacks": "turnout.serving.gateways.litellm.turnout"}
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({"model_list": models, "litellm_settings": callbacks}))
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        async with server_in_loop(with_second_look(bundle, t_strong=0.0)) as (_, address):
            asking = {"TURNOUT_SERVER": address, "TURNOUT_TIMEOUT_MS": str(10 * DEADLINE_MS), "TURNOUT_CHECK": "1"}
            path = {"PYTHONPATH": os.pathsep.join((str(ROOT / ".imports"), str(ROOT)))}
            theirs = os.environ | QUIET | asking | path | {"LITELLM_MASTER_KEY": KEY}
            log = folder / "proxy.log"
            with started(command, log, theirs) as process:
                await asyncio.to_thread(wait_for, f"http://127.0.0.1:{port}/health/liveliness", process, log)
                async with openai.AsyncOpenAI(
                    base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0, timeout=100
                ) as client:
                    yield client, stub


def test_answers_are_checked_after_the_call_and_escalated(bundle: Bundle, tmp_path: Path):
    async def run() -> dict[str, tuple[str, Any, list[str]]]:
        seen = {}
        async with proxied(bundle, tmp_path) as (client, stub):
            for text in ANSWERS:
                before = len(stub.models)
                asked = [{"role": "user", "content": text}]
                answer = await client.chat.completions.create(model="auto", messages=asked, temperature=0)
                choice = answer.choices[0]
                seen[text] = choice.message.content, choice.logprobs, stub.models[before:]
        return seen

    seen = asyncio.run(run())
    assert seen["hello sure"] == ("Paris.", None, [WEAK])
    for text in ("hello unsure", "hello silent", "hello mute"):
        assert seen[text] == ("Paris, I am certain.", None, [WEAK, STRONG])
