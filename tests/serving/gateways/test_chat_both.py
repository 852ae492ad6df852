"""Where exploration wants both answers, the other model is asked once the caller has his; both are in the log."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import ALWAYS_STRONG, STRONG, WEAK, asking, script, sdk
from tests.checkers import with_second_look
from tests.http_calls import call, http_server
from tests.stub_upstream import SURE, UNSURE, Said, StubUpstream, stub_upstream
from tests.training.spools import compacted, outcome_rows, rows
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.cli.spool import show
from turnout.serving.decision.prices import cost_usd
from turnout.serving.protocols.http.chat import second
from turnout.serving.router.redaction import RULES_VERSION
from turnout.serving.spool.decision import LogDecisions
from turnout.training.compaction.forget import Whom, forget
from turnout.training.compaction.store import Store, opened
from turnout.training.logs.read import read_records
from turnout.training.logs.records import Record
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.savings import savings

RULES = "[exploration]\nboth = 1.0\n"
MAIL = "ann@example.com"
UNASKED = re.compile(rb'turnout_upstream_calls_total{[^}]*result="unasked"[^}]*} 3')
Use = Callable[[openai.AsyncOpenAI, StubUpstream, str], Awaitable[Any]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("both") / "tiny"))


@pytest.fixture(scope="module")
def bundle(plain: Bundle) -> Bundle:
    return with_second_look(plain)


def using(bundle: Bundle, folder: Path, answers: Any, use: Use, *, compacts: bool = True, **settings: Any) -> Any:
    """Return what `use` does and the stub's state, once the server has ended and its spool is compacted."""
    (folder / "rules.toml").write_text(RULES)
    kept = {"spool": folder / "spool", "log_decisions": LogDecisions.FULL, "rules": folder / "rules.toml"} | settings

    async def run() -> Any:
        with stub_upstream(answers) as stub:
            async with http_server(bundle, upstream=stub.url, **kept) as (_, _, http), sdk(http) as client:
                found = await use(client, stub, http)
            return found, stub

    found, stub = asyncio.run(run())
    if compacts and kept["spool"] is not None:
        compacted(folder / "spool", folder / "logs")
    return found, stub


def logged(bundle: Bundle, folder: Path) -> Record:
    """Return the one row of the log, as `label` and `train` read it."""
    read = read_records(Store(folder / "logs").decision_files(), bundle.manifest.pair)
    (row,) = read.records
    return row


def texts_of(row: Record) -> tuple[str | None, str | None]:
    return None if row.weak is None else row.weak.content, None if row.strong is None else row.strong.content


async def asked(client: openai.AsyncOpenAI, text: str = "hello", *, stream: bool = False, **more: Any) -> Any:
    """Return the headers, the text and the usage of one completion."""
    raw = await client.chat.completions.with_raw_response.create(**asking(text, stream=stream, **more))
    headers, answer = dict(raw.headers.items()), raw.parse()
    if not stream:
        return headers, answer.choices[0].message.content, answer.usage
    chunks = [chunk async for chunk in answer]
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return headers, said.strip(), next((chunk.usage for chunk in chunks if chunk.usage), None)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("looks", "text", "action", "models"),
    [
        (2, "hello", "try", [WEAK, STRONG]),
        (1, "hello", "weak", [WEAK, STRONG]),
        (1, ALWAYS_STRONG, "strong", [STRONG, WEAK]),
    ],
    ids=["try", "weak", "strong"],
)
def test_both_answers_land_in_the_log_and_one_is_shown(
    plain: Bundle,
    bundle: Bundle,
    tmp_path: Path,
    looks: int,
    text: str,
    action: str,
    models: list[str],
    *,
    stream: bool,
):
    more = {"stream_options": {"include_usage": True}} if stream else {}

    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await asked(client, text, stream=stream, **more)

    answers = script(Said(text="Paris it is.", logprob=SURE))
    served = bundle if looks == 2 else plain
    (headers, said, usage), stub = using(served, tmp_path, answers, use)
    assert stub.models == models
    both = "Paris it is.", "Paris, I am certain."
    assert said == both[models[0] == STRONG]
    assert (headers["x-turnout-action"], headers["x-turnout-wants-both"]) == (action, "true")
    assert headers["x-turnout-calls"] == f"{models[0]}=ok"
    assert usage.total_tokens == (110 if models[0] == WEAK else 130)
    assert not {"stream", "stream_options"} & stub.bodies[1].keys()
    row = logged(served, tmp_path)
    assert texts_of(row) in (both, (f"{both[0]} ", both[1]), (both[0], f"{both[1]} "))
    assert (row.pair_propensity, row.weak.completion_tokens, row.strong.completion_tokens) == (1.0, 10, 30)
    if models[0] == STRONG or looks == 2:
        assert row.weak.mean_logprob == pytest.approx(SURE)


def test_after_an_escalation_both_have_answered_already(bundle: Bundle, tmp_path: Path):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await asked(client)

    (headers, _, _), stub = using(bundle, tmp_path, script(Said(logprob=UNSURE)), use)
    assert (headers["x-turnout-verdict"], stub.models) == ("escalate", [WEAK, STRONG])
    assert texts_of(logged(bundle, tmp_path)) == ("Paris.", "Paris, I am certain.")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_caller_never_waits_for_the_other_model(plain: Bundle, tmp_path: Path, *, stream: bool):
    has_answer, waited = threading.Event(), []

    def answers(model: str, _: str) -> Said:
        if model == STRONG:
            waited.append(has_answer.wait(60))
        return Said()

    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        _, said, _ = await asked(client, stream=stream)
        has_answer.set()
        return said

    said, stub = using(plain, tmp_path, answers, use)
    assert (said, waited, stub.models) == ("Paris.", [True], [WEAK, STRONG])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strong", "code"),
    [
        (Said(status=429), "429"),
        (Said(status=500), "500"),
        (Said(raw=b"<html>"), "not_json"),
        (Said(raw=b"[" * 100_000), "not_json"),
        (Said(hang_s=20), "timeout"),
        (Said(raw=b'{"choices": "none"}'), "no_answer"),
    ],
    ids=range(6),
)
def test_whatever_the_other_model_does_the_callers_answer_stands(
    plain: Bundle, tmp_path: Path, strong: Said, code: str
):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return [(await asked(client))[1] for _ in range(2)]

    said, stub = using(plain, tmp_path, script(Said(), strong), use, upstream_timeout_s=5.0 if strong.hang_s else 60.0)
    assert (said, stub.models.count(WEAK), stub.models.count(STRONG)) == (["Paris.", "Paris."], 2, 2)
    of_strong = [(one["text"], one["error_code"]) for one in outcome_rows(tmp_path / "logs") if one["model"] == STRONG]
    assert of_strong == [(None, code), (None, code)]


def test_few_are_asked_at_once_and_the_others_are_counted(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(second, "MAX_AT_ONCE", 2)
    goes_on, waiting = threading.Event(), []

    def answers(model: str, _: str) -> Said:
        if model == STRONG:
            waiting.append(model)
            goes_on.wait(60)
        return Said()

    async def use(client: openai.AsyncOpenAI, _: StubUpstream, http: str) -> Any:
        for _ in range(5):
            await asked(client)
        async with asyncio.timeout(60):
            while len(waiting) < 2 or not UNASKED.search((await call(http, "/metrics")).body):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        goes_on.set()

    _, stub = using(plain, tmp_path, answers, use)
    assert stub.models.count(STRONG) == 2


@pytest.mark.parametrize("mode", [LogDecisions.REDACTED, LogDecisions.DIGEST])
def test_answers_are_kept_as_prompts_are(plain: Bundle, tmp_path: Path, mode: LogDecisions):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await asked(client)

    _, stub = using(plain, tmp_path, script(Said(text=f"Ask {MAIL}.")), use, log_decisions=mode)
    assert stub.models == [WEAK, STRONG]
    (weak,) = [one for one in outcome_rows(tmp_path / "logs") if one["model"] == WEAK]
    if mode is LogDecisions.DIGEST:
        assert (weak["kept"], weak["text"]) == ("", None)
        assert "Paris" not in str(rows(tmp_path / "logs"))
    else:
        assert (weak["kept"], weak["redaction"]) == ("redacted", RULES_VERSION)
        assert weak["text"].startswith("Ask ")
        assert MAIL not in weak["text"]


@pytest.mark.parametrize(
    "settings", [{"log_decisions": LogDecisions.OFF}, {"log_decisions": LogDecisions.OFF, "spool": None}]
)
def test_without_a_decision_log_nobody_else_is_asked(plain: Bundle, tmp_path: Path, settings: dict[str, Any]):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await asked(client)

    _, stub = using(plain, tmp_path, script(Said()), use, **settings)
    assert stub.models == [WEAK]


def test_what_was_kept_is_forgotten_and_never_printed(
    plain: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        await asked(client, extra_headers={"x-turnout-tenant": "acme"})
        await asked(client, extra_headers={"x-turnout-tenant": "other"})

    using(plain, tmp_path, script(Said(text="Zanzibar")), use, compacts=False)
    assert show(tmp_path / "spool", as_json=True) == 0
    assert "Zanzibar" not in capsys.readouterr().out
    compacted(tmp_path / "spool", tmp_path / "logs")
    with opened(tmp_path / "logs") as store:
        forget(store, None, Whom(tenant="acme"))
    left = [*outcome_rows(tmp_path / "logs"), *rows(tmp_path / "logs")]
    assert {one["tenant"] for one in left} == {"other"}
    assert "Zanzibar" in str(left)


def test_the_ledger_is_what_the_upstream_billed(bundle: Bundle, tmp_path: Path):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        for text in ("hello", ALWAYS_STRONG):
            await asked(client, text)

    _, stub = using(bundle, tmp_path, script(Said(logprob=SURE)), use)
    billed = sum(cost_usd(body["model"], 100, 10 if body["model"] == WEAK else 30, 4) for body in stub.bodies)
    found = savings(read_decisions(tmp_path / "logs"), Machine(0.0, 0.0))
    assert len(stub.bodies) == 4
    assert found.spent_usd == pytest.approx(billed, abs=1e-12)
    assert found.second_usd == pytest.approx(cost_usd(STRONG, 100, 30, 4) + cost_usd(WEAK, 100, 10, 4), abs=1e-12)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_responses_api_likewise_and_nothing_more_is_stored(plain: Bundle, tmp_path: Path, *, stream: bool):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        found = await client.responses.create(model="auto", input="hello", stream=stream)
        return [event async for event in found][-1].response.output_text if stream else found.output_text

    said, stub = using(plain, tmp_path, script(Said()), use)
    assert (said, stub.models) == ("Paris.", [WEAK, STRONG])
    assert (stub.bodies[1]["store"], stub.bodies[1].get("stream")) == (False, None)
    assert texts_of(logged(plain, tmp_path)) == ("Paris.", "Paris, I am certain.")


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_0"},
        {"conversation": "c"},
        {"background": True},
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}]},
    ],
    ids=["previous", "conversation", "background", "mcp"],
)
def test_what_would_change_something_at_the_vendor_is_not_repeated(plain: Bundle, tmp_path: Path, more: dict[str, Any]):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        await client.responses.create(model="auto", input="hello", **more)

    _, stub = using(plain, tmp_path, script(Said()), use)
    assert len(stub.models) == 1


def test_several_choices_are_not_repeated(plain: Bundle, tmp_path: Path):
    async def use(client: openai.AsyncOpenAI, *_: Any) -> Any:
        return await asked(client, n=2)

    assert len(using(plain, tmp_path, script(Said()), use)[1].models) == 1
