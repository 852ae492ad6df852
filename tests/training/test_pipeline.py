"""The pipeline in pieces gives what the commands in memory give, however the logs are cut and whoever does the work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.log_builders import as_lines, flat_row, write_bytes
from tests.training.pipelines import (
    DAMAGED,
    GATEWAY_KINDS,
    GOOD_KINDS,
    ONE_WORKER,
    found_in_memory,
    found_in_pieces,
    gateway_line,
    write_logs,
)
from turnout.serving.bundles.manifest import Pair
from turnout.training.encoders.encoders import DEFAULT_ENCODER, EncoderModel
from turnout.training.labels.stored import origin_of, stored_labels
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.pipeline import flow
from turnout.training.pipeline.engine import Engine
from turnout.training.pipeline.job import Job
from turnout.training.progress import Reporter


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    gateway=st.lists(st.sampled_from((*GOOD_KINDS, *GATEWAY_KINDS)), min_size=1, max_size=30),
    batch=st.lists(st.sampled_from(["input", "output"]), max_size=8),
    scored=st.lists(st.sampled_from(["row", "score"]), max_size=8),
    join=st.sampled_from(JoinBy),
    block_bytes=st.sampled_from([1, 300, 4000]),
)
def test_pieces_of_any_size_give_the_rows_the_quarantine_and_the_ledger_of_the_whole(
    tmp_path: Path, gateway: list[str], batch: list[str], scored: list[str], join: JoinBy, block_bytes: int
):
    logs, reading = write_logs(tmp_path, gateway, batch, scored), Reading(join=join)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flow, "BUCKET_BYTES", block_bytes)
        pieces = found_in_pieces(logs, tmp_path / "labels.parquet", reading, block_bytes=block_bytes)
    assert pieces == found_in_memory(logs, reading)
    assert {path.name for path in tmp_path.iterdir()} <= {
        *("gateway.jsonl", "batch.jsonl.gz", "langfuse.jsonl.zst"),
        *("labels.parquet", "labels.parquet.quarantine.jsonl"),
    }


# Daft 0.7.26 does not close the pipes of the processes that it ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_several_processes_and_pieces_of_another_size_write_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flow, "SMALL_BYTES", 0)
    logs = write_logs(tmp_path, [*GATEWAY_KINDS] * 40, ["input", "output"] * 5)
    written = set()
    for engine, block_bytes in ((Engine(1, shares_disk=True), 1 << 20), (Engine(2, shares_disk=True), 5000)):
        out = tmp_path / "labels.parquet"
        assert found_in_pieces(logs, out, Reading(), engine, block_bytes=block_bytes).ledger is not None
        written.add((out.read_bytes(), Path(f"{out}.quarantine.jsonl").read_bytes()))
    assert len(written) == 1


def test_five_in_a_hundred_damaged_lines_of_every_kind_are_counted_and_nothing_else_is_lost(tmp_path: Path):
    kinds = ["reference"] * 1900 + list(DAMAGED) * 20
    random.Random(0).shuffle(kinds)
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(gateway_line(kind, number) for number, kind in enumerate(kinds)))
    found = found_in_pieces([log], tmp_path / "labels.parquet", Reading(), block_bytes=10_000)
    assert found.ledger is not None
    assert found.ledger.quarantined == dict.fromkeys(sorted(DAMAGED), 20)
    assert (found.ledger.labelled, found.ledger.abstained) == ({"reference:number": 1900}, {})
    lines = {row["line"] for row in found.rows} | {row["line"] for row in found.quarantine}
    assert lines == set(range(1, 2001))


@pytest.mark.slow
def test_damage_in_a_compressed_log_costs_one_row_and_what_comes_after(tmp_path: Path):
    lines = [gateway_line("reference", number) for number in range(6000)]
    log = write_bytes(tmp_path / "log.jsonl.gz", b"".join(lines))
    log.write_bytes(log.read_bytes()[:-3000])
    pieces = found_in_pieces([log], tmp_path / "labels.parquet", Reading(), block_bytes=200_000)
    assert pieces == found_in_memory([log], Reading())
    assert [row["reason"] for row in pieces.quarantine] == ["truncated"]


def test_tables_and_documents_are_read_too(tmp_path: Path):
    rows = [flat_row(f"What is {n}?", strong_response="1", weak_response="1", reference="1") for n in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet", row_group_size=7)
    (tmp_path / "document.json").write_bytes(b"[" + b",".join(as_lines(rows).splitlines()) + b"]")
    (tmp_path / "plain.csv").write_text("prompt,strong_score,weak_score\n" + "why,1,0\n" * 20)
    logs = sorted(tmp_path.iterdir())
    pieces = found_in_pieces(logs, tmp_path / "labels.parquet", Reading())
    assert pieces == found_in_memory(logs, Reading())
    assert len(pieces.rows) == 120


def test_a_log_without_rows_gives_a_file_without_rows(tmp_path: Path):
    (log := tmp_path / "log.jsonl").write_bytes(b"")
    pieces = found_in_pieces([log], tmp_path / "labels.parquet", Reading())
    assert pieces == found_in_memory([log], Reading())
    assert (pieces.rows, pieces.refused) == ([], "")


def test_labels_in_pieces_can_be_stored_and_found_again(tmp_path: Path):
    logs, out = write_logs(tmp_path, GOOD_KINDS * 3), tmp_path / "labels.parquet"
    found_in_pieces(logs, out, Reading())
    records = read_records(logs, Pair()).joined(JoinBy.PROMPT).records
    stored = stored_labels(out, records, origin_of(logs, Pair(), 0.0))
    assert stored.by_labeller == {"reference:number": 3 + 1, "agreement:identical": 3}


@pytest.mark.parametrize(
    ("content", "reading", "message"),
    [
        (b"{\n{\n", Reading(), "2 of 2 rows can't be read"),
        (b'{"text": "a"}\n' * 3, Reading(), "nothing to read a prompt from"),
        (b'{"prompt": "a"}\n' * 3, Reading(columns={"task": "kind"}), "no column kind as the column map says"),
        (b'{"prompt": "a", "strong_model": "x", "weak_model": "y"}\n', Reading(), "no row compares gpt-4o and"),
        (b'{"prompt": "a"}\n', Reading(log_format="none"), "no log format 'none'"),
        (b'{"prompt": "a"}\n', Reading(columns={"no": "kind"}), "column map: unknown field no"),
        (None, Reading(), "cannot be read: No such file"),
    ],
)
def test_a_log_that_is_not_what_it_should_be_is_refused_and_leaves_nothing(
    tmp_path: Path, content: bytes | None, reading: Reading, message: str
):
    log = tmp_path / "log.jsonl"
    if content is not None:
        log.write_bytes(content)
    found = found_in_pieces([log], tmp_path / "labels.parquet", reading, block_bytes=4)
    assert message in found.refused
    assert {path.name for path in tmp_path.iterdir()} <= {"log.jsonl"}
    if content is not None:
        assert found.refused == found_in_memory([log], reading).refused


def test_similar_answers_are_labelled_by_the_same_threshold_as_in_memory(tmp_path: Path, encoder: EncoderModel):
    answers = ("The capital of France is Paris.", "Paris is the capital of France.")
    rows = [
        flat_row(f"Capital {n}?", strong_response=answers[0], weak_response=answers[1] if n >= 30 else "Twelve")
        | ({"strong_score": 1, "weak_score": int(n >= 30)} if n < 360 else {})
        for n in range(370)
    ]
    log = write_bytes(tmp_path / "log.jsonl", as_lines(rows))
    out = tmp_path / "labels.parquet"
    pieces = found_in_pieces([log], out, Reading(), similarity=DEFAULT_ENCODER, block_bytes=20_000)
    assert pieces == found_in_memory([log], Reading(), similarity_encoder=encoder)
    assert pieces.ledger is not None
    assert pieces.ledger.labelled == {"scores": 360, "agreement:similar": 10}


def test_what_a_killed_run_left_goes_with_the_next_run_and_a_living_run_keeps_its_own(tmp_path: Path):
    from turnout.training.pipeline.spool import spool_beside

    logs, out = write_logs(tmp_path, ["reference"]), tmp_path / "labels.parquet"
    (left := tmp_path / f".{out.name}.spool-left").mkdir()
    (left / "lock").touch()
    with spool_beside(out) as living:
        found_in_pieces(logs, out, Reading())
        assert living.folder.exists()
        assert not left.exists()
    assert not living.folder.exists()


def test_what_is_half_written_lies_in_the_folder_that_goes_after_a_kill(tmp_path: Path):
    logs, out = write_logs(tmp_path, GATEWAY_KINDS), tmp_path / "labels.parquet"
    job = Job(Pair(), Reading(), tuple(map(str, logs)))
    with flow.labelled(logs, out, job, ONE_WORKER, Reporter(quiet=True)) as run:

        def watched() -> Iterator[pa.Table]:
            for table in run.finished():
                yield table
                beside.update(path.name for path in tmp_path.iterdir())
                within.update(path.suffix for path in run.spool.folder.iterdir())

        beside, within = set[str](), set[str]()
        run.output.write(watched(), run.n_entries)
        assert beside == {run.spool.folder.name, *(log.name for log in logs)}
        assert ".tmp" in within
    assert {path.name for path in tmp_path.iterdir()} == {
        out.name,
        f"{out.name}.quarantine.jsonl",
        *(log.name for log in logs),
    }


def test_a_table_that_is_damaged_is_refused_by_its_name(tmp_path: Path):
    (tmp_path / "table.parquet").write_bytes(b"PAR1 and nothing of use")
    found = found_in_pieces([tmp_path / "table.parquet"], tmp_path / "labels.parquet", Reading())
    assert "table.parquet: not a readable Parquet file" in found.refused
