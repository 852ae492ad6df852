"""The TypeScript client under Node: the answers of the Python client to the bit, and its fallbacks."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from tests.checkers import with_second_look
from tests.relays import relay
from tests.running import ServerProcess, server_in_loop, server_process
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.client import AnswerItem, AsyncRouter, Judged, Routed, Router
from turnout.serving.router.bodies import BESIDE_TEXT
from turnout.serving.wire.asking import RungAsked
from turnout.training.sample.sample import make_sample

ASK = Path(__file__).with_name("ask.mjs")
CLIENT = Path(__file__).resolve().parents[2] / "serving" / "gateways" / "typescript" / "dist" / "index.js"
PATIENT_MS = 5000


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not installed")
    if not CLIENT.exists():
        pytest.skip("the TypeScript client is not built; build it with: make typescript")
    return path


def ask(node: str, target: str, questions: list[dict[str, Any]], **options: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the client's answers, and its counts."""
    first = {"client": CLIENT.as_uri(), "target": target, "options": {"timeoutMs": PATIENT_MS} | options}
    lines = "\n".join(json.dumps(line) for line in [first, *questions])
    done = subprocess.run([node, ASK], input=lines, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    *answers, counts = map(json.loads, done.stdout.splitlines())
    return answers, counts


def comparable(routed: Routed) -> dict[str, Any]:
    """Return what a `Routed` of the TypeScript client says of the same reply, its time left out."""
    fields = {
        "model": routed.model,
        "tier": routed.tier,
        "action": routed.action,
        "pMatch": routed.p_match,
        "confidence": routed.confidence,
        "threshold": routed.threshold,
        "policy": routed.policy,
        "reason": routed.reason,
        "stage": routed.stage,
        "bundle": routed.bundle,
        "rule": routed.rule,
        "routePropensity": routed.route_propensity,
        "weakCostUsd": routed.weak_cost_usd,
        "strongCostUsd": routed.strong_cost_usd,
        "rung": routed.rung,
        "effort": routed.effort,
        "rungs": [comparable_rung(one) for one in routed.p_rungs],
    }
    return {name: value for name, value in fields.items() if value is not None}


def comparable_rung(one: RungAsked) -> dict[str, Any]:
    fields = {"rung": one.rung, "model": one.model, "effort": one.effort, "isOffered": one.is_offered}
    fields |= {"p": one.p, "threshold": one.threshold, "costUsd": one.cost_usd}
    return {name: value for name, value in fields.items() if value is not None}


def test_rungs_of_a_ladder_are_those_of_the_python_client(node: str, ladder_bundle_folder: Path, tmp_path: Path):
    texts = ["hello", "word " * 20, "word " * 400]
    with server_process(ladder_bundle_folder, tmp_path / "log") as server:
        with Router(server.address, timeout_s=60) as router:
            expected = [comparable(router.route(text=text, per_rung=True)) for text in texts]
        asked = [{"content": {"text": text}, "options": {"perRung": True}} for text in texts]
        answers, _ = ask(node, server.address, asked)
    for answer in answers:
        del answer["latencyMs"]
    assert answers == expected
    assert [one["tier"] for one in answers] == ["weak", "between", "strong"]
    assert [(one["model"], one["effort"]) for one in answers][2] == ("o3", "high")
    assert [len(one["rungs"]) for one in answers] == [3, 3, 3]


@pytest.mark.slow
def test_a_thousand_decisions_are_those_of_the_python_client(node: str, tmp_path: Path):
    bodies = [json.dumps(row["request"]) for row in make_sample(1000, 11)]
    with server_process(find_bundle(None), tmp_path / "log") as server:
        with Router(server.address, timeout_s=60) as router:
            expected = [comparable(router.route(openai_body=body.encode())) for body in bodies]
        answers, counts = ask(node, server.address, [{"content": {"openaiBody": body}} for body in bodies])
    # The first stage may answer by the graph once and in C the next time, when it has learned new characters.
    p_matches = [[one.pop("pMatch", None) for one in some] for some in (answers, expected)]
    assert p_matches[0] == pytest.approx(p_matches[1], abs=1e-6)
    for answer in answers:
        del answer["latencyMs"]
        confidence = answer.pop("confidence", None)
        assert confidence is None or 0.0 <= confidence <= 1.0
    assert answers == [{name: value for name, value in one.items() if name != "confidence"} for one in expected]
    assert counts["fallbacks"] == {}
    assert len(set(p_matches[0])) > 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "same"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": None}, {"content": "hello"}]}, "messages"),
        ({"openaiBody": '{"messages": [{"role": "user", "content": "hello"}]}'}, "openai_body"),
        ({"text": "caf\u00e9 \U0001f600 hello"}, "text"),
        ({"text": "lone \ud800 surrogate"}, "text"),
    ],
    ids=range(6),
)
def test_every_kind_of_content_is_read_as_from_python(node: str, server: ServerProcess, content: dict, same: str):
    (value,) = content.values()
    with Router(server.address, timeout_s=60) as router:
        expected = router.route(**{same: value.encode() if same == "openai_body" else value})
    (answer,), _ = ask(node, server.address, [{"content": content}])
    del answer["latencyMs"]
    assert answer == comparable(expected)
    assert "fallbackReason" not in answer


def test_content_beside_the_text_is_told(node: str, server: ServerProcess):
    messages = [[{"role": "user", "content": "hello", name: ["aGk="]}] for name in sorted(BESIDE_TEXT)]
    with Router(server.address, timeout_s=60) as router:
        expected = [comparable(router.route(messages=one)) for one in messages]
    answers, _ = ask(node, server.address, [{"content": {"messages": one}} for one in messages])
    for answer in answers:
        del answer["latencyMs"]
    assert answers == expected
    assert "RULE" in {answer["reason"] for answer in answers}


def test_options_reach_the_server(node: str, server: ServerProcess):
    text = {"content": {"text": "word " * 30}}
    asked = [text | {"options": options} for options in ({"threshold": 0.25}, {"policy": "max_worse=0.05"}, {})]
    answers, _ = ask(node, server.address, asked)
    assert [answer["policy"] for answer in answers] == ["threshold=0.25", "max_worse=0.05", "max_worse=0.01"]
    assert answers[0]["threshold"] == 0.25


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ({"content": {"text": "hello"}, "options": {"policy": "unknown"}}, "not_found"),
        ({"content": {"text": ""}}, "invalid_argument"),
        ({"content": {"text": "7 is NaN"}}, "internal"),
        ({"content": {"messages": 7}}, "client_error"),
    ],
)
def test_failure_is_the_strong_model_and_counted(node: str, server: ServerProcess, question: dict, why: str):
    (answer,), counts = ask(node, server.address, [question], strongModel="the-strong-one")
    assert (answer["model"], answer["tier"], answer["reason"]) == ("the-strong-one", "strong", "FALLBACK")
    assert answer["fallbackReason"] == why
    assert counts["fallbacks"] == {why: 1}


def test_nobody_there_is_the_strong_model(node: str):
    (answer,), _ = ask(node, "127.0.0.1:1", [{"content": {"text": "hello"}}])
    assert (answer["model"], answer["fallbackReason"]) == ("gpt-4o", "unavailable")


def test_server_that_hangs_is_the_strong_model_at_the_deadline(node: str):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        (answer,), _ = ask(node, target, [{"content": {"text": "hello"}}], timeoutMs=200)
    assert (answer["model"], answer["fallbackReason"]) == ("gpt-4o", "deadline_exceeded")
    assert 150 < answer["latencyMs"] < 2000


def test_failure_is_said_once_with_the_servers_own_words(node: str, server: ServerProcess):
    unknown = {"content": {"text": "my secret"}, "options": {"policy": "unknown"}}
    first = {"client": CLIENT.as_uri(), "target": server.address, "options": {"timeoutMs": PATIENT_MS}}
    questions = [unknown, unknown, {"content": {"messages": 7}}, unknown]
    lines = "\n".join(json.dumps(line) for line in [first, *questions])
    done = subprocess.run([node, ASK], input=lines, capture_output=True, text=True, timeout=100)
    said = done.stderr.splitlines()
    assert [line.count("not_found") for line in said] == [1, 0]
    assert "policy" in said[0]
    assert "client_error: TypeError" in said[1]
    assert "secret" not in done.stderr


def test_connection_that_falls_silent_is_made_anew(node: str, bundle: Bundle):
    async def check() -> None:
        async with server_in_loop(bundle, min_ping_interval_s=0.05) as (_, address):
            with relay(address) as between:
                asking = await asyncio.create_subprocess_exec(node, ASK, stdin=PIPE, stdout=PIPE)
                options = {"timeoutMs": 300, "pingMs": 500, "pingTimeoutMs": 500}

                def say(line: dict[str, Any]) -> None:
                    asking.stdin.write(json.dumps(line).encode() + b"\n")

                async def is_answered() -> bool:
                    say({"content": {"text": "hello"}})
                    return "fallbackReason" not in json.loads(await asking.stdout.readline())

                async def until_answered() -> None:
                    while not await is_answered():  # noqa: ASYNC110  # each try is a call
                        await asyncio.sleep(0.1)

                say({"client": CLIENT.as_uri(), "target": between.address, "options": options})
                async with asyncio.timeout(60):
                    await until_answered()
                    between.fall_silent()
                    assert not await is_answered()
                    await until_answered()
                asking.stdin.close()
                assert await asking.wait() == 0

    asyncio.run(check())


def test_outcomes_are_reported_or_counted(node: str, server: ServerProcess, bundle_folder: Path, tmp_path: Path):
    question = {"outcome": {"tier": "weak", "score": 1.0, "promptTokens": 7}, "requestId": "r-1"}
    with server_process(bundle_folder, tmp_path / "log", spool=tmp_path / "spool") as keeping:
        (kept,), counts = ask(node, keeping.address, [question])
    assert kept is True
    assert counts["unreported"] == {}
    (refused,), counts = ask(node, server.address, [question])
    assert refused is False
    assert counts["unreported"] == {"unimplemented": 1}


def test_answers_are_judged_as_from_python(node: str, bundle: Bundle):
    tokens = {"sure": [-0.001, -0.001], "unsure": [-2.0, -2.0]}
    content, options = {"text": "hello"}, {"canCheck": True, "requestId": "r"}

    async def run() -> tuple[list[Any], list[Judged]]:
        async with (
            server_in_loop(with_second_look(bundle)) as (_, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            questions: list[dict[str, Any]] = [{"content": content, "options": options}]
            answers = [{"text": "Paris.", "tokenLogprobs": one} for one in tokens.values()]
            questions += [{"answer": answer, "content": content, "options": options} for answer in answers]
            questions += [{"answer": answers[0], "options": options}, {"answer": answers[0]}]
            said, counts = await asyncio.to_thread(ask, node, address, questions)
            items = [AnswerItem(text="Paris.", token_logprobs=one) for one in tokens.values()]
            return [*said, counts], [await router.check(item, text="hello") for item in items]

    (tried, sure, unsure, by_id, unasked, counts), expected = asyncio.run(run())
    assert (tried["action"], tried["tier"]) == ("try", "weak")
    for judged, python in ((sure, expected[0]), (unsure, expected[1]), (by_id, expected[0])):
        assert (judged["verdict"], judged["model"], judged["pMatch"]) == (python.verdict, python.model, python.p_match)
        assert (judged["head"], tuple(judged["signalsUsed"])) == (python.head, python.signals_used)
    assert [sure["verdict"], unsure["verdict"]] == ["accept", "escalate"]
    assert (unasked["verdict"], unasked["fallbackReason"]) == ("escalate", "invalid_argument")
    assert counts["unchecked"] == {"invalid_argument": 1}
