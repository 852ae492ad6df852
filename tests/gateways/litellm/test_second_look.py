"""The real LiteLLM proxy with the plug-in's second look: answers are checked after the call, and escalated.

Its environment: `make test-litellm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from tests.checkers import with_second_look
from tests.gateways.litellm.running import DEADLINE_MS, QUIET, ROOT, free_ports, proxy_program, started, wait_for
from tests.running import server_in_loop
from tests.stub_upstream import PROMPT_TOKENS, SURE, UNSURE, Said, StubUpstream, stub_upstream
from tests.training.spools import compacted
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.decision.prices import cost_usd
from turnout.serving.spool.decision import LogDecisions
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.reader import SpoolRecord, read_spool
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.savings import savings

pytestmark = [pytest.mark.bench, pytest.mark.timeout(500)]
WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
KEY = "sk-only-for-this-test"
ANSWERS = {
    "hello sure": Said(text="Paris.", logprob=SURE),
    "hello unsure": Said(text="Lyon?", logprob=UNSURE),
    "hello silent": Said(text="", logprob=SURE),
    "hello mute": Said(text="Paris.", logprob=None),
}


def wait_for_outcomes(spool: Path, n: int) -> None:
    """Wait until so many outcomes are on the disk: LiteLLM logs calls after they were answered."""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        kinds = [one.kind for one in read_spool(spool) if isinstance(one, SpoolRecord)]
        if kinds.count(RecordKind.OUTCOME) >= n:
            return
        time.sleep(0.1)
    raise AssertionError(f"{kinds.count(RecordKind.OUTCOME)} outcomes of {n}")


def said(model: str, text: str) -> Said:
    return ANSWERS[text] if model == WEAK else Said(text="Paris, I am certain.")


def billed_usd(model: str, completion_tokens: int) -> float:
    return cost_usd(model, PROMPT_TOKENS, completion_tokens, 4)


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
        kept = {"spool": folder / "spool", "log_decisions": LogDecisions.DIGEST}
        async with server_in_loop(with_second_look(bundle, t_strong=0.0), **kept) as (_, address):
            asking = {"TURNOUT_SERVER": address, "TURNOUT_TIMEOUT_MS": str(10 * DEADLINE_MS), "TURNOUT_CHECK": "1"}
            asking["TURNOUT_REPORT"] = "1"
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
            usage = {"include_usage": True}
            asked = [{"role": "user", "content": "hello sure"}]
            stream = await client.chat.completions.create(
                model="auto", messages=asked, stream=True, stream_options=usage
            )
            assert [chunk async for chunk in stream]
            await asyncio.to_thread(wait_for_outcomes, tmp_path / "spool", 4 + 3 + 1)
        return seen

    seen = asyncio.run(run())
    assert seen["hello sure"] == ("Paris.", None, [WEAK])
    for text in ("hello unsure", "hello silent", "hello mute"):
        assert seen[text] == ("Paris, I am certain.", None, [WEAK, STRONG])
    compacted(tmp_path / "spool", tmp_path / "logs")
    found = savings(read_decisions(tmp_path / "logs"), Machine(0.0, 0.0))
    assert (found.requests, found.counted, found.tried, found.escalated) == (5, 5, 4, 3)
    streamed = WEAK if found.share_weak > 0.3 else STRONG
    billed = 4 * billed_usd(WEAK, 10) + 3 * billed_usd(STRONG, 10) + billed_usd(streamed, 10)
    assert found.spent_usd == pytest.approx(billed, abs=1e-12)
    assert found.discarded_usd == pytest.approx(3 * billed_usd(WEAK, 10), abs=1e-12)
