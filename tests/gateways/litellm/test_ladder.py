"""The real LiteLLM proxy with a ladder: a rung between answers, at once or after a check; where it fails, the top does.

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

from tests.builders import LADDER_NAMES
from tests.checkers import with_second_look
from tests.gateways.litellm.running import DEADLINE_MS, QUIET, ROOT, free_ports, proxy_program, started, wait_for
from tests.gateways.litellm.test_second_look import KEY, wait_for_outcomes
from tests.running import server_in_loop
from tests.stub_upstream import UNSURE, Said, StubUpstream, stub_upstream
from tests.training.spools import compacted
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.spool.decision import LogDecisions
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.savings import savings

pytestmark = [pytest.mark.bench, pytest.mark.timeout(500)]
MINI, FULL, TOP = LADDER_NAMES
MODELS = ("gpt-4o-mini", "gpt-4o", "o3")
SHORT, MIDDLE, LONG = "hello", "word " * 20, "word " * 400
BROKEN = "word " * 21
"""One word more than `MIDDLE`: the rung between fails on it."""


def said(model: str, text: str) -> Said:
    if model == "gpt-4o" and text == BROKEN:
        return Said(status=500)
    return Said(text=f"{model} says so.", logprob=UNSURE)


@contextlib.asynccontextmanager
async def proxied(bundle: Bundle, folder: Path) -> AsyncIterator[tuple[Any, openai.AsyncOpenAI, StubUpstream]]:
    """Start upstream, Turnout and proxy; gives what stops Turnout, a client of the proxy, and the upstream."""
    program, (port,) = proxy_program(), free_ports(1)
    with stub_upstream(said) as stub:
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": stub.url, "api_key": "sk-x"}}
            for name in (*MODELS, "auto")
        ]
        models[2]["litellm_params"]["reasoning_effort"] = "high"  # for what falls back to it
        config = folder / "config.yaml"
        router = {"fallbacks": [{"gpt-4o": ["o3"]}], "num_retries": 0}
        callbacks = {"callbacks": "turnout.serving.gateways.litellm.turnout", "drop_params": True}
        config.write_text(
            yaml.safe_dump({"model_list": models, "litellm_settings": callbacks, "router_settings": router})
        )
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        kept = {"spool": folder / "spool", "log_decisions": LogDecisions.DIGEST}
        async with contextlib.AsyncExitStack() as turnout:
            _, address = await turnout.enter_async_context(server_in_loop(bundle, **kept))
            asking = {"TURNOUT_SERVER": address, "TURNOUT_TIMEOUT_MS": str(10 * DEADLINE_MS), "TURNOUT_CHECK": "1"}
            asking |= {"TURNOUT_REPORT": "1", "TURNOUT_STRONG_MODEL": TOP}
            path = {"PYTHONPATH": os.pathsep.join((str(ROOT / ".imports"), str(ROOT)))}
            theirs = os.environ | QUIET | asking | path | {"LITELLM_MASTER_KEY": KEY}
            log = folder / "proxy.log"
            with started(command, log, theirs) as process:
                await asyncio.to_thread(wait_for, f"http://127.0.0.1:{port}/health/liveliness", process, log)
                async with openai.AsyncOpenAI(
                    base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0, timeout=100
                ) as client:
                    yield turnout.aclose, client, stub


async def streamed(client: openai.AsyncOpenAI, text: str) -> str:
    """Return an answer that nobody can check: one look decides."""
    asked: Any = [{"role": "user", "content": text}]
    stream = await client.chat.completions.create(
        model="auto", messages=asked, stream=True, temperature=0.5, max_tokens=7, stream_options={"include_usage": True}
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def whole(client: openai.AsyncOpenAI, text: str) -> str:
    """Return an answer that was checked where the weak model gave it."""
    asked: Any = [{"role": "user", "content": text}]
    answer = await client.chat.completions.create(model="auto", messages=asked)
    return str(answer.choices[0].message.content)


def test_a_rung_between_answers_and_where_it_fails_the_top_does(ladder_bundle_folder: Path, tmp_path: Path):
    bundle = with_second_look(load_bundle(ladder_bundle_folder), t_strong=0.0, t_rungs=(0.8,))
    seen: dict[str, tuple[str, list[dict[str, Any]]]] = {}

    async def run() -> None:
        async with proxied(bundle, tmp_path) as (stop, client, stub):

            async def ask(name: str, way: Any, text: str) -> None:
                before = len(stub.bodies)
                seen[name] = await way(client, text), stub.bodies[before:]

            await ask("first", streamed, SHORT)
            await ask("between", streamed, MIDDLE)
            await ask("top", streamed, LONG)
            await ask("escalated", whole, MIDDLE)
            await ask("fallen back", streamed, BROKEN)
            await asyncio.to_thread(wait_for_outcomes, tmp_path / "spool", 6)
            await stop()
            await ask("without turnout", streamed, SHORT)

    asyncio.run(run())
    models = {name: [body["model"] for body in bodies] for name, (_, bodies) in seen.items()}
    assert models == {
        "first": [MINI],
        "between": [FULL],
        "top": ["o3"],
        "escalated": [MINI, FULL],
        "fallen back": [FULL, "o3"],
        "without turnout": ["o3"],
    }
    for name, (answer, bodies) in seen.items():
        assert answer.split() == f"{bodies[-1]['model']} says so.".split(), name
    for name in ("top", "without turnout"):
        (body,) = seen[name][1]
        assert body["reasoning_effort"] == "high"
        assert "temperature" not in body
        assert (body.get("max_tokens"), body["max_completion_tokens"]) == (None, 7)
    fallen_back = seen["fallen back"][1][-1]
    assert (fallen_back["reasoning_effort"], "temperature" in fallen_back) == ("high", False)
    for name in ("first", "between"):
        (body,) = seen[name][1]
        assert (body["temperature"], body["max_tokens"], body.get("reasoning_effort")) == (0.5, 7, None)
    compacted(tmp_path / "spool", tmp_path / "logs")
    found = savings(read_decisions(tmp_path / "logs"), Machine(0.0, 0.0))
    assert (found.requests, found.tried, found.escalated) == (5, 1, 1)
    assert found.share_rungs == {MINI: 0.2, FULL: 0.6, TOP: 0.2}  # as routed and escalated
