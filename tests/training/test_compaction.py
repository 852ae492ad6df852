"""Compaction: every record once, joined with what is known of it, however killed; forgetting leaves nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.running import environment
from tests.training.spools import (
    DAY_S,
    NOON_S,
    check,
    check_rows,
    compacted,
    decision,
    outcome,
    outcome_rows,
    rows,
    sealed,
)
from turnout.serving.bundles.manifest import Pair
from turnout.serving.spool.framing import HEADER_BYTES, RECORD_BYTES
from turnout.training.compaction.forget import Forgotten, Whom, forget
from turnout.training.compaction.store import opened, read_table, write_table
from turnout.training.errors import DataRefused
from turnout.training.labels import label_records
from turnout.training.logs.read import read_records


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_decisions_are_joined_with_their_outcomes_and_the_spool_file_is_gone(spool: Path, out: Path):
    sealed(spool, [decision("a"), decision("b"), outcome("a", score=0.5, completion_tokens=9)])
    done = compacted(spool, out)
    assert (done.files, done.decisions, done.outcomes) == (1, 2, 1)
    assert list(spool.glob("*.spool")) == []
    first, second = rows(out)
    answer = json.loads(first["responses"])["gpt-4o-mini"]
    assert (first["id"], answer["score"], answer["usage"]["completion_tokens"]) == ("a", 0.5, 9)
    assert (second["id"], second["responses"], second["prompt"]) == ("b", None, "What is b?")


@pytest.mark.parametrize("decision_first", [True, False])
def test_outcome_of_another_file_is_joined_whichever_comes_first(spool: Path, out: Path, decision_first: bool):
    files = [[decision("a")], [outcome("a", score=0.25)]]
    for number, records in enumerate(files if decision_first else reversed(files)):
        sealed(spool, records, number)
        compacted(spool, out)
    (row,) = rows(out)
    assert json.loads(row["responses"])["gpt-4o-mini"]["score"] == 0.25


def test_repeated_outcomes_count_once_and_the_latest_counts(spool: Path, out: Path):
    sealed(spool, [decision("a"), outcome("a", score=0.0), outcome("a", score=0.0, received_s=NOON_S + 61)])
    assert (done := compacted(spool, out)).outcomes == 1
    assert done.outcomes_repeated == 1
    sealed(spool, [outcome("a", score=1.0, received_s=NOON_S + 3600)], 2)
    assert compacted(spool, out).joined_late == 1
    (row,) = rows(out)
    assert json.loads(row["responses"])["gpt-4o-mini"]["score"] == 1.0


def test_a_later_score_leaves_the_tokens_and_a_self_check_stands_beside_the_answer(spool: Path, out: Path):
    tokens = {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 4}
    asked = {"prompt_tokens": 150, "completion_tokens": 1, "is_self_check": True}
    records = [decision("a"), outcome("a", score=None, **tokens), outcome("a", score=None, **asked)]
    sealed(spool, [*records, outcome("a", score=0.5, received_s=NOON_S + 99)])
    compacted(spool, out)
    (row,) = rows(out)
    answer = json.loads(row["responses"])["gpt-4o-mini"]
    assert (answer["score"], answer["usage"]) == (0.5, tokens)
    assert answer["self_check_usage"] == {"prompt_tokens": 150, "completion_tokens": 1, "cached_tokens": None}


def test_outcomes_of_before_that_lack_a_column_are_still_joined(spool: Path, out: Path):
    sealed(spool, [outcome("a", score=0.25)])
    compacted(spool, out)
    (path,) = (out / "outcomes").glob("*.parquet")
    write_table(path, read_table(path).drop_columns(["is_self_check"]))
    sealed(spool, [decision("a"), outcome("b")], 2)
    compacted(spool, out)
    (row,) = rows(out)
    assert json.loads(row["responses"])["gpt-4o-mini"]["score"] == 0.25


def test_outcome_that_names_another_tenant_is_not_joined(spool: Path, out: Path):
    mine, foreign = (
        outcome("a", tenant="acme", score=0.5),
        outcome("a", tenant="other", score=0.0, received_s=NOON_S + 99),
    )
    sealed(spool, [decision("a", tenant="acme"), mine, foreign])
    compacted(spool, out)
    (row,) = rows(out)
    assert json.loads(row["responses"])["gpt-4o-mini"]["score"] == 0.5


def test_label_reads_single_answers_as_such_and_pairs_with_a_label(spool: Path, out: Path):
    pair = [outcome("both", model="gpt-4o", score=1.0), outcome("both", model="gpt-4o-mini", score=0.0)]
    facts = {"turns": 3, "tools": 2, "wants_json": True}
    sealed(spool, [decision("one", **facts), outcome("one"), decision("both"), *pair, decision("none")])
    compacted(spool, out)
    (path,) = (out / "decisions").glob("day=2026-11-21/*.parquet")
    read = read_records([path], Pair())
    assert read.quarantine == []
    records = {record.id: record for record in read.records}
    assert (records["one"].strong, records["one"].weak.score) == (None, 1.0)
    assert (records["one"].prompt.turns, records["one"].prompt.tools, records["one"].prompt.wants_json) == (3, 2, True)
    assert records["one"].created == NOON_S
    found = label_records(read.records)
    assert [(row.record.id, row.label.match) for row in found.labelled] == [("both", 0)]
    assert found.unlabelled == {"only_weak": 1, "no_answer": 1}


def test_pairs_carry_the_probability_of_their_flag_and_pairs_that_nobody_flagged_carry_none(spool: Path, out: Path):
    names = {"route": "weak", "model": "gpt-4o-mini", "other_model": "gpt-4o", "pair_propensity": 0.25}
    by_tier = [outcome("flagged", tier="weak", score=0.0), outcome("flagged", tier="strong", score=1.0)]
    by_name = [outcome("own", model="gpt-4o-mini", score=0.0), outcome("own", model="gpt-4o", score=1.0)]
    sealed(spool, [decision("flagged", wants_both=True, **names), *by_tier, decision("own", **names), *by_name])
    compacted(spool, out)
    (path,) = (out / "decisions").glob("day=*/*.parquet")
    records = {record.id: record for record in read_records([path], Pair()).records}
    assert {(one.weak.score, one.strong.score) for one in records.values()} == {(0.0, 1.0)}
    assert (records["flagged"].pair_propensity, records["own"].pair_propensity) == (0.25, None)


def test_outcomes_are_joined_into_files_of_before_that_lack_columns(spool: Path, out: Path):
    sealed(spool, [decision("a")])
    compacted(spool, out)
    (path,) = (out / "decisions").glob("day=*/*.parquet")
    write_table(path, read_table(path).drop_columns(["wants_both", "pair_propensity", "exploration", "other_model"]))
    sealed(spool, [outcome("a", score=0.25)], 2)
    assert compacted(spool, out).joined_late == 1
    (row,) = rows(out)
    assert json.loads(row["responses"])["gpt-4o-mini"]["score"] == 0.25


def test_features_of_digest_mode_come_back_as_they_were(spool: Path, out: Path):
    buckets, counts = np.array([1, 262_143], "<u4"), np.array([1, 2048], "<u2")
    structural = np.linspace(0, 1, 16, dtype="<f4")
    features = {"buckets": buckets.tobytes(), "counts": counts.tobytes(), "structural": structural.tobytes()}
    sealed(spool, [decision("a", kept="digest", text=None, feature_schema=1, harness_rules=1, **features)])
    compacted(spool, out)
    (row,) = rows(out)
    assert (row["prompt"], row["lexical_buckets"], row["lexical_counts"]) == (None, [1, 262_143], [1, 2048])
    assert row["structural"] == structural.tolist()
    assert (row["feature_schema"], row["harness_rules"]) == (1, 1)


def test_days_are_apart_and_old_ones_go(spool: Path, out: Path):
    aged = [decision(f"{age}", decided_s=NOON_S - age * DAY_S) for age in range(4)]
    sealed(spool, [*aged, *(outcome(f"{age}", received_s=NOON_S - age * DAY_S) for age in range(4))])
    assert compacted(spool, out).decisions == 4
    assert len(list((out / "decisions").iterdir())) == 4
    assert compacted(spool, out, keep_days=1).expired == 4
    assert [row["id"] for row in rows(out)] == ["0", "1"]
    assert {row["request_id"] for row in outcome_rows(out)} == {"0", "1"}
    assert len(list((out / "decisions").iterdir())) == 2


def test_damage_is_counted_and_its_file_stays_in_the_spool_but_is_not_read_twice(spool: Path, out: Path):
    path = sealed(spool, [decision("a"), decision("b"), outcome("b")])
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + RECORD_BYTES] ^= 1
    path.write_bytes(raw)
    done = compacted(spool, out)
    assert (done.damages, done.decisions, done.outcomes, path.exists()) == (1, 1, 1, True)
    before = files_of(out)
    assert compacted(spool, out).decisions == 0
    assert files_of(out) == before


def test_a_second_run_at_the_same_time_is_refused(spool: Path, out: Path):
    sealed(spool, [decision("a")])
    with opened(out, make=True), pytest.raises(DataRefused, match="another turnout logs command"):
        compacted(spool, out)


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_ends_with_the_same_rows(tmp_path: Path):
    def fill(spool: Path) -> None:
        for number in range(6):
            mine = [decision(f"{number}-{n}", decided_s=NOON_S - (n % 3) * DAY_S) for n in range(300)]
            of_next = [outcome(f"{(number + 1) % 6}-{n}", score=n / 300) for n in range(0, 300, 2)]
            sealed(spool, [*mine, *of_next], number)

    fill(tmp_path / "whole")
    compacted(tmp_path / "whole", tmp_path / "expected")
    expected = rows(tmp_path / "expected")
    assert len(expected) == 1800
    assert sum(row["responses"] is not None for row in expected) == 900
    moments = random.Random(6)
    n_killed = n_in_between = 0
    for trial in range(8):
        spool, out = tmp_path / f"spool-{trial}", tmp_path / f"out-{trial}"
        fill(spool)
        command = [sys.executable, "-m", "turnout.serving.cli.app", "logs", "compact", str(spool), "--out", str(out)]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60
        while len(list(out.glob("outcomes/*.parquet"))) < trial % 5 and time.monotonic() < deadline_s:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        n_killed += process.wait() == -9
        n_in_between += len(list(spool.glob("*.spool"))) not in (0, 6)
        compacted(spool, out)
        assert rows(out) == expected
        assert list(spool.glob("*.spool")) == []
        assert not [name for name in files_of(out) if name.endswith(".tmp")]
    assert n_killed >= 3
    assert n_in_between >= 1


def forgotten(out: Path, spool: Path | None = None, **whom: str) -> Forgotten:
    with opened(out) as store:
        return forget(store, spool, Whom(**whom))


def test_verdicts_are_rows_of_their_own_and_old_ones_go(spool: Path, out: Path):
    old = check("old", checked_s=NOON_S - 9 * DAY_S)
    sealed(spool, [decision("a", action="try"), check("a"), check("b", kept="digest", text=None), old])
    done = compacted(spool, out, keep_days=5)
    assert (done.decisions, done.checks, done.expired, done.unknown) == (1, 2, 1, 0)
    assert list(spool.glob("*.spool")) == []
    first, second = check_rows(out)
    assert (first["id"], first["verdict"], first["weak_response"]) == ("a", "accept", "The answer to a.")
    assert first["weak_token_logprobs"] == [-0.5, -0.25]
    assert (second["id"], second["weak_response"], second["answer_kept"]) == ("b", None, "digest")
    assert rows(out)[0]["action"] == "try"


def test_forgetting_takes_verdicts_and_answers_along(spool: Path, out: Path):
    canary = "canary-of-the-answer"
    ours = [decision("1", tenant="acme"), check("1", text=canary), check("1", tenant="acme", text=canary)]
    theirs = [decision("2", tenant="other"), check("2", tenant="other")]
    sealed(spool, [*ours, *theirs], 1)
    compacted(spool, out)
    sealed(spool, [*ours, *theirs], 2)
    assert forgotten(out, spool, tenant="acme") == Forgotten(decisions=2, checks=4)
    assert not [name for name, raw in {**files_of(out), **files_of(spool)}.items() if canary.encode() in raw]
    assert [row["id"] for row in check_rows(out)] == ["2"]
    compacted(spool, out)
    assert [row["id"] for row in check_rows(out)] == ["2", "2"]


def test_forgetting_passes_over_a_file_without_any_outcome(spool: Path, out: Path):
    sealed(spool, [decision("a", tenant="acme")])
    compacted(spool, out)
    assert forgotten(out, tenant="acme").decisions == 1
    assert rows(out) == []


def test_forgetting_a_request_leaves_no_trace_of_it_in_any_file(spool: Path, out: Path):
    canary = "canary-7f3a9c"
    sealed(spool, [decision(canary), decision("b", text="hello"), outcome(canary), outcome("b")], 1)
    compacted(spool, out)
    sealed(spool, [decision(canary, text=f"{canary} again"), decision("c", text="hello"), outcome(canary)], 2)
    (out / "decisions" / ".killed.parquet.tmp").write_text(canary)
    (spool / ".killed.spool.tmp").write_text(canary)
    assert any(canary.encode() in raw for raw in {**files_of(out), **files_of(spool)}.values())
    assert forgotten(out, spool, request_id=canary) == Forgotten(decisions=2, outcomes=2)
    assert not [name for name, raw in {**files_of(out), **files_of(spool)}.items() if canary.encode() in raw]
    compacted(spool, out)
    assert [row["id"] for row in rows(out)] == ["b", "c"]
    assert canary not in repr(rows(out)) + repr(outcome_rows(out))
    assert forgotten(out, spool, request_id=canary) == Forgotten()


def test_forgetting_a_tenant_takes_outcomes_that_do_not_name_it_and_nobody_elses(spool: Path, out: Path):
    ours = [decision("1", tenant="acme", session_id="s"), outcome("1"), decision("2", tenant="acme")]
    theirs = [decision("1", tenant="other"), outcome("1", tenant="other"), decision("3"), outcome("3")]
    sealed(spool, [*ours, *theirs])
    compacted(spool, out)
    assert forgotten(out, tenant="acme", session_id="s") == Forgotten(decisions=1, outcomes=1)
    assert forgotten(out, tenant="acme") == Forgotten(decisions=1)
    assert [(row["id"], row["tenant"]) for row in rows(out)] == [("1", "other"), ("3", None)]
    assert {(row["request_id"], row["tenant"]) for row in outcome_rows(out)} == {("1", "other"), ("3", "")}


def test_open_file_of_a_running_server_is_left_and_said_so(spool: Path, out: Path):
    from tests.training.spools import _framed
    from turnout.serving.spool.writer import SpoolLimits, SpoolWriter

    writer = SpoolWriter(spool, SpoolLimits())
    writer.append(*_framed(outcome("a"))).result()
    with opened(out, make=True) as store:
        assert forget(store, spool, Whom(request_id="a")) == Forgotten(left=1)
    writer.close()
    assert forgotten(out, spool, request_id="a") == Forgotten(outcomes=1)
