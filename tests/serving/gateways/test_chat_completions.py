"""Chat completions through Turnout, with the real OpenAI SDK and a real upstream: checked, escalated, passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import ALWAYS_STRONG, KEY, STRONG, WEAK, asking, script, streamed, using, whole
from tests.checkers import checked_folder, with_second_look
from tests.http_calls import http_address_in
from tests.running import ANY_PORT, server_process
from tests.stub_upstream import SURE, UNSURE, Said, StubUpstream, stub_upstream
from turnout.serving.access.tokens import new_token_lines
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import decode_outcome
from turnout.serving.spool.reader import SpoolRecord, read_spool


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("chat") / "tiny", plus_is_unfamiliar=True))


@pytest.fixture(scope="module")
def bundle(plain: Bundle) -> Bundle:
    return with_second_look(plain)


def test_a_sure_answer_is_accepted(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        return *(await whole(client)), stub

    answer, headers, stub = using(bundle, script(Said(logprob=SURE)), use)
    assert (answer.choices[0].message.content, stub.models) == ("Paris.", [WEAK])
    assert answer.choices[0].logprobs is None
    assert (headers["x-turnout-action"], headers["x-turnout-verdict"]) == ("try", "accept")
    assert float(headers["x-turnout-p-match-checked"]) > 0.7
    assert stub.bodies[0]["logprobs"] is True
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    assert answer.usage.model_dump(exclude_none=True)["total_tokens"] == 110


def test_an_unsure_answer_is_escalated_and_both_calls_are_billed(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        return *(await whole(client)), stub.models

    answer, headers, models = using(bundle, script(Said(logprob=UNSURE)), use)
    assert (answer.choices[0].message.content, models) == ("Paris, I am certain.", [WEAK, STRONG])
    assert (headers["x-turnout-verdict"], headers["x-turnout-model"]) == ("escalate", STRONG)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (200, 40, 240)
    assert answer.usage.prompt_tokens_details.cached_tokens == 8


@pytest.mark.parametrize(("logprob", "text"), [(SURE, "Paris is it."), (UNSURE, "Paris, I am certain.")])
def test_a_stream_is_held_until_its_answer_is_checked(bundle: Bundle, logprob: float, text: str):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await streamed(client, stream_options={"include_usage": True})

    said, usage, reason = using(bundle, script(Said(text="Paris is it.", logprob=logprob)), use)
    assert (said.strip(), reason) == (text, "stop")
    assert usage.total_tokens == (110 if logprob == SURE else 240)


def test_a_stream_shows_nothing_of_an_answer_that_is_thrown_away(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await streamed(client)

    said, usage, _ = using(bundle, script(Said(text="Lyon, perhaps.", logprob=UNSURE)), use)
    assert "Lyon" not in said
    assert usage is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weak", "text", "calls"),
    [
        (Said(logprob=SURE), "Paris.", [WEAK]),
        (Said(logprob=UNSURE), "Paris, I am certain.", [WEAK, STRONG]),
        (Said(logprob=None), "Paris, I am certain.", [WEAK, STRONG]),
        (Said(text=""), "Paris, I am certain.", [WEAK, STRONG]),
        (Said(refuses_logprobs=True), "Paris, I am certain.", [WEAK, WEAK, STRONG]),
        (Said(status=429), "Paris, I am certain.", [WEAK, STRONG]),
        (Said(raw=b'{"output": [{"type": "message", "content": [7]}, 3]}'), "Paris, I am certain.", [WEAK, STRONG]),
    ],
    ids=range(7),
)
def test_the_responses_api_is_checked_likewise(bundle: Bundle, weak: Said, text: str, calls: list[str]):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        return await client.responses.create(model="auto", input="hello"), stub.models

    response, models = using(bundle, script(weak), use)
    assert (response.output_text, models) == (text, calls)
    assert not response.output[0].content[0].logprobs
    assert response.usage.total_tokens == (110 if calls == [WEAK] else 130 if weak.status == 429 or weak.raw else 240)


@pytest.mark.parametrize("more", [{"previous_response_id": "resp_0"}, {"background": True}, {"conversation": "c"}])
def test_what_has_state_at_the_vendor_is_never_tried(bundle: Bundle, more: dict[str, Any]):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        raw = await client.responses.with_raw_response.create(model="auto", input="hello", **more)
        return raw.headers["x-turnout-action"], len(stub.models)

    action, n_calls = using(bundle, script(Said()), use)
    assert action != "try"
    assert n_calls == 1


@pytest.mark.parametrize("own", [{"logprobs": False}, {"logprobs": True, "top_logprobs": 3}, {"top_logprobs": 99}])
def test_one_callers_parameters_change_nothing_for_the_next(bundle: Bundle, own: dict[str, Any]):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        await whole(client, **own)
        first = len(stub.bodies)
        _, headers = await whole(client)
        return headers["x-turnout-verdict"], stub.bodies[first]

    verdict, body = using(bundle, script(Said()), use)
    assert (verdict, body["logprobs"], body["top_logprobs"]) == ("accept", True, 2)


def test_strong_and_named_models_pass_through(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        hard = await whole(client, ALWAYS_STRONG)
        named = await client.chat.completions.create(**asking() | {"model": "o9"})
        return hard, named, stub

    (hard, headers), named, stub = using(bundle, script(Said()), use)
    assert (hard.model, headers["x-turnout-action"]) == (STRONG, "strong")
    assert named.model == "o9"
    assert stub.models == [STRONG, "o9"]
    assert "logprobs" not in stub.bodies[0]


def test_without_a_second_look_weak_answers_stream_through_unchecked(plain: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        return (await streamed(client))[0].strip(), stub

    said, stub = using(plain, script(Said(logprob=UNSURE)), use)
    assert (said, stub.models) == ("Paris.", [WEAK])
    assert "logprobs" not in stub.bodies[0]


def test_log_probabilities_are_the_callers_where_he_asked(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        asked = await whole(client, logprobs=True)
        forbidden = await whole(client, logprobs=False)
        return asked[0], forbidden[1], stub.bodies

    asked, headers, bodies = using(bundle, script(Said()), use)
    assert asked.choices[0].logprobs.content[0].logprob == SURE
    assert bodies[1]["logprobs"] is False
    assert headers["x-turnout-verdict"] == "escalate"


def test_several_choices_are_never_tried(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return (await whole(client, n=2))[1]

    assert using(bundle, script(Said()), use)["x-turnout-action"] != "try"


def test_calls_of_tools_arrive_whole_and_in_chunks(bundle: Bundle):
    calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        answer, _headers = await whole(client, tools=[tool])
        stream = await client.chat.completions.create(**asking(stream=True, tools=[tool]))
        deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
        return answer.choices[0].message.tool_calls, [one.tool_calls for one in deltas if one.tool_calls]

    weak = Said(text=None, tool_calls=calls, finish_reason="tool_calls", logprob=SURE)
    (answered,), ((streamed_call,),) = using(bundle, script(weak), use)
    assert answered.function.arguments == streamed_call.function.arguments == '{"at": 1}'
    assert streamed_call.index == 0


def test_a_self_check_is_one_call_more_and_counts(bundle: Bundle):
    def answers(model: str, text: str) -> Said:
        if "Yes or No" in text:
            return Said(text="Yes", logprob=-0.01, completion_tokens=1)
        return script(Said(logprob=None))(model, text)

    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        return *(await whole(client)), stub

    answer, headers, stub = using(bundle, answers, use, self_check=True)
    assert (headers["x-turnout-verdict"], stub.models) == ("accept", [WEAK, WEAK])
    assert stub.bodies[1]["max_tokens"] == 1
    assert answer.usage.total_tokens == 110 + 101


def test_what_each_call_used_is_in_the_ledger(bundle: Bundle, tmp_path: Path):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> None:
        await whole(client, extra_headers={"x-request-id": "r-1", "x-turnout-tenant": "shop"})

    using(bundle, script(Said(logprob=UNSURE)), use, spool=tmp_path)
    records = [one for one in read_spool(tmp_path) if isinstance(one, SpoolRecord) and one.kind == RecordKind.OUTCOME]
    outcomes = [decode_outcome(one.payload) for one in records]
    assert [(one.tier, one.model, one.completion_tokens) for one in outcomes] == [
        ("weak", WEAK, 10),
        ("strong", STRONG, 30),
    ]
    assert {(one.request_id, one.tenant, one.prompt_tokens, one.cached_tokens) for one in outcomes} == {
        ("r-1", "shop", 100, 4)
    }


def test_models_are_listed_with_the_names_that_route(bundle: Bundle):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> list[str]:
        return [model.id async for model in client.models.list()]

    names = using(bundle, script(Said()), use)
    assert {"auto", "turnout-max_worse=0.01", "gpt-4o"} <= set(names)


def test_tokens_of_the_server_go_beside_the_key_of_the_upstream(bundle: Bundle, tmp_path: Path):
    token, lines = new_token_lines("gateway")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(lines)

    async def use(client: openai.AsyncOpenAI, stub: StubUpstream, _: str) -> Any:
        with pytest.raises(openai.AuthenticationError):
            await whole(client)
        assert stub.models == []
        await whole(client, extra_headers={"x-turnout-authorization": f"Bearer {token}"})
        return stub.headers

    (seen,) = using(bundle, script(Said()), use, tokens=tokens)
    assert seen["authorization"] == f"Bearer {KEY}"
    assert not any(token in value for value in seen.values())


def test_the_command_line_serves_chat_completions_in_every_worker(tmp_path: Path):
    def answers(model: str, text: str) -> Said:
        return script(Said(logprob=SURE if text == "hello" else UNSURE))(model, text)

    with stub_upstream(answers) as stub:
        options = ("--http", ANY_PORT, "--upstream", stub.url)
        with server_process(checked_folder(tmp_path / "tiny"), tmp_path / "log", *options, workers=2):
            http = http_address_in(tmp_path / "log")
            with openai.OpenAI(base_url=f"http://{http}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
                said = [
                    client.chat.completions.create(**asking(text)).choices[0].message.content
                    for text in ("hello", "hello you") * 3
                ]
        assert said == ["Paris.", "Paris, I am certain."] * 3
        assert stub.models == [WEAK, WEAK, STRONG] * 3
