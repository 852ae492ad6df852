"""What the reader does with rows and files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import gateway_builders as build
from tests.log_builders import as_lines, flat_row, gateway_row, write_bytes, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.logs import lines
from turnout.training.logs.quarantine import Reason, write_quarantine
from turnout.training.logs.read import ReadResult, read_records


def read(*paths: Path) -> ReadResult:
    return read_records(paths, Pair())


BAD_LINES = {
    b'{"id": "x", "prompt": "a"': Reason.INVALID_JSON,
    b'{"id": "x", "prompt": "a", "weak_score": NaN}': Reason.OUT_OF_RANGE,
    b'{"prompt": "a"}{"prompt": "b"}': Reason.SEVERAL_OBJECTS,
    b'{"prompt":' * 100_000: Reason.INVALID_JSON,
    b'{"prompt": "\xff\xfe"}': Reason.INVALID_UTF8,
    b'["a prompt"]': Reason.WRONG_TYPE,
    b'{"id": "x", "prompt": 5}': Reason.WRONG_TYPE,
    b'{"id": "x", "request": {"messages": "hi"}}': Reason.WRONG_TYPE,
    b'{"id": "x", "prompt": "a", "weak_score": "good"}': Reason.WRONG_TYPE,
    b'{"id": "x", "prompt": "a", "preference": "both"}': Reason.WRONG_TYPE,
    b'{"id": "x"}': Reason.NO_PROMPT,
    b'{"id": "x", "prompt": "  "}': Reason.NO_PROMPT,
    b'{"id": "x", "request": {"messages": []}}': Reason.NO_PROMPT,
    b'{"id": "x", "prompt": "a", "weak_score": 1.5}': Reason.OUT_OF_RANGE,
    b'{"id": "x", "prompt": "a", "strong_score": -1}': Reason.OUT_OF_RANGE,
    b'{"id": "x", "prompt": "a", "pair_propensity": 0}': Reason.OUT_OF_RANGE,
    b'{"id": "x", "prompt": "a", "responses": {"gpt-4o": {"score": 7}}}': Reason.OUT_OF_RANGE,
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_line_is_quarantined_with_its_reason_and_its_neighbours_kept(tmp_path: Path, line: bytes, reason: Reason):
    good = as_lines([gateway_row()])
    result = read(write_bytes(tmp_path / "log.jsonl", good + b"\n" + line + b"\n" + good))
    (rejected,) = result.quarantine
    assert (rejected.line, rejected.reason) == (3, reason)
    assert [record.line for record in result.records] == [1, 4]


def test_a_rejected_row_keeps_its_id_where_it_could_be_read(tmp_path: Path):
    path = write_bytes(tmp_path / "log.jsonl", b'{"prompt_id": 7, "prompt": 5}\n{"id": "a"}\n{"id": "b", \n')
    assert [row.id for row in read(path).quarantine] == ["7", "a", None]


def test_nan_in_a_table_is_out_of_range_and_null_is_not(tmp_path: Path):
    table = pa.table({"prompt": ["a", "b", "c"], "weak_score": [0.5, float("nan"), None]})
    pq.write_table(table, tmp_path / "t.parquet")
    result = read(tmp_path / "t.parquet")
    assert [(row.line, row.reason) for row in result.quarantine] == [(2, Reason.OUT_OF_RANGE)]
    assert [record.weak is None for record in result.records] == [False, True]


def test_invalid_text_in_one_parquet_cell_costs_one_row(tmp_path: Path):
    cells = pa.array([b"good", b"\xff\xff", b"fine"], pa.binary())
    column = pa.StringArray.from_buffers(3, *cells.buffers()[1:])
    pq.write_table(pa.table({"prompt": column}), tmp_path / "t.parquet")
    result = read(tmp_path / "t.parquet")
    assert [(row.line, row.reason) for row in result.quarantine] == [(2, Reason.INVALID_UTF8)]
    assert [record.prompt.text for record in result.records] == ["good", "fine"]


def test_bad_csv_rows_cost_one_row_each(tmp_path: Path):
    content = b'prompt,weak_score\na,1\nb,1,2\n"c"c,1\nd\xff,1\n"e\n\nf",nan\ng,0\n'
    result = read(write_bytes(tmp_path / "t.csv", content))
    assert [(row.line, row.reason) for row in result.quarantine] == [
        (3, Reason.WRONG_TYPE),
        (4, Reason.INVALID_CSV),
        (5, Reason.INVALID_UTF8),
        (6, Reason.OUT_OF_RANGE),
    ]
    assert [(record.line, record.prompt.text) for record in result.records] == [(2, "a"), (9, "g")]


@pytest.mark.parametrize("bad", [b'"open,1', b'open,"1', b'"c"c,1'])
def test_a_quote_that_nobody_closes_costs_its_own_row_of_a_csv(tmp_path: Path, bad: bytes):
    lines = [b"q%d,1" % number for number in range(8)]
    damaged = [*lines[:2], bad, *lines[3:5], bad, b'"q6\nends here",1', bad, lines[7]]
    result = read(write_bytes(tmp_path / "t.csv", b"prompt,weak_score\n" + b"\n".join(damaged)))
    assert [(row.line, row.reason) for row in result.quarantine] == [(at, Reason.INVALID_CSV) for at in (4, 7, 10)]
    assert [record.line for record in result.records] == [2, 3, 5, 6, 8, 11]
    assert result.records[4].prompt.text == "q6\nends here"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damage_in_a_compressed_stream_keeps_what_came_before(tmp_path: Path, suffix: str, damage: str):
    rows = [flat_row(f"{i * i * 7919 % 99991} prompt {i**5}", id=str(i)) for i in range(30_000)]
    path = write_log(tmp_path / f"log.jsonl{suffix}", rows)
    raw = path.read_bytes()
    middle = len(raw) * 3 // 4
    path.write_bytes(raw[:middle] + (b"" if damage == "cut" else b"\x55" * 64 + raw[middle + 64 :]))
    result = read(path)
    assert result.rejected_by_reason[Reason.TRUNCATED] == 1
    assert result.rows[-1] is result.quarantine[-1]
    kept = [record.id for record in result.records]
    assert kept[:5_000] == [str(i) for i in range(5_000)]
    if damage == "cut":  # gzip notices overwritten bytes late, zstd at once
        assert kept == [str(i) for i in range(len(kept))]


def test_overlong_lines_are_quarantined_and_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1000)
    rows = [flat_row("a"), flat_row("b" * 2000), flat_row("c")]
    result = read(write_log(tmp_path / "log.jsonl.gz", rows))
    assert [(row.line, row.reason) for row in result.quarantine] == [(2, Reason.TOO_LONG)]
    assert len(result.records) == 2


def test_byte_order_mark_and_windows_line_ends_are_no_damage(tmp_path: Path):
    path = write_bytes(tmp_path / "log.jsonl", b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}')
    result = read(path)
    assert [(record.prompt.text, record.line) for record in result.records] == [("a", 1), ("b", 3)]
    assert result.n_rows == 2


def test_a_broken_parquet_file_is_refused(tmp_path: Path):
    path = write_bytes(tmp_path / "t.parquet", b"PAR1 and nothing of use")
    with pytest.raises(DataRefused, match=r"t\.parquet: not a readable Parquet file"):
        read(path)


def test_a_mostly_bad_log_is_refused_with_the_counts(tmp_path: Path):
    bad = read(write_bytes(tmp_path / "bad.jsonl", as_lines([gateway_row()]) + b"{\n{\n{}\n"))
    with pytest.raises(DataRefused, match=r"3 of 4 rows .*invalid_json 2, no_prompt 1.*bad\.jsonl, line 2"):
        bad.refuse_if_mostly_bad()
    bad.refuse_if_mostly_bad(max_share=0.75)
    read(write_bytes(tmp_path / "empty.jsonl", b"\n")).refuse_if_mostly_bad()


def test_the_quarantine_file_names_rows_without_their_text(tmp_path: Path):
    path = write_bytes(tmp_path / "log.jsonl", as_lines([gateway_row()]) + b'{"id": "secret", "prompt": 5}\n')
    write_quarantine(tmp_path / "quarantine.jsonl", read(path).quarantine)
    (line,) = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {"file": str(path), "line": 2, "reason": "wrong_type"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log.jsonl", "quarantine.jsonl"]


FIELDS = [
    "id",
    "prompt",
    "request",
    "messages",
    "role",
    "content",
    "responses",
    "gpt-4o",
    "score",
    "weak_score",
    "created",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner),
    max_leaves=8,
)


ROUTELLM_ROW = {"prompt": "Why?", "gpt-4o": True, "gpt-4o-mini": False}
FIRST_ROWS: dict[str, dict[str, Any]] = {
    "routellm": ROUTELLM_ROW,
    "routerbench": build.routerbench_row(**{"gpt-4o": 1.0, "gpt-4o-mini": 0.0}),
    "openai": build.openai_pair(),
    "batch": build.batch_output("1"),
    "spend": build.spend_log(),
    "payload": build.logging_payload(),
    "langfuse": build.observation(),
    "span": build.otlp(build.span(build.chat_attributes())),
    "gateway": gateway_row(),
}


REFUSED = {"batch", "langfuse"}
"""Forms that most of the rows are no longer of, so that the whole file is refused with what to do."""


@pytest.mark.parametrize("form", FIRST_ROWS)
def test_a_row_that_lacks_what_the_first_rows_have_ends_no_reading(tmp_path: Path, form: str):
    row = FIRST_ROWS[form]
    lacking = [{name: value for name, value in row.items() if name != left} for left in row]
    log = write_log(tmp_path / "log.jsonl", [row] * 3 + lacking + [{left: None} for left in row])
    if form in REFUSED:
        with pytest.raises(DataRefused, match="nothing to read a prompt from"):
            read(log)
    else:
        assert read(log).n_rows >= 3 + len(row)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()), max_size=5))
def test_no_bytes_make_the_reader_raise_and_every_row_is_accounted_for(tmp_path: Path, content: list[bytes]):
    text = as_lines([gateway_row()] * 6) + b"\n".join(content)  # enough for the file to be of their form
    for name in ("log.jsonl", "log.csv"):
        result = read(write_bytes(tmp_path / name, b"prompt\n" * (name == "log.csv") + text))
        assert result.n_rows == len(result.records) + len(result.quarantine) == len(result.rows)
        assert sum(result.rejected_by_reason.values()) == len(result.quarantine)
    assert read(tmp_path / "log.jsonl").n_rows == sum(bool(line.strip()) for line in text.split(b"\n"))
