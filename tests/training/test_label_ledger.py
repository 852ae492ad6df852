"""`turnout label` over files: every row is accounted for once, and its label says who spoke."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.log_builders import as_lines, gateway_row
from tests.training.pipelines import ledger_of
from turnout.serving.bundles.manifest import Pair
from turnout.training.cli.label import label_logs
from turnout.training.errors import DataRefused
from turnout.training.labels import label_records
from turnout.training.labels.confidence import MEASURED
from turnout.training.labels.ledger import Ledger, labels_table, ledger_table
from turnout.training.labels.stretches import LabelShape
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import JoinBy, Reading

CHOICE = "Which is a fruit?\nA. stone\nB. apple"
ROWS: dict[str, dict[str, Any]] = {
    "scores": {"score": (1, 0)},
    "preference": {"preference": "tie", "answers": ("x", "y")},
    "reference:choice": {"text": CHOICE, "reference": "B", "answers": ("B", "apple")},
    "reference:number": {"reference": "42", "answers": ("42", "41")},
    "agreement:identical": {"answers": ("same", "Same.")},
    "undecided": {"answers": ("one way", "or another")},
    "only_strong": {"answers": ("one way", None)},
    "only_weak": {"text": "Who?", "answers": (None, "or another")},
    "no_answer": {},
}
DAMAGED = {
    "invalid_json": b'{"request": {"mess',
    "wrong_type": b'{"request": 7}',
    "no_prompt": b'{"id": "x", "prompt": null}',
    "invalid_utf8": b'{"prompt": "\xff"}',
    "out_of_range": b'{"prompt": "a", "strong_score": 7}',
}


def line(kind: str, number: int) -> bytes:
    if kind in DAMAGED:
        return DAMAGED[kind] + b"\n"
    fields = ROWS[kind]
    scores, answers = fields.get("score", (None, None)), fields.get("answers", (None, None))
    responses = {
        model: {"content": answer, "score": score}
        for model, answer, score in zip((Pair().strong, Pair().weak), answers, scores, strict=True)
        if answer is not None or score is not None
    }
    rest = {name: fields[name] for name in ("reference", "preference") if name in fields}
    row = gateway_row(fields.get("text", "How?"), id=f"r{number}", task=kind[:5], responses=responses, **rest)
    return as_lines([row])


def write(path: Path, kinds: list[str]) -> Path:
    path.write_bytes(b"".join(line(kind, number) for number, kind in enumerate(kinds)))
    return path


def ledger_for(path: Path) -> Ledger:
    read = read_records([path], Pair()).joined(JoinBy.PROMPT)
    return ledger_of(read, label_records(read.records))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(kinds=st.lists(st.sampled_from([*ROWS, *DAMAGED]), min_size=1, max_size=40))
def test_every_row_is_labelled_abstained_or_quarantined_once(tmp_path: Path, kinds: list[str]):
    path = write(tmp_path / "log.jsonl", kinds)
    ledger = ledger_for(path)
    assert ledger.is_exact
    assert ledger.rows == len(kinds)
    counted = ledger.labelled | ledger.abstained | ledger.quarantined
    assert counted == {kind: kinds.count(kind) for kind in set(kinds)}
    assert sum(ledger.rows_by_task.values()) == sum(ledger.labelled.values())


def test_label_writes_labels_quarantine_and_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kinds = [*ROWS, *ROWS, *DAMAGED]
    random.Random(0).shuffle(kinds)
    log, out = write(tmp_path / "log.jsonl", kinds), tmp_path / "labels.parquet"
    options = {"run_code": False, "similarity": "", "quiet": True}
    label_logs([log], out, Pair(), Reading(), 0.0, as_json=True, **options)
    ledger = json.loads(capsys.readouterr().out)
    assert ledger["quarantined"] == dict.fromkeys(ledger["quarantined"], 1)
    assert set(ledger["quarantined"]) == set(DAMAGED)

    rows = pq.read_table(out).to_pylist()
    assert [row["line"] for row in rows] == [number for number, kind in enumerate(kinds, 1) if kind in ROWS]
    assert [row["labeller"] or row["abstained"] for row in rows] == [kind for kind in kinds if kind in ROWS]
    assert all((row["match"] is None) == (row["label_confidence"] is None) == bool(row["abstained"]) for row in rows)
    damaged = [json.loads(one) for one in (tmp_path / "labels.parquet.quarantine.jsonl").read_bytes().splitlines()]
    assert [one["line"] for one in damaged] == [number for number, kind in enumerate(kinds, 1) if kind in DAMAGED]

    first = out.read_bytes()
    label_logs([log], out, Pair(), Reading(), 0.0, as_json=False, **options)
    assert out.read_bytes() == first
    assert "estimated label noise" in capsys.readouterr().out


def test_models_that_no_row_names_are_told_to_who_named_them(tmp_path: Path, capsys):
    log = write(tmp_path / "log.jsonl", ["no_answer", "scores", "undecided"])
    options = {"run_code": False, "similarity": "", "quiet": False, "as_json": True}
    with pytest.raises(DataRefused, match="none of 3 rows has a label"):
        label_logs([log], tmp_path / "labels.parquet", Pair("gpt-9", "gpt-9-mini"), Reading(), 0.0, **options)
    assert "no answer of gpt-9 or gpt-9-mini" in capsys.readouterr().err
    label_logs([log], tmp_path / "labels.parquet", Pair(), Reading(), 0.0, **options)
    assert "no answer of" not in capsys.readouterr().err


def test_a_run_without_bad_rows_leaves_no_quarantine_of_a_run_before(tmp_path: Path):
    out, quarantine = tmp_path / "labels.parquet", tmp_path / "labels.parquet.quarantine.jsonl"
    for kinds, left in (([*ROWS, *ROWS, *DAMAGED], True), ([*ROWS], False)):
        log = write(tmp_path / "log.jsonl", kinds)
        label_logs([log], out, Pair(), Reading(), 0.0, run_code=False, similarity="", quiet=True, as_json=True)
        assert quarantine.exists() is left


def test_two_rows_that_become_one_are_counted_as_a_labelled_and_a_merged_one(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    rows = [
        gateway_row("Why?", id=f"r{number}", responses={model: {"content": "Dust."}})
        for number, model in enumerate((Pair().weak, Pair().strong))
    ]
    path.write_bytes(as_lines(rows) + line("undecided", 2))
    ledger = ledger_for(path)
    assert (ledger.rows, ledger.labelled, ledger.abstained) == (3, {"agreement:identical": 1}, {"undecided": 1})
    assert (ledger.merged, ledger.is_exact) == (1, True)


def test_noise_is_the_mean_doubt_of_the_labels(tmp_path: Path):
    ledger = ledger_for(write(tmp_path / "log.jsonl", ["scores", "scores", "reference:number", "undecided"]))
    doubt = 1 - MEASURED["number", LabelShape.BARE]
    assert ledger.label_noise_by_labeller == pytest.approx({"scores": 0, "reference:number": doubt})
    assert ledger.label_noise == pytest.approx(doubt / 3)
    assert ledger_for(write(tmp_path / "none.jsonl", ["undecided"])).label_noise is None


def test_table_for_people_shows_each_count_once(tmp_path: Path):
    console = Console(width=100, record=True, quiet=False, file=(tmp_path / "shown").open("w"))
    console.print(ledger_table(ledger_for(write(tmp_path / "log.jsonl", [*ROWS, *DAMAGED]))))
    shown = console.export_text()
    console.file.close()
    assert "14 rows in, 0 merged" in shown
    assert all(shown.count(f": {kind} ") == 1 for kind in [*ROWS, *DAMAGED])


def test_labels_table_of_no_records_keeps_its_columns():
    assert labels_table([], []).column_names[:4] == ["id", "match", "labeller", "label_confidence"]
