"""Published router tables, and tables that hold several pairs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import gateway_builders as build
from tests.log_builders import flat_row, write_bytes, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.read import read_records
from turnout.training.logs.records import Response

MIXTRAL = Pair(strong="gpt-4-1106-preview", weak="mixtral-8x7b-instruct-v0.1")


@pytest.mark.parametrize("prefix", ["", "mistralai/"])
def test_a_routellm_table_is_read_by_its_models_columns(tmp_path: Path, prefix: str):
    header = f"prompt,{prefix}Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"
    path = write_bytes(tmp_path / "t.csv", header.encode() + b'"Why?\nA. b",False,True\nHow?,True,True\nWho?,,True\n')
    first, second, third = read_records([path], MIXTRAL).rows
    assert (first.prompt.text, first.strong, first.weak) == ("Why?\nA. b", Response(None, 1.0), Response(None, 0.0))
    assert (second.weak, second.line) == (Response(None, 1.0), 4)
    assert third.reason is Reason.OTHER_PAIR


def test_routerbench_gives_scores_and_answers_of_the_pair(tmp_path: Path):
    rows = [build.routerbench_row(["Answer.", "Why?"], gpt_4=1.0, claude_v2=0.5, llama=0.0)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rb.parquet")
    pair = Pair(strong="gpt-4", weak="claude-v2")
    for path in (
        tmp_path / "rb.parquet",
        write_log(tmp_path / "rb.jsonl", [build.routerbench_row("Answer.\n\nWhy?", gpt_4=1.0, claude_v2=0.5)]),
    ):
        (row,) = read_records([path], pair).records
        assert (row.prompt.text, row.id, row.source) == ("Answer.\n\nWhy?", "arc.1", "arc")
        assert (row.strong, row.weak) == (Response("gpt-4 says", 1.0), Response("claude-v2 says", 0.5))


def test_a_table_without_the_pair_is_refused_with_the_models_it_has(tmp_path: Path):
    path = write_log(tmp_path / "rb.jsonl", [build.routerbench_row(gpt_4=1.0, claude_v2=0.5)])
    with pytest.raises(
        DataRefused, match=r"no row compares gpt-4o and gpt-4o-mini; found: claude-v2, gpt-4 \(1 rows\)"
    ):
        read_records([path], Pair())


def test_a_score_outside_its_range_costs_the_row(tmp_path: Path):
    rows = [build.routerbench_row(gpt_4=1.0, claude_v2=0.5), build.routerbench_row(gpt_4=7.0, claude_v2=0.5)]
    result = read_records([write_log(tmp_path / "rb.jsonl", rows)], Pair(strong="gpt-4", weak="claude-v2"))
    assert [(row.line, row.reason) for row in result.quarantine] == [(2, Reason.OUT_OF_RANGE)]


def test_of_a_table_of_several_pairs_only_the_one_asked_for_is_read(tmp_path: Path):
    def row(strong: str, weak: str) -> dict[str, object]:
        return flat_row(strong_model=strong, weak_model=weak, strong_score=1.0, weak_score=0.0)

    rows = [
        row("gpt-4o-2024-08-06", "gpt-4o-mini"),
        row("gpt-4o-2024-08-06-FC", "gpt-4o-mini-2024-07-18-FC"),
        row("a", "b"),
    ]
    result = read_records([write_log(tmp_path / "t.jsonl", rows)], Pair())
    assert [record.line for record in result.records] == [1, 2]
    assert [(bad.line, bad.reason) for bad in result.quarantine] == [(3, Reason.OTHER_PAIR)]
    with pytest.raises(DataRefused, match=r"found: a / b \(1 rows\)"):
        read_records([write_log(tmp_path / "u.jsonl", rows[2:])], Pair())


def test_a_flat_table_with_flags_is_no_routellm_table(tmp_path: Path):
    path = write_log(tmp_path / "t.jsonl", [flat_row(strong_score=True, weak_score=False)])
    (record,) = read_records([path], Pair()).records
    assert (record.strong, record.weak) == (Response(None, 1.0), Response(None, 0.0))


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_published_pairs_are_chosen_by_name(shared_data: Path):
    result = read_records([shared_data / "other-pairs.parquet"], MIXTRAL)
    assert (len(result.records), result.rejected_by_reason) == (17_955, {Reason.OTHER_PAIR: 23_374})
    with pytest.raises(DataRefused, match=r"found: gpt-4-1106-preview / mixtral-8x7b-instruct-v0.1 \(17955 rows\)"):
        read_records([shared_data / "other-pairs.parquet"], Pair())
