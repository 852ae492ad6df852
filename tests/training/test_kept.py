"""The store of kept rows: what is read back is what was kept, for its owner's eyes, and never another pair's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.log_builders import record
from tests.training.spools import compacted, decision, sealed
from turnout.serving.bundles.manifest import Pair
from turnout.serving.errors import EXIT_OK
from turnout.serving.router.prompt import Prompt
from turnout.training.cli.logs import forget_rows
from turnout.training.compaction.forget import Whom, forget_kept
from turnout.training.errors import DataRefused, RetrainUnderWay
from turnout.training.files import alone
from turnout.training.logs.records import Label, LabelledRecord, Response
from turnout.training.retrain.kept import KeptOrigin, KeptRow, read_kept, write_kept

ORIGIN = KeptOrigin(Pair(), 0.0)


def kept_rows() -> list[KeptRow]:
    """Return a scored row with all that a record can hold, and one that a person judged without scores."""
    full = replace(
        record("Übersetze: ja 🚂", id="a", user_text="ja", task="translation", source="s", language="de", group_id="g"),
        prompt=Prompt("Übersetze: ja 🚂", turns=3, images=1, tools=2, wants_json=True),
        strong=Response(None, 1.0, 12, 7),
        weak=Response(None, 0.5, 12, None),
        session_id="c",
        tenant="t",
        created=1.5e9,
        pair_propensity=0.2,
        route_propensity=0.9,
    )
    judged = record("Why?", id="b")
    return [
        KeptRow(LabelledRecord(full, Label(0, "scores", 1.0, 1.0, 0.5)), 1.6e9),
        KeptRow(LabelledRecord(judged, Label(1, "preference", 0.9)), 1.7e9),
    ]


def test_rows_come_back_as_they_were(tmp_path: Path):
    path = tmp_path / "kept" / "rows.parquet"
    assert read_kept(path, ORIGIN) == []
    write_kept(path, kept_rows(), ORIGIN)
    assert read_kept(path, ORIGIN) == kept_rows()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_answers_are_not_kept(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    told = kept_rows()[0]
    said = replace(told.row.record, strong=Response("the secret answer", 1.0, 3, 4), reference="the gold answer")
    write_kept(path, [replace(told, row=replace(told.row, record=said))], ORIGIN)
    assert "answer" not in str(pq.read_table(path).to_pylist())


def test_moment_is_that_of_the_request_or_of_the_keeping():
    with_moment, without = kept_rows()
    assert (with_moment.moment_s, without.moment_s) == (1.5e9, 1.7e9)


def test_store_of_another_pair_or_margin_and_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    write_kept(path, kept_rows(), ORIGIN)
    for other in (KeptOrigin(Pair(weak="small"), 0.0), KeptOrigin(Pair(), 0.1)):
        with pytest.raises(DataRefused, match="name another file"):
            read_kept(path, other)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(DataRefused, match="no store of kept rows"):
        read_kept(path, ORIGIN)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataRefused, match="not a readable Parquet file"):
        read_kept(path, ORIGIN)


def test_rows_of_a_tenant_can_be_forgotten(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    write_kept(path, kept_rows(), ORIGIN)
    assert forget_kept(path, Whom(tenant="nobody")) == 0
    assert forget_kept(path, Whom(tenant="t", session_id="c")) == 1
    assert read_kept(path, ORIGIN) == kept_rows()[1:]


def test_while_a_retraining_is_about_to_keep_rows_nothing_is_forgotten(tmp_path: Path):
    path, spool, logs = tmp_path / "rows.parquet", tmp_path / "spool", tmp_path / "logs"
    write_kept(path, kept_rows(), ORIGIN)
    sealed(spool, [decision("a", tenant="t")])
    compacted(spool, logs)
    before = {one: one.read_bytes() for one in tmp_path.rglob("*.parquet")}
    with alone(path), pytest.raises(RetrainUnderWay):
        forget_rows(logs, spool, Whom(tenant="t"), path, "", as_json=True)
    assert {one: one.read_bytes() for one in tmp_path.rglob("*.parquet")} == before
    assert forget_rows(logs, spool, Whom(tenant="t"), path, "", as_json=True) == EXIT_OK
    assert read_kept(path, ORIGIN) == kept_rows()[1:]
    assert not list(logs.rglob("day=*"))
