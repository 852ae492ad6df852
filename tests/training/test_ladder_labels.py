"""Labels made before reach the rungs that they were made for, whatever way the rows were logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.ladders import NAMES, TOP, three_model_rows, without, write_answers, write_wide
from tests.training.runs import QUIET
from turnout.serving.bundles.manifest import Pair
from turnout.training.cli.label import label_logs
from turnout.training.dataset.dataset import load_dataset
from turnout.training.dataset.ladder import NO_LABEL, LadderRead, load_ladder
from turnout.training.errors import DataRefused
from turnout.training.files import write_parquet
from turnout.training.logs.reading import Reading
from turnout.training.sample.sample import STRONG, WEAK

ROWS = without(three_model_rows(200, 91), STRONG, 0.2, 92)


def wide(folder: Path) -> Path:
    return write_wide(folder / "log.jsonl", ROWS)


def one_answer_a_row(folder: Path) -> Path:
    single = [row for row in ROWS if len(row["request"]["messages"]) == 1]
    prompts = [row["request"]["messages"][0]["content"] for row in single]
    once = [row for row, prompt in zip(single, prompts, strict=True) if prompts.count(prompt) == 1]
    return write_answers(folder / "log.jsonl", once, 1)


def label(log: Path, out: Path, weak: str, strong: str = TOP) -> Path:
    out.parent.mkdir(exist_ok=True)
    pair = Pair(strong=strong, weak=weak)
    label_logs([log], out, pair, Reading(), 0.0, run_code=False, similarity="", quiet=True, as_json=True)
    return out


def judged(labels: Path) -> Path:
    """Turn every third label round, as a judge of another mind would."""
    table = pq.read_table(labels)
    rows = table.to_pylist()
    for row in rows[::3]:
        if row["match"] is not None:
            row |= {"match": 1 - row["match"], "labeller": "judge", "strong_score": None, "weak_score": None}
    write_parquet(labels, pa.Table.from_pylist(rows, table.schema))
    return labels


def load(log: Path, labels: Path | None) -> LadderRead:
    return load_ladder([log], NAMES, Reading(labels=labels), 0.0, 0, QUIET)


@pytest.mark.parametrize("write", [wide, one_answer_a_row])
def test_each_rung_has_the_labels_of_its_file(tmp_path: Path, write: Callable[[Path], Path]):
    log = write(tmp_path)
    label(log, tmp_path / "labels" / "a.parquet", WEAK)
    file = judged(label(log, tmp_path / "labels" / "b.parquet", STRONG))
    plain, read = load(log, None), load(log, tmp_path / "labels")
    assert len(read.requests) == len(plain.requests) > 40
    assert np.array_equal(read.match[:, 0], plain.match[:, 0])
    known = plain.match[:, 1] != NO_LABEL
    assert np.array_equal(read.match[:, 1] != NO_LABEL, known)
    said = {(row["file"], row["line"], row["index"]): row for row in pq.read_table(file).to_pylist()}
    turned = [
        read.match[row, 1] != plain.match[row, 1]
        for row in np.flatnonzero(known)
        if read.labels[1][int(row)].labeller == "judge"
    ]
    assert all(turned)
    assert len(turned) == sum(row["labeller"] == "judge" for row in said.values()) > 10
    kept = [row for row in np.flatnonzero(known) if read.labels[1][int(row)].labeller != "judge"]
    assert np.array_equal(read.match[kept, 1], plain.match[kept, 1])


def test_a_rung_without_a_file_is_labelled_from_the_logs(tmp_path: Path):
    log = wide(tmp_path)
    file = judged(label(log, tmp_path / "b.parquet", STRONG))
    plain, read = load(log, None), load(log, file)
    assert np.array_equal(read.match[:, 0], plain.match[:, 0])
    assert (read.match[:, 1] != plain.match[:, 1]).sum() > 20


def test_labels_of_other_models_or_logs_are_refused_with_what_to_do(tmp_path: Path):
    log = wide(tmp_path)
    other = label(log, tmp_path / "other.parquet", WEAK, STRONG)
    with pytest.raises(DataRefused, match=f"turnout label LOGS --strong {TOP} --weak RUNG"):
        load(log, other)
    first = label(log, tmp_path / "labels" / "a.parquet", WEAK)
    (tmp_path / "labels" / "c.parquet").write_bytes(first.read_bytes())
    with pytest.raises(DataRefused, match=f"labels of {WEAK} are in"):
        load(log, tmp_path / "labels")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataRefused, match=r"no \*\.parquet in it"):
        load(log, tmp_path / "empty")
    with pytest.raises(DataRefused, match="not written by `turnout label`"):
        load(log, log)
    changed = write_wide(tmp_path / "changed.jsonl", ROWS[:150])
    with pytest.raises(DataRefused, match="has changed since"):
        load(changed, first)
    with pytest.raises(DataRefused, match="for a ladder; name the file of this pair"):
        load_dataset([log], Pair(strong=TOP, weak=WEAK), replace(Reading(), labels=tmp_path / "labels"), 0.0, QUIET)
