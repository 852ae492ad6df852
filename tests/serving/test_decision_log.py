"""The decision log of a real server: what each mode keeps of a prompt, what it never keeps, and its bounds."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.builders import tiny_bundle, tiny_manifest, write_manifest
from tests.decision_builders import decided
from tests.gates import until
from tests.running import lifecycle_of, route, server_in_loop, server_process
from tests.spool_builders import records_of
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.redaction import RULES_VERSION
from turnout.serving.service import decision_log
from turnout.serving.service.decision_log import DecisionLog, record_of
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.spool.decision import DecisionRecord, LogDecisions, decode_decision, encode_decision
from turnout.serving.spool.digests import KEY_FILE, digest_key, prompt_digest
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.writer import SpoolLimits, SpoolWriter

CANARY = "zyzzyva-canary"
KEY = b"k" * 32


def decisions_of(spool: Path) -> list[DecisionRecord]:
    return [decode_decision(record.payload) for record in records_of(spool) if record.kind == RecordKind.DECISION]


def logged(
    bundle: Bundle, spool: Path, mode: str, *requests: dict, **options: int
) -> tuple[list, list[DecisionRecord]]:
    """Route the requests with a server that logs; return its answers and what is in the spool then."""

    async def check() -> list:
        served = lifecycle_of(bundle, **options)
        async with server_in_loop(served, spool=spool, log_decisions=LogDecisions(mode)) as (_, address):
            return [await asyncio.to_thread(route, address, **request) for request in requests]

    return asyncio.run(check()), decisions_of(spool)


def test_record_says_what_the_answer_said(bundle: Bundle, tmp_path: Path):
    request = {"text": "hello", "request_id": "r", "tenant": "acme", "task": "chat", "session_id": "s"}
    before_s = time.time()
    (answer,), (record,) = logged(bundle, tmp_path, "full", request)
    assert (record.request_id, record.tenant, record.task, record.session_id) == ("r", "acme", "chat", "s")
    assert (record.route, record.model, record.reason, record.stage) == ("weak", "gpt-4o-mini", "MODEL", "FAST")
    assert (record.p_match, record.threshold) == pytest.approx((answer.p_match, answer.threshold))
    assert (record.policy, record.bundle, record.rule) == (answer.policy, answer.bundle, answer.rule)
    assert (record.weak_cost_usd, record.strong_cost_usd) == (answer.weak_cost_usd, answer.strong_cost_usd)
    assert (record.route_propensity, record.tokens, record.text, record.kept) == (1.0, 2, "hello", "full")
    assert before_s <= record.decided_s <= time.time()


def test_redacted_prompts_keep_their_words_and_lose_their_identifiers(bundle: Bundle, tmp_path: Path):
    _, (record,) = logged(bundle, tmp_path, "redacted", {"text": f"mail {CANARY}@example.org, the word"})
    assert (record.text, record.redaction, record.kept) == ("mail [EMAIL], the word", RULES_VERSION, "redacted")
    assert all(CANARY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_digest_mode_keeps_features_and_no_byte_of_any_prompt(bundle: Bundle, tmp_path: Path):
    texts = [f"{CANARY} hello the word", f"the {CANARY}", f"{CANARY} hello the word"]
    _, records = logged(bundle, tmp_path, "digest", *({"text": text} for text in texts), cache_items=10)
    assert {path.suffix for path in tmp_path.iterdir()} == {".spool", ".key"}
    for path in tmp_path.iterdir():
        raw = path.read_bytes()
        assert not any(part.encode() in raw for part in (CANARY, "zyzzyva", "canary", "hello", "word"))
    assert [record.text for record in records] == [None] * 3
    assert records[0].digest == records[2].digest != records[1].digest
    expected = bundle.model.featurize(Prompt(texts[0]))
    assert np.array_equal(np.frombuffer(records[0].buckets, "<u4"), expected.buckets)
    assert np.array_equal(np.frombuffer(records[0].counts, "<u2"), expected.counts)
    assert np.array_equal(np.frombuffer(records[0].structural, "<f4"), expected.structural)
    assert (records[2].buckets, records[2].feature_schema) == (
        b"",
        0,
    )  # answered from the cache: the first one has them


def test_digest_mode_keeps_the_features_that_the_bundle_reads_and_says_by_which_harness_rules(
    bundle: Bundle, tmp_path: Path
):
    folder = tiny_bundle(tmp_path / "bundle")
    write_manifest(folder, msgspec.structs.replace(tiny_manifest(folder), harness_rules=1))
    spool = tmp_path / "spool"
    texts = ["hello", "hello\n<system-reminder>\nthe word\n</system-reminder>"]
    _, records = logged(load_bundle(folder), spool, "digest", *({"text": text} for text in texts))
    assert [record.harness_rules for record in records] == [1, 1]
    assert records[0].buckets == records[1].buckets != b""
    assert records[0].digest != records[1].digest
    _, (record,) = logged(bundle, tmp_path / "full", "full", {"text": texts[1]})
    assert (record.text, record.harness_rules) == (texts[1], 0)


def test_requests_that_never_reach_the_model_are_logged_too(bundle: Bundle, tmp_path: Path):
    body = b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}'
    too_long = {"text": "word " * 41_000}
    _, records = logged(bundle, tmp_path, "full", {"openai_body": body}, too_long, {"text": "hello"})
    assert [(one.reason, one.images, one.is_left_out) for one in records] == [
        ("RULE", 1, False),
        ("TOO_LONG", 0, True),
        ("MODEL", 0, False),
    ]
    assert (records[1].text, records[1].tokens) == (None, 51_250)


def test_nothing_is_logged_unless_asked_for(bundle: Bundle, tmp_path: Path):
    assert ServerSettings().log_decisions is LogDecisions.OFF
    logged(bundle, tmp_path, "off", {"text": CANARY})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsRefused, match="log_decisions: full needs a folder"):
        ServerSettings(log_decisions=LogDecisions.FULL)


def test_server_logs_as_its_command_line_says(bundle_folder: Path, tmp_path: Path):
    spool = tmp_path / "spool"
    with server_process(
        bundle_folder, tmp_path / "stderr.log", "--log-decisions", "full", spool=spool, workers=2
    ) as server:
        for _ in range(4):
            route(server.address, text="hello")
        server.process.terminate()
        assert server.wait() == 0
    assert [record.text for record in decisions_of(spool)] == ["hello"] * 4
    assert len({record.digest for record in decisions_of(spool)}) == 1  # one key for all workers


def test_decisions_without_room_are_dropped_and_counted_and_the_metric_says_so(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decision_log, "MAX_WAITING_CHARS", 10)

    async def check() -> float:
        settings = {"spool": tmp_path, "log_decisions": LogDecisions.FULL}
        async with server_in_loop(bundle, **settings) as (server, address):
            for text in ("short", "longer than ten characters"):
                assert (await asyncio.to_thread(route, address, text=text)).reason
            registry = server.service.metrics.registry
            log = server.service.decision_log
            await until(lambda: (log.written, log.dropped) == (1, 1))
            await until(lambda: registry.get_sample_value("turnout_decision_log_total", {"result": "written"}) == 1)
            return registry.get_sample_value("turnout_decision_log_total", {"result": "dropped"})

    assert asyncio.run(check()) == 1
    assert [record.text for record in decisions_of(tmp_path)] == ["short"]


def test_log_takes_in_without_waiting_for_a_spool_that_stands_still(tmp_path: Path):
    writer = SpoolWriter(tmp_path, SpoolLimits(max_pending_records=10))
    log = DecisionLog(writer, LogDecisions.FULL, KEY)
    longest_s = 0.0
    with writer._condition:  # nobody gets anything in or out of the spool
        for _ in range(3 * decision_log.MAX_WAITING):
            started_s = time.perf_counter()
            log.log(decided())
            longest_s = max(longest_s, time.perf_counter() - started_s)
        assert len(log._waiting) <= decision_log.MAX_WAITING
    assert longest_s < 10
    log.close(within_s=600.0)
    writer.close()
    assert log.offered == 3 * decision_log.MAX_WAITING == log.written + log.dropped
    assert len(decisions_of(tmp_path)) == log.written


def test_a_decision_that_can_not_be_encoded_is_counted_and_the_next_one_written(tmp_path: Path, caplog):
    writer = SpoolWriter(tmp_path, SpoolLimits())
    log = DecisionLog(writer, LogDecisions.FULL, KEY)
    log.log(decided(f"{CANARY}\ud800"))
    log.log(decided("fine"))
    log.close(within_s=600.0)
    writer.close()
    assert (log.written, log.dropped) == (1, 1)
    assert [record.text for record in decisions_of(tmp_path)] == ["fine"]
    assert "UnicodeEncodeError" in caplog.text
    assert CANARY not in caplog.text


def test_key_is_made_once_for_its_owner_alone_and_tells_spools_apart(tmp_path: Path):
    key = digest_key(tmp_path)
    assert digest_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert prompt_digest(Prompt("x"), key) != prompt_digest(Prompt("x"), os.urandom(32))
    assert prompt_digest(Prompt("x"), key) != prompt_digest(Prompt("x", turns=2), key)
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(OSError, match="expected 32 bytes, got 5"):
        digest_key(tmp_path)


def test_record_survives_its_payload():
    record = record_of(decided("hello"), LogDecisions.FULL, KEY)
    assert decode_decision(encode_decision(record)) == record
