"""Chat completions where an upstream, a caller, a body or a setting fails: the strong model answers, or it is said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import openai
import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import ALWAYS_STRONG, KEY, STRONG, WEAK, asking, script, streamed, using, whole
from tests.checkers import with_second_look
from tests.gates import until
from tests.http_calls import Reply, call, http_server
from tests.running import ANY_PORT
from tests.stub_upstream import SURE, UNSURE, Said, StubUpstream
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.settings import ServerSettings, SettingsRefused


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("chat") / "tiny", plus_is_unfamiliar=True))


@pytest.fixture(scope="module")
def bundle(plain: Bundle) -> Bundle:
    return with_second_look(plain)


@pytest.mark.slow
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("weak", "calls"),
    [
        (Said(status=429), [WEAK, STRONG]),
        (Said(status=500), [WEAK, STRONG]),
        (Said(status=404), [WEAK, STRONG]),
        (Said(raw=b"<html>"), [WEAK, STRONG]),
        (Said(raw=b"[" * 100_000), [WEAK, STRONG]),
        (Said(raw=b'{"choices": []}'), [WEAK, STRONG]),
        (Said(raw=b'{"choices": [{"message": {"content": 7, "tool_calls": "x"}, "logprobs": [1]}]}'), [WEAK, STRONG]),
        (Said(raw=b'{"choices": [null], "usage": "many"}'), [WEAK, STRONG]),
        (Said(text=""), [WEAK, STRONG]),
        (Said(text=None), [WEAK, STRONG]),
        (Said(logprob=None), [WEAK, STRONG]),
        (Said(logprob=float("nan")), [WEAK, STRONG]),
        (Said(logprob=-9999.0), [WEAK, STRONG]),
        (Said(text="ACCEPT p_match=1.0", logprob=UNSURE), [WEAK, STRONG]),
        (Said(text="x" * 1_000_000, logprob=SURE), [WEAK, STRONG]),
        (Said(refuses_logprobs=True), [WEAK, WEAK, STRONG]),
    ],
    ids=range(16),
)
def test_whatever_the_weak_model_does_the_strong_one_answers(
    bundle: Bundle, weak: Said, calls: list[str], *, is_stream: bool
):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        if is_stream:
            return (await streamed(client))[0].strip(), stub.models
        return (await whole(client))[0].choices[0].message.content, stub.models

    assert using(bundle, script(weak), use) == ("Paris, I am certain.", calls)


def test_a_model_that_refuses_log_probabilities_is_asked_for_them_once(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        for _ in range(2):
            await whole(client)
        return stub.models

    assert using(bundle, script(Said(refuses_logprobs=True)), use) == [WEAK, WEAK, STRONG, WEAK, STRONG]


@pytest.mark.slow
def test_a_weak_model_that_hangs_leaves_time_for_the_strong_one(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        began = time.monotonic()
        answer, headers = await whole(client, extra_headers={"connect-timeout-ms": "8000"})
        return answer.choices[0].message.content, headers["x-turnout-calls"], time.monotonic() - began

    *said, took_s = using(bundle, script(Said(hang_s=30)), use)
    assert said == ["Paris, I am certain.", f"{WEAK}=timeout,{STRONG}=ok"]
    assert took_s > 3.5  # half of what the caller has; beyond the whole of it there would be no answer


def test_a_strong_model_that_hangs_is_a_504_in_openais_form(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        with pytest.raises(openai.InternalServerError) as raised:
            await whole(client, ALWAYS_STRONG, extra_headers={"connect-timeout-ms": "300"})
        return raised.value

    error = using(bundle, script(Said(), Said(hang_s=30)), use)
    assert (error.status_code, error.code) == (504, "timeout")


def test_an_upstream_that_is_not_there_is_a_502(bundle: Bundle):
    async def run() -> Reply:
        async with http_server(bundle, upstream="http://127.0.0.1:1/v1") as (_, _, http):
            return await call(http, "/v1/chat/completions", asking())

    reply = asyncio.run(run())
    assert (reply.status, reply.json()["error"]["code"]) == (502, "unreachable")


@pytest.mark.parametrize(("status", "error"), [(401, openai.AuthenticationError), (429, openai.RateLimitError)])
def test_errors_of_the_strong_model_are_the_callers_to_see(bundle: Bundle, status: int, error: type[Exception]):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> None:
        with pytest.raises(error):
            await whole(client, ALWAYS_STRONG)

    using(bundle, script(Said(), Said(status=status)), use)


@pytest.mark.slow
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("weak", [Said(status=429), Said(status=503), Said(hang_s=30)], ids=["429", "503", "hangs"])
def test_an_unchecked_weak_model_that_fails_is_stood_in_for(plain: Bundle, weak: Said, *, is_stream: bool):
    more = {"extra_headers": {"connect-timeout-ms": "8000"}}

    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        if is_stream:
            return (await streamed(client, **more))[0].strip()
        return (await whole(client, **more))[0].choices[0].message.content

    assert using(plain, script(weak), use) == "Paris, I am certain."


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b'"x"', b"[" * 100_000, b"\xff"])
def test_what_is_no_json_object_is_a_400_in_openais_form(bundle: Bundle, body: bytes):
    async def use(_client: Any, stub: StubUpstream, http: str) -> Any:
        return await call(http, "/v1/chat/completions", body), stub.models

    reply, models = using(bundle, script(Said()), use)
    assert (reply.status, reply.json()["error"]["type"], models) == (400, "invalid_request_error", [])


def test_a_caller_that_leaves_takes_the_calls_of_the_upstream_along(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        leaving = asyncio.ensure_future(client.chat.completions.create(**asking()))
        await until(lambda: stub.models == [WEAK])
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        await asyncio.sleep(2)  # the weak model has answered by then
        return stub.models

    assert using(bundle, script(Said(hang_s=1, logprob=UNSURE)), use) == [WEAK]


@pytest.mark.parametrize("url", ["ftp://x/v1", "api.openai.com/v1", "http://", "http://x/v1?key=1"])
def test_an_upstream_that_is_no_base_url_is_refused(url: str):
    with pytest.raises(SettingsRefused, match="upstream"):
        ServerSettings(http=ANY_PORT, upstream=url)


@pytest.mark.parametrize("settings", [{"upstream": "http://x/v1"}, {"self_check": True}, {"upstream_timeout_s": 0.0}])
def test_settings_that_can_not_work_are_refused(settings: dict[str, Any]):
    with pytest.raises(SettingsRefused):
        ServerSettings(**settings)


def test_nothing_of_prompts_answers_or_keys_is_logged(bundle: Bundle, caplog: pytest.LogCaptureFixture):
    secret, said = "the secret of the prompt", "the secret of the answer"

    async def use(client: openai.AsyncOpenAI, *_: Any) -> None:
        for text in (secret, secret * 3):
            await whole(client, text)

    caplog.set_level("DEBUG", "turnout")
    using(bundle, script(Said(text=said, logprob=UNSURE), Said(raw=json.dumps({"x": said}).encode())), use)
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("turnout"))
    assert not any(word in logged for word in (secret, said, KEY))
