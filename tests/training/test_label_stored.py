"""Labels made before reach the very rows that they were made from, or nobody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.log_builders import gateway_row, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.cli.label import label_logs
from turnout.training.dataset.dataset import Loaded, load_dataset
from turnout.training.errors import DataRefused
from turnout.training.files import write_parquet
from turnout.training.labels.stored import METADATA_KEY
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.progress import Reporter


def row(number: int, strong: str | None, weak: str | None, **fields: Any) -> dict[str, Any]:
    answers = {Pair().strong: strong, Pair().weak: weak}
    responses = {model: {"content": answer} for model, answer in answers.items() if answer is not None}
    return gateway_row(f"How many crates hold {number} apples, ten in each?", responses=responses, **fields)


ROWS = [
    row(1, "5", "6", id="a", reference="5"),
    row(2, "so", "otherwise", id="b"),
    row(3, "7", None, id="c"),
    row(4, "8", "8", reference="8"),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.jsonl", ROWS)


def label(logs: list[Path], out: Path, reading: Reading | None = None, margin: float = 0.0) -> Path:
    label_logs(logs, out, Pair(), reading or Reading(), margin, run_code=False, similarity="", quiet=True, as_json=True)
    return out


def load(logs: list[Path], labels: Path | None, **changes: Any) -> Loaded:
    margin, pair = changes.pop("margin", 0.0), changes.pop("pair", Pair())
    return load_dataset(logs, pair, replace(Reading(labels=labels), **changes), margin, Reporter(quiet=True))


def decided_by(labels: Path, line: int, labeller: str) -> Path:
    """Give one row a label, as a judge would have."""
    table = pq.read_table(labels)
    rows = table.to_pylist()
    rows[line - 1] |= {"match": 0, "labeller": labeller, "label_confidence": 0.9, "abstained": None}
    write_parquet(labels, pa.Table.from_pylist(rows, schema=table.schema))
    return labels


def test_stored_labels_are_those_made_anew(log: Path, tmp_path: Path):
    loaded = load([log], label([log], tmp_path / "labels.parquet"))
    assert loaded.labelled == load([log], None).labelled
    assert loaded.labelled.unlabelled == {"undecided": 1, "only_strong": 1}


def test_a_judges_label_reaches_its_row(log: Path, tmp_path: Path):
    labels = decided_by(label([log], tmp_path / "labels.parquet"), 2, "judge")
    found = {one.record.id: (one.label.labeller, one.label.match) for one in load([log], labels).dataset.rows}
    assert found["b"] == ("judge", 0)
    assert len(found) == 3


def test_logs_may_be_moved_and_renamed(log: Path, tmp_path: Path):
    labels = label([log], tmp_path / "labels.parquet")
    (tmp_path / "kept").mkdir()
    moved = Path(shutil.move(log, tmp_path / "kept" / "other.jsonl"))
    assert load([moved], labels).labelled.by_labeller == {"reference:number": 2}


def test_two_equal_logs_of_rows_without_an_id_keep_their_own_labels(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", [{name: row[name] for name in row if name != "id"} for row in ROWS])
    logs = [log, Path(shutil.copy(log, tmp_path / "again.jsonl"))]
    labels = decided_by(label(logs, tmp_path / "labels.parquet"), 6, "judge")
    for given in (logs, logs[::-1]):
        rows = load(given, labels).dataset.rows
        assert [one.record.file for one in rows if one.label.labeller == "judge"] == [str(logs[1])]


def test_a_row_that_two_logs_hold_keeps_its_label_in_whichever_order_they_are_named(log: Path, tmp_path: Path):
    logs = [log, write_log(tmp_path / "later.jsonl", [row(5, "1", "2", id="d", reference="1"), *ROWS])]
    labels = decided_by(label(logs, tmp_path / "labels.parquet"), 2, "judge")
    for given in (logs, logs[::-1]):
        rows = load(given, labels).dataset.rows
        assert [one.record.id for one in rows if one.label.labeller == "judge"] == ["b"]
        assert len(rows) == len({"a", "b", "d"}) + 2  # the last one has no id, and stands in both


def change_log(log: Path) -> None:
    log.write_bytes(log.read_bytes().replace(b"otherwise", b"like this"))


def append(log: Path) -> None:
    log.write_text(log.read_text() + json.dumps(ROWS[0]) + "\n")


@pytest.mark.parametrize("change", [change_log, append])
def test_a_log_that_changed_is_refused(log: Path, tmp_path: Path, change: Callable[[Path], None]):
    labels = label([log], tmp_path / "labels.parquet")
    change(log)
    with pytest.raises(DataRefused, match=r"log\.jsonl is none of the logs .* changed since; .* made from: "):
        load([log], labels)


def test_labels_of_further_logs_are_refused(log: Path, tmp_path: Path):
    other = write_log(tmp_path / "other.jsonl", ROWS[:1])
    labels = label([log, other], tmp_path / "labels.parquet")
    with pytest.raises(DataRefused, match=r"also made from .*other\.jsonl; name these logs too"):
        load([log], labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0.1}, "--margin 0.0, not 0.1"),
        ({"pair": Pair(strong="gpt-4o", weak="gpt-4.1-nano")}, "gpt-4o and gpt-4o-mini, and not gpt-4o and gpt-4.1"),
        ({"join": JoinBy.NONE}, "read otherwise"),
    ],
)
def test_labels_made_in_another_way_are_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    halves = [row(9, "4", None, id="s"), row(9, None, "4", id="w")]
    log = write_log(tmp_path / "log.jsonl", [*ROWS, *halves])
    labels = label([log], tmp_path / "labels.parquet")
    with pytest.raises(DataRefused, match=message):
        load([log], labels, **changes)


def test_ids_read_from_another_column_are_refused(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", [one | {"key": f"k{number}"} for number, one in enumerate(ROWS)])
    labels = label([log], tmp_path / "labels.parquet", Reading({"id": "key"}))
    with pytest.raises(DataRefused, match="line 1, has no label there: the logs were read otherwise"):
        load([log], labels)


@pytest.mark.parametrize("kind", ["absent", "text", "without origin"])
def test_what_is_no_file_of_labels_is_refused(log: Path, tmp_path: Path, kind: str):
    labels = tmp_path / "labels.parquet"
    if kind == "text":
        labels.write_text("match\n1\n")
    elif kind == "without origin":
        table = pq.read_table(label([log], labels))
        assert METADATA_KEY in table.schema.metadata
        write_parquet(labels, table.replace_schema_metadata(None))
    with pytest.raises(DataRefused, match="cannot be read" if kind == "absent" else "not written by `turnout label`"):
        load([log], labels)
