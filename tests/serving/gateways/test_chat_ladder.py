"""A ladder of three end to end: the OpenAI SDK, a server and an upstream; each rung with its model and its effort."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.builders import LADDER_NAMES
from tests.chat_calls import asking, sdk, streamed, using, whole
from tests.checkers import with_second_look
from tests.http_calls import call, http_server, systemone
from tests.stub_upstream import SURE, UNSURE, Said, StubUpstream, stub_upstream
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.gateways.completions import at_rung
from turnout.serving.gateways.openai import route_and_call_async
from turnout.serving.protocols.ext_proc.chat_body import with_model
from turnout.serving.spool.decision import LogDecisions
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import decode_outcome
from turnout.serving.spool.reader import SpoolRecord, read_spool

SHORT, MIDDLE, LONG = "hello", "word " * 20, "word " * 400
MINI, FULL, TOP = LADDER_NAMES
RULES = """
images = "model"
[models."gpt-4o-mini"]
images = false
"""


@pytest.fixture(scope="module")
def ladder(ladder_bundle_folder: Path) -> Bundle:
    return load_bundle(ladder_bundle_folder)


@pytest.fixture(scope="module")
def checking(ladder: Bundle) -> Bundle:
    return with_second_look(ladder, t_rungs=(0.8,))


def answers(model: str, _: str) -> Said:
    return Said(text=f"{model} says so.", logprob=UNSURE if model == MINI else SURE)


def test_each_of_three_models_answers_with_its_effort(ladder: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        sampling = {"max_tokens": 50, "temperature": 0.5}
        return [(await whole(client, text, **sampling))[1] for text in (SHORT, MIDDLE, LONG)], stub.bodies

    headers, bodies = using(ladder, answers, use)
    assert [body["model"] for body in bodies] == [MINI, FULL, "o3"]
    assert [body.get("reasoning_effort") for body in bodies] == [None, None, "high"]
    assert [body.get("temperature") for body in bodies] == [0.5, 0.5, None]
    assert [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in bodies] == [
        (50, None),
        (50, None),
        (None, 50),
    ]
    assert [one["x-turnout-model"] for one in headers] == [MINI, FULL, "o3"]
    assert [one.get("x-turnout-rung") for one in headers] == [None, None, TOP]
    assert [one.get("x-turnout-effort") for one in headers] == [None, None, "high"]
    assert headers[2]["x-turnout-calls"] == "o3:high=ok"


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_is_tried_and_not_accepted_climbs_to_the_middle(checking: Bundle, is_stream: bool):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        text = (await streamed(client, MIDDLE))[0].strip() if is_stream else None
        if text is None:
            text = (await whole(client, MIDDLE))[0].choices[0].message.content
        high = (await whole(client, LONG[:200]))[0].choices[0].message.content
        return text, high, stub.models

    middle, high, models = using(checking, answers, use)
    assert (middle, high) == ("gpt-4o says so.", "o3 says so.")
    assert models == [MINI, FULL, MINI, "o3"]


def test_a_rung_between_that_fails_is_followed_by_the_top(ladder: Bundle, checking: Bundle):
    def failing(model: str, text: str) -> Said:
        return Said(status=500) if model == FULL else answers(model, text)

    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        answer, headers = await whole(client, MIDDLE)
        return answer.choices[0].message.content, headers["x-turnout-calls"], stub.models

    assert using(ladder, failing, use) == ("o3 says so.", "gpt-4o=500,o3:high=ok", [FULL, "o3"])
    text, _, models = using(checking, failing, use)
    assert (text, models) == ("o3 says so.", [MINI, FULL, "o3"])


def test_a_request_with_an_image_skips_the_rung_that_takes_none(ladder: Bundle, tmp_path: Path):
    (tmp_path / "rules.toml").write_text(RULES)
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}

    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        await whole(client, SHORT)
        content = [{"type": "text", "text": SHORT}, image]
        raw = await client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": content}]
        )
        return stub.models, raw.headers["x-turnout-reason"]

    models, reason = using(ladder, answers, use, rules=tmp_path / "rules.toml")
    assert (models, reason) == ([MINI, FULL], "CAPABILITY")


def test_responses_ask_for_effort_in_their_own_words(ladder: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        for text in (MIDDLE, LONG):
            await client.responses.create(model="auto", input=text, reasoning={"summary": "auto"}, temperature=0.2)
        return stub.bodies

    middle, top = using(ladder, answers, use)
    assert (middle["model"], middle["reasoning"], middle["temperature"]) == (FULL, {"summary": "auto"}, 0.2)
    assert (top["model"], top["reasoning"]) == ("o3", {"summary": "auto", "effort": "high"})
    assert "temperature" not in top


def test_quality_is_a_models_name_like_any_policy(ladder: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        raw = await client.chat.completions.with_raw_response.create(
            **asking(MIDDLE) | {"model": "turnout-quality=0.94"}
        )
        return raw.headers["x-turnout-policy"], stub.models

    assert using(ladder, answers, use) == ("max_worse=0.06", [MINI])


def test_second_answers_are_those_of_the_rung_that_the_decision_names(ladder: Bundle, tmp_path: Path):
    (tmp_path / "rules.toml").write_text('salt = "x"\n[exploration]\nboth = 1.0\n')

    async def run() -> Any:
        settings = {
            "rules": tmp_path / "rules.toml",
            "spool": tmp_path / "spool",
            "log_decisions": LogDecisions.FULL,
        }
        with stub_upstream(answers) as stub:
            async with http_server(ladder, upstream=stub.url, **settings) as (_, _, http), sdk(http) as client:
                for number, text in enumerate((SHORT, MIDDLE, *[LONG] * 12)):
                    await client.chat.completions.create(**asking(text), extra_headers={"x-request-id": str(number)})
                for _ in range(600):
                    if len(stub.models) == 28:
                        break
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.5)
                return stub.models

    asyncio.run(run())
    records = [one for one in read_spool(tmp_path / "spool") if isinstance(one, SpoolRecord)]
    outcomes = [decode_outcome(one.payload) for one in records if one.kind == RecordKind.OUTCOME]
    by_request: dict[str, list[tuple[str, str, str]]] = {}
    for one in outcomes:
        by_request.setdefault(one.request_id, []).append((one.tier, one.model, one.rung))
    top = ("strong", "o3", TOP)
    assert sorted(by_request["0"]) == sorted([("weak", MINI, ""), top])
    assert sorted(by_request["1"]) == sorted([("", FULL, ""), top])
    below = {one for number in range(2, 14) for one in by_request[str(number)]} - {top}
    assert below == {("weak", MINI, ""), ("", FULL, "")}


def test_one_line_with_the_sdk_puts_model_and_effort_in(checking: Bundle, ladder: Bundle):
    async def ask(bundle: Bundle, text: str) -> Any:
        with stub_upstream(answers) as stub:
            async with (
                http_server(bundle) as (_, address, _),
                openai.AsyncOpenAI(base_url=stub.url, api_key="k", max_retries=0) as client,
                AsyncRouter(address, strong_model=TOP, timeout_s=60) as router,
            ):
                answer = await route_and_call_async(client, [{"role": "user", "content": text}], router=router)
                return answer, stub.bodies

    answer, bodies = asyncio.run(ask(ladder, LONG))
    assert (answer.model, answer.fell_back) == ("o3", False)
    assert (bodies[0]["model"], bodies[0]["reasoning_effort"]) == ("o3", "high")
    answer, bodies = asyncio.run(ask(checking, MIDDLE))
    assert [body["model"] for body in bodies] == [MINI, FULL]
    assert (answer.model, answer.fell_back, answer.judged.tier) == (FULL, False, "between")


def test_http_and_systemone_tell_the_rung(ladder: Bundle):
    async def ask() -> Any:
        async with http_server(ladder) as (_, _, http):
            routed = await call(http, "/v1/route", {"text": MIDDLE, "per_rung": True})
            labels = ("small", "medium", "large")
            three = [await call(http, "/v1/systemone", systemone(text, labels)) for text in (SHORT, MIDDLE, LONG)]
            two = [await call(http, "/v1/systemone", systemone(text)) for text in (SHORT, MIDDLE, LONG)]
            return routed.json(), *([one.json()["answers"]["tier"] for one in some] for some in (three, two))

    routed, three, two = asyncio.run(ask())
    assert (routed["rung"], routed["effort"], routed["tier"]) == (FULL, "", "TIER_UNSPECIFIED")
    assert [look["rung"] for look in routed["p_rungs"]] == list(LADDER_NAMES)
    assert [one["choice"] for one in three] == ["small", "medium", "large"]
    assert [one["choice"] for one in two] == ["weak", "strong", "strong"]
    for one in (*three, *two):
        assert sum(one["probabilities"].values()) == pytest.approx(1.0)


def test_a_body_for_envoy_keeps_its_other_bytes():
    body = (
        b'{"model":"auto","temperature":0.10,"max_tokens":5,"messages":[{"role":"user","content":"a  b"}],"seed":1.50}'
    )
    assert with_model(body, "gpt-4o") == body.replace(b"auto", b"gpt-4o")
    high = with_model(body, "o3", "high")
    assert b'"seed":1.50' in high
    assert json.loads(high) == at_rung(json.loads(body), "o3", "high")
    asked = json.loads(with_model(b'{"model":"auto","input":"a","reasoning":{"summary":"auto"}}', "o3", "low"))
    assert asked == {"model": "o3", "input": "a", "reasoning": {"summary": "auto", "effort": "low"}}
