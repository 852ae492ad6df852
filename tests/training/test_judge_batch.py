"""Judges asked by the Batch API: submitted, found again after a kill, collected and paid once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator

import pytest

from tests.fake_endpoint import API_KEY, FakeEndpoint, Fault, fake_endpoint
from tests.training.judging import KEY_ENV, arguments, turnout, undecided_log


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, API_KEY)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint() as running:
        yield running


@pytest.fixture
def run(monkeypatch, capsys) -> Callable:
    return lambda *given: turnout(monkeypatch, capsys, *given)


def batch_arguments(endpoint: FakeEndpoint, *more: object) -> list[str]:
    return arguments(endpoint, "--judge-batch", "--judge-batch-poll-s", 0.1, *more)


def test_batch_is_submitted_then_pending_then_collected_and_paid_once(endpoint, run, tmp_path):
    endpoint.batches_are_done = False
    log = undecided_log(tmp_path / "log.jsonl", 8)
    out = tmp_path / "l.parquet"
    for _ in range(2):
        ended = run("label", log, "--out", out, *batch_arguments(endpoint))
        assert ended.code == 5
        assert "batch_0: in_progress" in ended.err
        assert not out.exists()
    assert len(endpoint.batches) == 1
    endpoint.batches_are_done = True
    assert run("label", log, "--out", out, *batch_arguments(endpoint)).code == 0
    assert endpoint.n_billed == 16
    assert sorted(endpoint.deleted) == ["file-0", "out-batch_0"]
    live = tmp_path / "live.parquet"
    run("label", log, "--out", live, *arguments(endpoint))
    assert out.read_bytes() == live.read_bytes()
    run("label", log, "--out", out, *batch_arguments(endpoint))
    assert (endpoint.n_billed, len(endpoint.batches)) == (32, 1)


def test_batch_whose_id_a_kill_lost_is_found_again_and_not_created_twice(endpoint, run, tmp_path):
    endpoint.batches_are_done = False
    log = undecided_log(tmp_path / "log.jsonl", 4)
    out = tmp_path / "l.parquet"
    run("label", log, "--out", out, *batch_arguments(endpoint))
    with sqlite3.connect(tmp_path / "l.parquet.judge.sqlite") as database:
        database.execute("update batches set id = null, input_file = null")
    database.close()
    endpoint.batches_are_done = True
    assert run("label", log, "--out", out, *batch_arguments(endpoint)).code == 0
    assert (len(endpoint.batches), endpoint.n_billed, endpoint.billed_twice) == (1, 8, 0)


def test_malformed_lines_of_a_batch_go_into_the_next_one_and_refused_lines_do_not(endpoint, run, tmp_path):
    endpoint.faults = lambda number, _: Fault(content="no") if number == 0 else Fault(400) if number == 1 else None
    log = undecided_log(tmp_path / "log.jsonl", 4)
    ended = run(
        "label", log, "--out", tmp_path / "l.parquet", *batch_arguments(endpoint, "--judge-batch-wait-s", 5, "--json")
    )
    assert ended.code == 0, ended.err
    assert [len(endpoint.files[batch["input_file_id"]].splitlines()) for batch in endpoint.batches.values()] == [8, 1]
    assert json.loads(ended.out)["judge"]["judges"]["judge-1"]["abstained"] == {"unavailable": 1}


def test_caps_hold_in_a_batch(endpoint, run, tmp_path):
    log = undecided_log(tmp_path / "log.jsonl", 9)
    run("label", log, "--out", tmp_path / "l.parquet", *batch_arguments(endpoint, "--judge-max-calls", 7))
    assert endpoint.n_billed == 6


def test_a_batch_that_fails_as_a_whole_is_reported_and_forgotten(endpoint, run, tmp_path):
    endpoint.batches_are_done = False
    log = undecided_log(tmp_path / "log.jsonl", 2)
    run("label", log, "--out", tmp_path / "l.parquet", *batch_arguments(endpoint))
    endpoint.batches["batch_0"]["status"] = "failed"
    ended = run("label", log, "--out", tmp_path / "l.parquet", *batch_arguments(endpoint))
    assert (ended.code, "failed without any answer" in ended.err) == (1, True)
    endpoint.batches_are_done = True
    assert run("label", log, "--out", tmp_path / "l.parquet", *batch_arguments(endpoint)).code == 0
    assert endpoint.n_billed == 4
