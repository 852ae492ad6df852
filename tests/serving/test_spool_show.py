"""`turnout spool show`: outcomes as JSON lines, counts, and damage by file and offset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.spool_builders import spool_file
from turnout.serving.cli.spool import show
from turnout.serving.spool.files import SpoolFile, make_folder
from turnout.serving.spool.framing import HEADER_BYTES, RECORD_BYTES
from turnout.serving.spool.outcome import Outcome, encode_outcome


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a spool with two files: three outcomes and records of other kinds; a torn tail."""
    payloads = [encode_outcome(Outcome(request_id=f"r{n}", received_s=1.5, score=0.5)) for n in range(2)]
    spool_file(tmp_path, [*payloads, b"\xc1 no msgpack"], 1)
    make_folder(tmp_path)
    file = SpoolFile(tmp_path, "worker-test", 2)
    file.append([(2, b"a decision"), (99, b"from later"), (1, encode_outcome(Outcome(request_id="r2", received_s=2)))])
    file._write(b"torn")
    file.seal()
    return tmp_path


def test_json_prints_one_line_an_outcome_and_the_counts_beside(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert show(folder, as_json=True) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"request_id": "r0", "received_s": 1.5, "score": 0.5},
        {"request_id": "r1", "received_s": 1.5, "score": 0.5},
        {"request_id": "r2", "received_s": 2.0},
    ]
    counts = json.loads(err)
    assert (counts["files"], counts["outcomes"], counts["decisions"], counts["unknown"]) == (2, 3, 1, 2)
    assert (counts["torn_tails"], counts["torn_bytes"], counts["damages"]) == (1, 4, 0)


def test_people_get_a_table_of_counts(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert show(folder, as_json=False) == 0
    out, err = capsys.readouterr()
    assert ("outcomes" in out, "torn tails" in out, err) == (True, True, "")


def test_damage_between_records_is_named_and_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]):
    path = folder / "worker-test-000001.spool"
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + RECORD_BYTES] ^= 1
    path.write_bytes(raw)
    assert show(folder, as_json=True) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["request_id"] for line in out.splitlines()] == ["r1", "r2"]
    assert f"{path}: byte {HEADER_BYTES}: damaged bytes between records" in err
