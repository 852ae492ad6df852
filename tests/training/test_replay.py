"""Replay, from the command line, against a real endpoint."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import gateway_builders as build
from tests.fake_endpoint import API_KEY, FakeEndpoint, Fault, fake_endpoint
from tests.log_builders import flat_row, gateway_row, user, write_log
from tests.training.judging import KEY_ENV, PRICE_INPUT, PRICE_OUTPUT, start, turnout
from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.read import read_records


def echo(body: dict[str, Any]) -> str:
    return f"weak says: {body['messages'][-1]['content']}"


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint(answer=echo) as running:
        yield running


@pytest.fixture
def run(monkeypatch, capsys) -> Callable:
    return lambda *given: turnout(monkeypatch, capsys, *given)


def strong_only(row: int, **fields: Any) -> dict[str, Any]:
    return gateway_row(f"Question {row}?", id=f"r{row}", responses={"gpt-4o": {"content": f"strong {row}"}}, **fields)


def command(endpoint: FakeEndpoint, log: Path, out: Path, *more: object) -> list[str]:
    given = {"--base-url": endpoint.url, "--key-env": KEY_ENV}
    given |= {"--price-input": PRICE_INPUT, "--price-output": PRICE_OUTPUT}
    ours = [word for name, value in given.items() if name not in more for word in (name, value)]
    return [str(one) for one in ("replay", log, "--out", out, *ours, *more)]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_replayed_rows_are_read_back_with_both_answers_and_their_probability(endpoint, run, tmp_path):
    log = write_log(tmp_path / "log.jsonl", [strong_only(row, task="qa", created=1.5) for row in range(40)])
    out = tmp_path / "replayed.jsonl"
    ended = run(*command(endpoint, log, out, "--sample", 10, "--json"))
    assert ended.code == 0, ended.err
    ledger = json.loads(ended.out)
    assert (ledger["candidates"], ledger["sampled"], ledger["replayed"], ledger["calls"]) == (40, 10, 10, 10)
    read = read_records([out], Pair())
    assert (len(read.records), len(read.quarantine)) == (10, 0)
    for record in read.records:
        assert record.strong.content == f"strong {record.id[1:]}"
        assert record.weak.content == f"weak says: Question {record.id[1:]}?"
        assert (record.task, record.created, record.pair_propensity) == ("qa", 1.5, 0.25)
        assert record.weak.completion_tokens == 40
    lines = [int(record.id[1:]) for record in read.records]
    assert lines == sorted(lines)


def test_the_request_goes_out_as_logged_but_for_what_concerns_that_call_alone(endpoint, run, tmp_path):
    messages = [
        {"role": "system", "content": "Be brief"},
        user("One?"),
        {"role": "assistant", "content": "1"},
        user("Two?"),
    ]
    body = {"model": "gpt-4o", "messages": messages, "temperature": 0.3, "max_tokens": 77, "stream": True, "user": "u1"}
    row = {"id": "a", "request": body, "responses": {"gpt-4o": {"content": "2"}}}
    log = write_log(tmp_path / "log.jsonl", [row, strong_only(1)])
    assert run(*command(endpoint, log, tmp_path / "o.jsonl", "--model", "vendor/gpt-4o-mini")).code == 0
    sent = sorted(endpoint.bodies, key=lambda one: len(one["messages"]), reverse=True)
    assert sent[0] == {"model": "vendor/gpt-4o-mini", "messages": messages, "temperature": 0.3, "max_tokens": 77}
    assert sent[1]["max_completion_tokens"] == 4096
    assert rows_of(tmp_path / "o.jsonl")[0]["request"] == body


def test_rows_with_both_answers_images_or_no_messages_are_left_out_and_counted(endpoint, run, tmp_path):
    both = gateway_row("Both?", responses={"gpt-4o": {"content": "a"}, "gpt-4o-mini": {"content": "b"}})
    image = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "http://h/i.png"}}]
    seen = {"request": {"messages": [{"role": "user", "content": image}]}, "responses": {"gpt-4o": {"content": "a"}}}
    flat = flat_row("Flat?", strong_response="yes")
    log = write_log(tmp_path / "log.jsonl", [both, seen, flat, strong_only(1)])
    ended = run(*command(endpoint, log, tmp_path / "o.jsonl", "--json"))
    ledger = json.loads(ended.out)
    assert (ledger["candidates"], ledger["skipped"], ledger["replayed"]) == (2, {"images": 1}, 2)
    assert {body["messages"][0]["content"] for body in endpoint.bodies} == {"Flat?", "Question 1?"}


def test_probability_that_the_router_chose_strong_enters_the_propensity(endpoint, run, tmp_path):
    log = write_log(tmp_path / "log.jsonl", [strong_only(row, route_propensity=0.4) for row in range(4)])
    run(*command(endpoint, log, tmp_path / "o.jsonl", "--sample", 2))
    assert [row["pair_propensity"] for row in rows_of(tmp_path / "o.jsonl")] == [0.2, 0.2]


def test_plan_by_task_takes_as_many_of_each(endpoint, run, tmp_path):
    rows = [strong_only(row, task="rare" if row < 10 else "common") for row in range(100)]
    log = write_log(tmp_path / "log.jsonl", rows)
    assert run(*command(endpoint, log, tmp_path / "o.jsonl", "--sample", 10, "--plan", "task")).code == 0
    replayed = rows_of(tmp_path / "o.jsonl")
    assert Counter(row["task"] for row in replayed) == {"rare": 5, "common": 5}
    assert {row["task"]: row["pair_propensity"] for row in replayed} == pytest.approx({"rare": 0.5, "common": 5 / 90})


def test_plan_by_uncertainty_prefers_prompts_that_the_bundle_doubts(endpoint, run, tmp_path, bundle_folder):
    """The tiny bundle is surest of short prompts."""
    prompts = ["Hi"] * 60 + ["word " * 60] * 60
    rows = [
        gateway_row(f"{prompt} {'x' * (row % 7)}", id=str(row), responses={"gpt-4o": {"content": "a"}})
        for row, prompt in enumerate(prompts)
    ]
    log = write_log(tmp_path / "log.jsonl", rows)
    given = ["--sample", 40, "--plan", "uncertainty", "--bundle", bundle_folder]
    assert run(*command(endpoint, log, tmp_path / "o.jsonl", *given)).code == 0
    replayed = rows_of(tmp_path / "o.jsonl")
    assert len(replayed) == 40
    by_length = {int(row["id"]) >= 60: row["pair_propensity"] for row in replayed}
    assert by_length[True] > by_length[False] > 0
    weighted = sum(1 / row["pair_propensity"] for row in replayed)
    assert weighted == pytest.approx(120, rel=0.15)


def test_a_cap_leaves_a_random_part_and_the_propensity_says_so(endpoint, run, tmp_path):
    log = write_log(tmp_path / "log.jsonl", [strong_only(row) for row in range(40)])
    ended = run(*command(endpoint, log, tmp_path / "o.jsonl", "--sample", 20, "--max-calls", 5, "--json"))
    assert json.loads(ended.out)["failed"] == {"capped": 15}
    assert endpoint.n_billed == 5
    assert [row["pair_propensity"] for row in rows_of(tmp_path / "o.jsonl")] == [0.125] * 5
    assert [row["id"] for row in rows_of(tmp_path / "o.jsonl")] != [f"r{row}" for row in range(5)]
    run(*command(endpoint, log, tmp_path / "o.jsonl", "--sample", 20))
    assert endpoint.n_billed == 20


def test_dry_run_sends_and_writes_nothing(endpoint, run, tmp_path):
    log = write_log(tmp_path / "log.jsonl", [strong_only(row) for row in range(4)])
    ended = run(*command(endpoint, log, tmp_path / "o.jsonl", "--dry-run"))
    assert "4 rows, 4 calls, 0 of them in the cache" in ended.out
    assert (endpoint.bodies, list(tmp_path.iterdir())) == ([], [log])


def test_tool_calls_are_kept(endpoint, run, tmp_path, monkeypatch):
    called = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [called]}
    completion = {"choices": [{"message": message, "finish_reason": "tool_calls", "index": 0}]}
    shape = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    monkeypatch.setattr(endpoint, "_completion", lambda *_: json.dumps(shape | completion).encode())
    log = write_log(tmp_path / "log.jsonl", [strong_only(0)])
    assert run(*command(endpoint, log, tmp_path / "o.jsonl")).code == 0
    (record,) = read_records([tmp_path / "o.jsonl"], Pair()).records
    assert json.loads(record.weak.content) == [{"add": {"a": 1}}]


def test_rows_that_the_endpoint_refuses_are_counted_and_left_out(endpoint, run, tmp_path):
    endpoint.faults = lambda _, body: Fault(400) if "Question 2?" in str(body) else None
    log = write_log(tmp_path / "log.jsonl", [strong_only(row) for row in range(4)])
    ledger = json.loads(run(*command(endpoint, log, tmp_path / "o.jsonl", "--json")).out)
    assert (ledger["replayed"], ledger["failed"]) == (3, {"refused": 1})


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        (["--plan", "cleverly"], 2, "expected one of uniform, task, uncertainty"),
        (["--key-env", "TURNOUT_NO_SUCH_KEY"], 2, "TURNOUT_NO_SUCH_KEY"),
        (["--column", "responses=absent"], 1, "absent"),
    ],
)
def test_misuse_ends_with_its_code_and_one_line(endpoint, run, tmp_path, extra, code, said):
    log = write_log(tmp_path / "log.jsonl", [strong_only(0)])
    ended = run(*command(endpoint, log, tmp_path / "o.jsonl", "--quiet", *extra))
    assert (ended.code, endpoint.bodies) == (code, [])
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_log_without_strong_only_rows_is_refused(endpoint, run, tmp_path):
    log = write_log(tmp_path / "log.jsonl", [gateway_row("Why?", responses={"gpt-4o-mini": {"content": "a"}})])
    ended = run(*command(endpoint, log, tmp_path / "o.jsonl"))
    assert (ended.code, "only the strong answer" in ended.err) == (1, True)


@pytest.mark.slow
def test_killed_replay_goes_on_where_it_was(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [strong_only(row) for row in range(200)])
    out = tmp_path / "o.jsonl"
    with fake_endpoint(answer=echo, latency_s=0.01, is_idempotent=True) as endpoint:
        given = command(endpoint, log, out, "--sample", 150, "--quiet")
        for wanted in (10, 45, 90):
            process = start(*given)
            while process.poll() is None and len(endpoint.bodies) < wanted:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
            assert not out.exists()
        assert start(*given).wait(60) == 0
        first = out.read_bytes()
        assert start(*given).wait(60) == 0
        assert out.read_bytes() == first
        assert (endpoint.n_billed, endpoint.billed_twice) == (150, 0)
    assert len(rows_of(out)) == 150
    assert API_KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def tool_span() -> dict[str, Any]:
    """Return a span whose conversation went through a tool: its messages carry no id of the call."""
    called = {"type": "tool_call_response", "response": "4"}
    asked = [build.parts("user", build.text_part("2+2?")), build.parts("tool", called)]
    return build.span(build.chat_attributes() | {"gen_ai.input.messages": json.dumps(asked)})


def test_gateway_logs_are_replayed_too_where_they_hold_what_was_sent(endpoint, run, tmp_path):
    logs = [
        write_log(tmp_path / "litellm.jsonl", [build.spend_log("Litellm?")]),
        write_log(tmp_path / "otel.jsonl", [build.otlp(build.span(build.chat_attributes("Span?")), tool_span())]),
        write_log(tmp_path / "input.jsonl", [build.batch_input("b1", "Batch?")]),
        write_log(tmp_path / "output.jsonl", [build.batch_output("b1")]),
        write_log(
            tmp_path / "both.jsonl", [build.openai_pair("Both?", model=name) for name in ("gpt-4o", "gpt-4o-mini")]
        ),
    ]
    out = tmp_path / "o.jsonl"
    ended = run("replay", *map(str, logs), *command(endpoint, logs[0], out, "--json")[2:])
    ledger = json.loads(ended.out)
    assert (ledger["candidates"], ledger["skipped"], ledger["replayed"]) == (3, {"no_request": 1}, 3)
    records = read_records([out], Pair()).records
    assert [record.prompt.text for record in records] == ["Litellm?", "Span?", "Batch?"]
    assert [records[number].weak.content for number in (0, 2)] == ["weak says: Litellm?", "weak says: Batch?"]


def test_redact_leaves_no_personal_data_in_any_file_and_sends_what_was_logged(endpoint, run, tmp_path):
    secret = "ann@example.org"
    row = gateway_row(f"Greet {secret}", id="r", responses={"gpt-4o": {"content": f"Hi {secret}"}}, reference=secret)
    log, out = write_log(tmp_path / "log.jsonl", [row]), tmp_path / "out" / "o.jsonl"
    out.parent.mkdir()
    run(*command(endpoint, log, out, "--redact"))
    assert endpoint.bodies[0]["messages"][0]["content"] == f"Greet {secret}"
    (written,) = rows_of(out)
    assert written["request"]["messages"][0]["content"] == "Greet [EMAIL]"
    assert written["responses"]["gpt-4o-mini"]["content"] == "weak says: Greet [EMAIL]"
    assert not any(secret.encode() in file.read_bytes() for file in out.parent.iterdir())


def test_redact_also_covers_answers_that_an_earlier_run_kept_as_they_were(endpoint, run, tmp_path):
    log = write_log(tmp_path / "log.jsonl", [strong_only(1, reference="x") | gateway_row("a@example.org", id="r")])
    out = tmp_path / "o.jsonl"
    run(*command(endpoint, log, out))
    assert b"a@example.org" in out.read_bytes()
    run(*command(endpoint, log, out, "--redact"))
    assert (b"a@example.org" in out.read_bytes(), endpoint.n_billed) == (False, 1)
