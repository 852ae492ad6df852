"""`route_and_call` with the real OpenAI SDK against a real endpoint: the routed model answers, else the strong one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import openai
import pytest

from tests.checkers import with_second_look
from tests.fake_endpoint import FakeEndpoint, Fault, fake_endpoint
from tests.http_calls import HttpProcess
from tests.running import server_in_loop
from tests.stub_upstream import SURE, UNSURE, Said, stub_upstream
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.gateways.openai import Answer, route_and_call, route_and_call_async

WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
NOBODY = "127.0.0.1:1"


def asking(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


EASY, HARD = asking("hello"), asking("word " * 60)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint(answer=lambda body: f"from {body['model']}") as running:
        yield running


def call(endpoint: FakeEndpoint, messages: Any, target: str, *, is_async: bool, **more: Any) -> Answer:
    settings = {"base_url": endpoint.url, "api_key": "none", "max_retries": 0}

    async def call_async() -> Answer:
        async with openai.AsyncOpenAI(**settings) as client, AsyncRouter(target, timeout_s=60) as router:
            return await route_and_call_async(client, messages, router=router, **more)

    if is_async:
        return asyncio.run(call_async())
    with openai.OpenAI(**settings) as client, Router(target, timeout_s=60) as router:
        return route_and_call(client, messages, router=router, **more)


@pytest.fixture(params=[False, True], ids=["sync", "asyncio"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.mark.parametrize(("messages", "model"), [(EASY, WEAK), (HARD, STRONG)])
def test_model_that_the_router_names_answers(
    endpoint: FakeEndpoint, http_process: HttpProcess, messages: Any, model: str, *, is_async: bool
):
    answer = call(endpoint, messages, http_process.grpc, is_async=is_async, temperature=0)
    assert answer.completion.choices[0].message.content == f"from {model}"
    assert (answer.model, answer.routed.reason, answer.fell_back) == (model, "MODEL", False)
    assert [(body["model"], body["messages"], body["temperature"]) for body in endpoint.bodies] == [
        (model, messages, 0)
    ]


def test_route_fields_reach_the_router(endpoint: FakeEndpoint, http_process: HttpProcess, *, is_async: bool):
    answer = call(endpoint, EASY, http_process.grpc, is_async=is_async, route={"threshold": 1.0})
    assert (answer.model, answer.routed.policy) == (STRONG, "threshold=1")


def test_router_that_is_not_there_means_strong(endpoint: FakeEndpoint, *, is_async: bool):
    answer = call(endpoint, EASY, NOBODY, is_async=is_async)
    assert answer.completion.choices[0].message.content == f"from {STRONG}"
    assert (answer.fell_back, answer.routed.fallback_reason) == (True, "unavailable")


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_weak_model_that_fails_is_stood_in_for(
    endpoint: FakeEndpoint, http_process: HttpProcess, status: int, *, is_async: bool
):
    endpoint.faults = lambda _, body: Fault(status) if body["model"] == WEAK else None
    answer = call(endpoint, EASY, http_process.grpc, is_async=is_async)
    assert (answer.model, answer.fell_back, answer.routed.model) == (STRONG, True, WEAK)
    assert [body["model"] for body in endpoint.bodies] == [WEAK, STRONG]


@pytest.mark.parametrize(("messages", "status"), [(EASY, 400), (EASY, 401), (HARD, 500)])
def test_what_strong_can_not_mend_is_raised_once(
    endpoint: FakeEndpoint, http_process: HttpProcess, messages: Any, status: int, *, is_async: bool
):
    endpoint.faults = lambda *_: Fault(status)
    with pytest.raises(openai.APIStatusError) as raised:
        call(endpoint, messages, http_process.grpc, is_async=is_async)
    assert raised.value.status_code == status
    assert len(endpoint.bodies) == 1


def test_argument_that_the_client_does_not_take_is_raised(
    endpoint: FakeEndpoint, http_process: HttpProcess, *, is_async: bool
):
    with pytest.raises(TypeError, match="no_such"):
        call(endpoint, EASY, http_process.grpc, is_async=is_async, no_such=1)
    assert endpoint.bodies == []


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        (EASY, {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]}),
        (EASY, {"response_format": {"type": "json_object"}}),
        ([openai.types.chat.ChatCompletionMessage(role="assistant", content="Hi."), *EASY], {}),
    ],
    ids=["tools", "json", "message of the SDK"],
)
def test_what_counts_for_the_route_is_sent_to_the_router(
    endpoint: FakeEndpoint, http_process: HttpProcess, messages: Any, more: dict[str, Any]
):
    with Router(http_process.grpc, timeout_s=60) as router, openai.OpenAI(base_url=endpoint.url, api_key="-") as client:
        shown = [message if isinstance(message, dict) else message.model_dump() for message in messages]
        expected = router.route(openai_body=msgspec.json.encode({"messages": shown} | more))
        answer = route_and_call(client, messages, router=router, **more)
        assert answer.routed.p_match == expected.p_match
        assert router.fallbacks == {}


def test_what_the_sdk_marks_as_not_given_is_not_there(bundle: Bundle):
    more = {"tools": openai.NOT_GIVEN, "n": openai.omit, "stream": openai.NOT_GIVEN, "logprobs": None}

    async def run() -> Answer:
        settings = {"base_url": stub.url, "api_key": "none", "max_retries": 0}
        async with (
            server_in_loop(with_second_look(bundle, t_strong=0.0)) as (_, address),
            openai.AsyncOpenAI(**settings) as client,
            AsyncRouter(address, timeout_s=60) as router,
        ):
            return await route_and_call_async(client, EASY, router=router, **more)

    with stub_upstream(lambda *_: Said(logprob=SURE)) as stub:
        answer = asyncio.run(run())
    assert (answer.model, answer.judged.verdict, answer.fell_back) == (WEAK, "accept", False)
    assert answer.completion.choices[0].logprobs is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weak", "more", "verdict", "models"),
    [
        (Said(logprob=SURE), {}, "accept", [WEAK]),
        (Said(logprob=UNSURE), {}, "escalate", [WEAK, STRONG]),
        (Said(logprob=None), {}, "escalate", [WEAK, STRONG]),
        (Said(text=""), {}, "escalate", [WEAK, STRONG]),
        (Said(refuses_logprobs=True), {}, "escalate", [WEAK, WEAK, STRONG]),
        (Said(logprob=SURE), {"logprobs": False}, "escalate", [WEAK, STRONG]),
        (Said(status=429), {}, None, [WEAK, STRONG]),
        (Said(logprob=UNSURE), {"stream": True}, None, [WEAK]),
    ],
    ids=["sure", "unsure", "no signal", "empty", "refuses", "forbidden", "fails", "stream"],
)
def test_what_is_tried_is_checked_and_escalated(
    bundle: Bundle, weak: Said, more: dict[str, Any], verdict: str | None, models: list[str], *, is_async: bool
):
    def said(model: str, _: str) -> Said:
        return weak if model == WEAK else Said(text="Paris, I am certain.")

    async def run() -> Answer:
        async with server_in_loop(with_second_look(bundle, t_strong=0.0)) as (_, address):
            if is_async:
                async with openai.AsyncOpenAI(**settings) as client, AsyncRouter(address, timeout_s=60) as router:
                    return await route_and_call_async(client, EASY, router=router, **more)
            with openai.OpenAI(**settings) as client, Router(address, timeout_s=60) as router:
                return await asyncio.to_thread(route_and_call, client, EASY, router=router, **more)

    with stub_upstream(said) as stub:
        settings = {"base_url": stub.url, "api_key": "none", "max_retries": 0}
        answer = asyncio.run(run())
    assert stub.models == models
    assert answer.model == models[-1]
    assert (None if answer.judged is None else answer.judged.verdict) == verdict
    if verdict is not None:
        assert answer.completion.choices[0].logprobs is None
        assert (answer.tried is None) == (verdict == "accept")
        assert answer.fell_back is False
