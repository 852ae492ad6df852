"""Lessons: rows that can teach bring their vector, decisions stay what they were, and no lesson costs a decision."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.decision_builders import decided
from tests.gates import until
from tests.log_builders import record
from tests.running import lifecycle_of, server_in_loop
from tests.serving.test_decision_log import decisions_of
from turnout.serving.bundles.bundle import TOKENIZER, Bundle, load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.ties import key_digest
from turnout.serving.service import decision_log
from turnout.serving.service.decision_log import DecisionLog
from turnout.serving.service.lessons import Lessons
from turnout.serving.spool.decision import DecisionRecord, LogDecisions
from turnout.serving.spool.writer import SpoolLimits, SpoolWriter
from turnout.training.dataset.splits import group_keys
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel

TEXTS = [f"Which of the {number} ferries leaves the northern pier at noon?" for number in range(24)]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a busy machine its time."""
    monkeypatch.setattr(decision_log, "MAX_LATE_S", 60.0)


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return load_bundle(find_bundle())


def routed(
    bundle: Bundle, folder: Path, mode: str, texts: list[str], *, both: float = 1.0, cache_items: int = 0
) -> tuple[list[Any], list[DecisionRecord], float | None]:
    """Return the answers of a server that explores, what it logged, and how many rows it counts as untaught."""
    rules, spool = folder / f"rules-{mode}.toml", folder / mode
    rules.write_text(f"[exploration]\nboth = {both}\n")

    async def ask() -> tuple[list[Any], float | None]:
        served = lifecycle_of(bundle, cache_items=cache_items)
        settings = {"rules": rules, "spool": spool, "log_decisions": LogDecisions(mode)}
        async with (
            server_in_loop(served, **settings) as (server, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            said = [await router.route(text=text, request_id=str(number)) for number, text in enumerate(texts)]
            log = server.service.decision_log
            await until(lambda: log is None or log.written + log.dropped == log.offered)
            registry = server.service.metrics.registry
        return said, registry.get_sample_value("turnout_decision_log_total", {"result": "untaught"})

    said, untaught = asyncio.run(ask())
    return said, decisions_of(spool), untaught


def test_rows_with_both_answers_wanted_bring_what_training_needs_and_no_others_do(
    shipped: Bundle, encoder: EncoderModel, tmp_path: Path
):
    _, records, _ = routed(shipped, tmp_path, "digest", TEXTS, both=0.5)
    flagged = [one for one in records if one.wants_both]
    assert 4 < len(flagged) < 20
    texts = [TEXTS[int(one.request_id)] for one in flagged]
    manifest = shipped.manifest
    table = embed(
        [record(text).prompt for text in texts], encoder, cache_dir=None, harness_rules=manifest.harness_rules
    )
    np.testing.assert_array_equal([np.frombuffer(one.dense, "<f4") for one in flagged], table.dense)
    for one, text in zip(flagged, texts, strict=True):
        salt = manifest.training.group_salt
        assert one.text_key == key_digest(group_keys(record(text), text)[0], salt)
        assert (one.key_salt, one.encoder_sha256) == (salt, encoder.card.sha256)
        assert one.tokenizer_sha256 == manifest.files[TOKENIZER].sha256
        assert (one.characters, one.script) == (len(text), "Latin script")
    others = [one for one in records if not one.wants_both]
    assert {(one.dense, one.text_key, one.key_salt, one.script, one.characters) for one in others} == {
        (b"", b"", "", "", 0)
    }
    assert all(one.buckets for one in records)


def test_decisions_are_the_same_whether_a_log_is_kept_or_not(shipped: Bundle, tmp_path: Path):
    answers = [routed(shipped, tmp_path, mode, TEXTS)[0] for mode in ("off", "digest")]
    said = [[(one.tier, one.p_match, one.stage, one.reason, one.wants_both) for one in some] for some in answers]
    assert said[0] == said[1]
    assert {stage for _, _, stage, _, _ in said[0]} >= {"FAST"}


def test_answer_from_the_cache_brings_features_and_vector_too(shipped: Bundle, tmp_path: Path):
    _, (first, second), _ = routed(shipped, tmp_path, "digest", [TEXTS[0]] * 2, cache_items=10)
    assert second.dense == first.dense != b""
    assert (second.buckets, second.text_key) == (first.buckets, first.text_key)
    assert (second.feature_schema, second.harness_rules) == (first.feature_schema, first.harness_rules)


@pytest.mark.parametrize("mode", ["full", "redacted"])
def test_modes_that_keep_text_run_no_encoder(shipped: Bundle, tmp_path: Path, mode: str):
    _, records, untaught = routed(shipped, tmp_path, mode, TEXTS[:3])
    assert {(one.dense, one.buckets, one.text_key) for one in records} == {(b"", b"", b"")}
    assert not untaught


def test_bundle_without_an_encoder_logs_its_decisions_and_counts_that_they_teach_nothing(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    _, records, untaught = routed(bundle, tmp_path, "digest", ["hello the word"] * 3)
    assert [(one.dense, one.text_key, bool(one.buckets)) for one in records] == [(b"", b"", True)] * 3
    assert untaught == 3
    assert caplog.text.count("its graph holds no encoder") == 1


def test_bundle_that_is_gone_from_the_disk_makes_no_vector_and_says_so(shipped: Bundle, tmp_path: Path, caplog):
    held = load_bundle(shutil.copytree(shipped.folder, tmp_path / "bundle"))
    shutil.rmtree(held.folder)
    lessons = Lessons()
    made = [lessons.of(held, Prompt(text), None) for text in TEXTS[:2]]
    lessons.close()
    assert [one.dense for one in made] == [b"", b""]
    assert caplog.text.count(f"rows of {held.manifest.bundle_id} teach nothing") == 1
    assert "ferries" not in caplog.text


def test_log_that_is_behind_leaves_lessons_out_before_it_drops_decisions(
    shipped: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decision_log, "MAX_WAITING_TAUGHT", -1)
    _, records, untaught = routed(shipped, tmp_path, "digest", TEXTS[:3])
    assert [(one.dense, bool(one.buckets)) for one in records] == [(b"", True)] * 3
    assert untaught == 3


def test_decision_that_has_waited_too_long_is_written_without_its_lesson(shipped: Bundle, tmp_path: Path):
    spool = SpoolWriter(tmp_path, SpoolLimits())
    log = DecisionLog(spool, LogDecisions.DIGEST, b"k" * 32)
    now = decided(TEXTS[0])
    wanted = msgspec.structs.replace(now.decision, wants_both=True)
    now = msgspec.structs.replace(now, decision=wanted, bundle=shipped, decided_s=time.time())
    for one in (now, msgspec.structs.replace(now, decided_s=now.decided_s - 120.0)):
        log.log(one)
        asyncio.run(until(lambda: log.written == log.offered))
    log.close(within_s=600.0)
    spool.close()
    assert [bool(one.dense) for one in decisions_of(tmp_path)] == [True, False]
    assert log.untaught == 1


def test_lesson_that_fails_costs_no_decision(
    shipped: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("turnout.serving.service.lessons.encoder_graph", lambda _: b"no graph")
    _, (one,), untaught = routed(shipped, tmp_path, "digest", TEXTS[:1])
    assert (one.dense, untaught) == (b"", 1)
    assert "a lesson could not be made" in caplog.text
