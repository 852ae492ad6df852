"""What chat completions through Turnout cost, to the last digit: ledger, `turnout savings`, the upstream's bill."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.builders import tiny_bundle
from tests.checkers import with_second_look
from tests.http_calls import http_server
from tests.stub_upstream import SURE, UNSURE, Said, stub_upstream
from tests.training.spools import compacted
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.decision.prices import cost_usd
from turnout.serving.spool.decision import LogDecisions
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.savings import Savings, savings

WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
STRONG_TEXT = "word " * 400
PROMPT, WEAK_TOKENS, STRONG_TOKENS, CACHED = 100, 10, 30, 4
FREE = Machine(0.0, 0.0)
WEAK_USD = cost_usd(WEAK, PROMPT, WEAK_TOKENS, CACHED)
STRONG_USD = cost_usd(STRONG, PROMPT, STRONG_TOKENS, CACHED)
STRONG_FOR_WEAK_USD = cost_usd(STRONG, PROMPT, WEAK_TOKENS, CACHED)
"""What all-strong is taken to cost where only the weak answer is known."""
SELF_CHECK_USD = cost_usd(WEAK, PROMPT, 1, CACHED)


@dataclass
class Billed:
    """What the upstream asked for."""

    usd: float = 0.0
    calls: list[str] = field(default_factory=list)

    def script(self, model: str, text: str) -> Said:
        said = self._said(model, text)
        if said.status == 200:
            self.usd += cost_usd(model, PROMPT, said.completion_tokens, CACHED)
        self.calls.append(model)
        return said

    def _said(self, model: str, text: str) -> Said:
        if "Yes or No" in text:
            return Said(text="Yes", logprob=-0.01, completion_tokens=1)
        if model == STRONG:
            return Said(text="Paris, I am certain.", completion_tokens=STRONG_TOKENS)
        return {
            "hello sure": Said(logprob=SURE),
            "hello unsure": Said(logprob=UNSURE),
            "hello mute": Said(logprob=None),
            "hello busy": Said(status=429),
            "hello broken": Said(status=500),
        }[text]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return with_second_look(load_bundle(tiny_bundle(tmp_path_factory.mktemp("ledger") / "tiny")))


def after(
    bundle: Bundle, folder: Path, texts: list[str], *, stream: dict[str, Any] | None = None, **settings: Any
) -> tuple[Savings, Billed]:
    """Return what `turnout savings` says of these calls with OpenAI's SDK, and what the upstream billed."""
    billed = Billed()
    kept = {"spool": folder / "spool", "log_decisions": LogDecisions.FULL} | settings
    more = {} if stream is None else {"stream": True, **stream}

    async def run() -> None:
        with stub_upstream(billed.script) as stub:
            async with (
                http_server(bundle, upstream=stub.url, **kept) as (_, _, http),
                openai.AsyncOpenAI(base_url=f"http://{http}/v1", api_key="sk-x", max_retries=0, timeout=90) as client,
            ):
                for text in texts:
                    asked: Any = [{"role": "user", "content": text}]
                    said = await client.chat.completions.create(model="auto", messages=asked, **more)
                    if stream is not None:
                        assert [chunk async for chunk in said]

    asyncio.run(run())
    compacted(folder / "spool", folder / "logs")
    return savings(read_decisions(folder / "logs"), FREE), billed


def test_savings_are_what_the_upstream_billed(bundle: Bundle, tmp_path: Path):
    texts = ["hello sure", "hello unsure", "hello mute", STRONG_TEXT, "hello sure", "hello busy", "hello broken"]
    found, billed = after(bundle, tmp_path, texts)
    assert billed.calls == [WEAK, WEAK, STRONG, WEAK, STRONG, STRONG, WEAK, WEAK, STRONG, WEAK, STRONG]
    assert found.spent_usd == pytest.approx(billed.usd, abs=1e-12)
    assert found.spent_usd == pytest.approx(4 * WEAK_USD + 5 * STRONG_USD, abs=1e-12)
    assert found.discarded_usd == pytest.approx(2 * WEAK_USD, abs=1e-12)
    assert (found.second_usd, found.self_check_usd, found.switch_usd) == (0.0, 0.0, 0.0)
    assert found.all_strong_usd == pytest.approx(5 * STRONG_USD + 2 * STRONG_FOR_WEAK_USD, abs=1e-12)
    assert found.saved_usd == pytest.approx(found.all_strong_usd - billed.usd, abs=1e-12)
    assert (found.requests, found.counted, found.unpriced) == (7, 7, 0)
    assert (found.tried, found.escalated, found.unchecked) == (6, 2, 2)
    assert found.share_weak == pytest.approx(2 / 7)
    assert found.first == found.last == dt.datetime.now(dt.UTC).date()


def test_self_checks_are_paid_for_and_lengthen_no_answer(bundle: Bundle, tmp_path: Path):
    found, billed = after(bundle, tmp_path, ["hello mute", "hello mute"], self_check=True)
    assert billed.calls == [WEAK] * 4
    assert found.spent_usd == pytest.approx(billed.usd, abs=1e-12)
    assert found.self_check_usd == pytest.approx(2 * SELF_CHECK_USD, abs=1e-12)
    assert found.all_strong_usd == pytest.approx(2 * STRONG_FOR_WEAK_USD, abs=1e-12)
    assert (found.tried, found.escalated, found.counted) == (2, 0, 2)


@pytest.mark.parametrize("says_usage", [True, False], ids=["usage asked for", "not asked for"])
def test_streams_are_counted_where_their_caller_asks_for_the_usage(bundle: Bundle, tmp_path: Path, *, says_usage: bool):
    options = {"stream_options": {"include_usage": True}} if says_usage else {}
    found, billed = after(bundle, tmp_path, ["hello sure", "hello unsure", STRONG_TEXT], stream=options)
    assert (found.requests, found.tried, found.escalated) == (3, 2, 1)
    assert found.counted == (3 if says_usage else 1)
    if says_usage:
        assert found.spent_usd == pytest.approx(billed.usd, abs=1e-12)
    else:  # the strong answer of an escalation is never taken for free: it stands at what was expected of it
        assert found.spent_usd > 2 * WEAK_USD + 2 * cost_usd(STRONG, 1, 200)
    assert found.discarded_usd == pytest.approx(WEAK_USD, abs=1e-12)
