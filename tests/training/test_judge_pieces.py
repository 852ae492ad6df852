"""Judges in the pipeline: the same rows whatever the pieces, few calls at a time, and beside the other options."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.fake_endpoint import FakeEndpoint, fair_judge, fake_endpoint, first_shown
from tests.log_builders import as_lines, flat_row, write_log
from tests.training.judging import arguments, turnout, undecided_log, undecided_row
from tests.training.pipelines import GATEWAY_KINDS, GOOD_KINDS, ONE_WORKER, write_logs
from turnout.serving.bundles.manifest import Pair
from turnout.training.calls import batch
from turnout.training.calls.call import Call
from turnout.training.calls.seen import distinct
from turnout.training.encoders.encoders import DEFAULT_ENCODER
from turnout.training.judge import labelling
from turnout.training.labels import Unlabelled, label_records
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.logs.records import Label
from turnout.training.pipeline import flow
from turnout.training.pipeline.flow import labelled
from turnout.training.pipeline.job import Job
from turnout.training.progress import Reporter


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint() as running:
        yield running


@pytest.fixture
def run(monkeypatch, capsys) -> Callable:
    return lambda *given: turnout(monkeypatch, capsys, *given)


def rows_of(out: Path) -> list[dict]:
    return pq.read_table(out).to_pylist()


def asked_in_memory(logs: list[Path], join: JoinBy, n_known: int, seed: int) -> list[tuple[str, int, int, int | None]]:
    """Return which rows to ask, with their known labels, as one who has all records at hand finds them."""
    records = read_records(logs, Pair(), Reading(join=join)).joined(join).records
    found = list(zip(records, label_records(records).decisions, strict=True))
    known = [one.place for one, made in found if isinstance(made, Label) and made.family != "agreement"]
    drawn = {known[row] for row in np.random.default_rng(seed).permutation(len(known))[:n_known]}
    return [
        (*one.place, made.match if isinstance(made, Label) else None)
        for one, made in found
        if one.place in drawn or made is Unlabelled.UNDECIDED
    ]


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    gateway=st.lists(st.sampled_from((*GOOD_KINDS, *GATEWAY_KINDS)), min_size=1, max_size=30),
    join=st.sampled_from(JoinBy),
    block_bytes=st.sampled_from([1, 300, 4000]),
    n_known=st.integers(0, 4),
    seed=st.integers(0, 3),
)
def test_rows_to_ask_and_the_sample_of_known_ones_are_those_of_the_whole_log(
    tmp_path: Path, gateway: list[str], join: JoinBy, block_bytes: int, n_known: int, seed: int
):
    logs = write_logs(tmp_path, [*gateway, *["reference"] * 20, "undecided"])
    job = Job(Pair(), Reading(join=join), tuple(map(str, logs)), asks_judges=True, judges_known=n_known > 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flow, "BUCKET_BYTES", block_bytes)
        with labelled(logs, tmp_path / "l.parquet", job, ONE_WORKER, Reporter(quiet=True)) as read:
            asked = read.asked(n_known, seed)
            found = [[(one.file, one.line, one.index, one.known) for one in asked] for _ in range(2)]
    assert found == [asked_in_memory(logs, join, n_known, seed)] * 2


def calls_at_a_time(endpoint: FakeEndpoint) -> list[int]:
    """Count the calls in memory when the endpoint is asked, every now and then: the collector takes its time."""
    alive: list[int] = []
    asked = itertools.count()  # several ask at a time: of the bodies so far nobody may see the sixteenth

    def answer(body: dict) -> str:
        if next(asked) % 16 == 0:
            alive.append(sum(type(one) is Call for one in gc.get_objects()))
        return fair_judge(body)

    endpoint.answer = answer
    return alive


@pytest.mark.slow
def test_calls_in_memory_never_exceed_a_chunk_however_many_rows_there_are(endpoint, run, tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "CHUNK_ROWS", 10)
    monkeypatch.setattr(labelling, "CHUNK_WAVES", 1)
    alive, log = calls_at_a_time(endpoint), undecided_log(tmp_path / "log.jsonl", 50)
    options = arguments(endpoint, "--judge-concurrency", 4, "--judge", "judge-2")
    assert run("label", log, "--out", tmp_path / "l.parquet", *options).code == 0
    assert endpoint.n_billed == 200
    assert len(alive) >= 10
    assert 4 < max(alive) <= 10 * 2 * 2
    assert [row["labeller"] for row in rows_of(tmp_path / "l.parquet")] == ["judge"] * 50


def test_chunks_of_any_size_give_the_same_bytes_and_repeated_rows_are_paid_once(endpoint, run, tmp_path, monkeypatch):
    rows = [undecided_row(row % 9, row % 9 % 5, row % 9 * 3 % 7) for row in range(30)]
    log, written, bills = write_log(tmp_path / "log.jsonl", rows), set(), []
    for size in (500, 4):
        monkeypatch.setattr(labelling, "CHUNK_ROWS", size)
        monkeypatch.setattr(labelling, "CHUNK_WAVES", 1)
        out = tmp_path / f"{size}.parquet"
        run("label", log, "--out", out, *arguments(endpoint, "--judge-concurrency", 2))
        written.add((out.read_bytes(), Path(f"{out}.judge.jsonl").read_bytes()))
        bills.append(endpoint.n_billed)
    assert len(written) == 1
    assert bills == [18, 36]


def test_a_log_that_was_not_understood_is_refused_before_anything_is_paid(endpoint, run, tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"{\n" * 5 + as_lines([undecided_row(row, 5, 1) for row in range(4)]))
    ended = run("label", log, "--out", tmp_path / "l.parquet", "--quiet", *arguments(endpoint))
    assert (ended.code, endpoint.bodies, list(tmp_path.iterdir())) == (1, [], [log])
    assert "5 of 9 rows can't be read" in ended.err


def test_rows_that_are_similar_enough_are_not_asked(endpoint, run, tmp_path):
    near = {"strong_response": "The capital is Paris.", "weak_response": "Paris is the capital."}
    far = {"strong_response": "Red, quality=3", "weak_response": "Lambs, quality=2"}
    # Without rows whose answers lie far apart all are a match, and there is no share to beat.
    kinds = [near | {"strong_score": 1, "weak_score": 1}] * 320 + [far | {"strong_score": 1, "weak_score": 0}] * 9
    rows = [flat_row(f"{n}?", **kind) for n, kind in enumerate([*kinds, *[near] * 10, *[far] * 5])]
    log, out = write_log(tmp_path / "log.jsonl", rows), tmp_path / "l.parquet"
    ended = run("label", log, "--out", out, "--json", "--similarity", DEFAULT_ENCODER, *arguments(endpoint))
    assert json.loads(ended.out)["labelled"] == {"scores": 329, "agreement:similar": 10, "judge": 5}
    assert endpoint.n_billed == 10


def test_features_are_kept_of_rows_that_judges_labelled(endpoint, run, tmp_path):
    rows = [undecided_row(row, row % 5, row * 3 % 7) for row in range(6)]
    known = undecided_row(6, 5, 1)
    for answer, score in zip(known["responses"].values(), (1.0, 0.0), strict=True):
        answer["score"] = score
    log, out = write_log(tmp_path / "log.jsonl", [*rows[:3], known, *rows[3:]]), tmp_path / "l.parquet"
    options = arguments(endpoint, "--judge-all", 5, "--judge-max-calls", 8, "--judge-concurrency", 1)
    ended = run("label", log, "--out", out, "--keep", "features", "--no-cache", "--json", *options)
    assert json.loads(ended.out)["labelled"] == {"judge": 3, "scores": 1}
    assert [row["labeller"] for row in rows_of(out)] == ["judge"] * 3 + ["scores"] + [None] * 3
    assert [row["dense"] is None for row in rows_of(out)] == [False] * 4 + [True] * 3
    assert Path(f"{out}.judge.jsonl").read_bytes().count(b"\n") == 7


@given(keys=st.lists(st.text(st.characters(codec="utf-8"), max_size=4)))
def test_each_key_comes_once_and_in_its_order(keys: list[str]):
    assert list(distinct(keys)) == list(dict.fromkeys(keys))


# The Batch API


def batch_arguments(endpoint: FakeEndpoint, *more: object) -> list[str]:
    return arguments(endpoint, "--judge-batch", "--judge-batch-poll-s", 0.1, *more)


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "most"), [("MAX_REQUESTS", 10), ("MAX_BYTES", 12_000)])
def test_all_batches_are_submitted_at_once_each_of_one_model_and_within_the_limits(
    endpoint, run, tmp_path, monkeypatch, limit, most
):
    monkeypatch.setattr(batch, limit, most)
    endpoint.batches_are_done = False
    log, out = undecided_log(tmp_path / "log.jsonl", 14), tmp_path / "l.parquet"
    options = batch_arguments(endpoint, "--judge", "judge-2")
    assert run("label", log, "--out", out, *options).code == 5
    files = [endpoint.files[one["input_file_id"]] for one in endpoint.batches.values()]
    lines = [[json.loads(line) for line in file.splitlines()] for file in files]
    assert sum(map(len, lines)) == 56
    assert len(files) > 4
    assert all(len({line["body"]["model"] for line in one}) == 1 for one in lines)
    assert max(map({"MAX_REQUESTS": len, "MAX_BYTES": lambda one: len(json.dumps(one))}[limit], lines)) <= 1.1 * most
    endpoint.batches_are_done = True
    assert run("label", log, "--out", out, *options).code == 0
    assert (endpoint.n_billed, endpoint.billed_twice, len(endpoint.batches)) == (56, 0, len(files))
    assert {row["labeller"] for row in rows_of(out)} == {"judge"}


def test_a_batch_that_does_not_name_its_model_is_collected_at_the_price_of_each_call(endpoint, run, tmp_path):
    """Batches were submitted so before they were of one model."""
    endpoint.batches_are_done = False
    log, out = undecided_log(tmp_path / "log.jsonl", 5), tmp_path / "l.parquet"
    run("label", log, "--out", out, *batch_arguments(endpoint))
    del endpoint.batches["batch_0"]["metadata"]["model"]
    endpoint.batches_are_done = True
    ended = run("label", log, "--out", out, *batch_arguments(endpoint, "--json"))
    told = json.loads(ended.out)
    assert told["labelled"] == {"judge": 5}
    assert told["judge"]["usd"] == pytest.approx(endpoint.usd(2.0, 8.0))
    assert len(endpoint.batches) == 1


def test_a_batch_goes_on_when_its_log_has_grown_and_nothing_is_paid_twice(endpoint, run, tmp_path):
    endpoint.batches_are_done = False
    endpoint.answer = first_shown
    log, out = undecided_log(tmp_path / "log.jsonl", 5), tmp_path / "l.parquet"
    run("label", log, "--out", out, *batch_arguments(endpoint))
    undecided_log(log, 8)
    endpoint.batches_are_done = True
    assert run("label", log, "--out", out, *batch_arguments(endpoint, "--judge-batch-wait-s", 5)).code == 0
    assert (endpoint.n_billed, endpoint.billed_twice, len(endpoint.batches)) == (16, 0, 2)
