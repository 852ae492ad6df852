"""What becomes of labels on the way to the fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.serving.bundles.manifest import Pair
from turnout.training.dataset.dataset import load_dataset
from turnout.training.errors import DataRefused
from turnout.training.logs.reading import Reading
from turnout.training.progress import Reporter


def row(number: int, strong: str, weak: str, reference: str | None = None) -> dict:
    return {
        "id": f"r{number}",
        "request": {"messages": [{"role": "user", "content": f"How many crates hold {number} apples, ten in each?"}]},
        "responses": {"gpt-4o": {"content": strong}, "gpt-4o-mini": {"content": weak}},
        **({} if reference is None else {"reference": reference}),
    }


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def labellers(path: Path) -> list[str]:
    loaded = load_dataset([path], Pair(), None, 0.0, Reporter(quiet=True))
    return [one.label.labeller for one in loaded.dataset.rows]


def test_agreement_counts_where_every_row_is_decided(tmp_path):
    rows = [row(1, "The answer is 4", "The answer is 4"), row(2, "5", "6", reference="5")]
    assert labellers(written(tmp_path / "log.jsonl", rows)) == ["agreement:identical", "reference:number"]


def test_agreement_is_left_out_where_rows_that_differ_have_no_label(tmp_path):
    rows = [row(1, "The answer is 4", "The answer is 4"), row(2, "5", "6", reference="5"), row(3, "7", "8")]
    assert labellers(written(tmp_path / "log.jsonl", rows)) == ["reference:number"]


def test_labels_by_agreement_alone_are_refused(tmp_path):
    rows = [row(1, "The answer is 4", "The answer is 4"), row(3, "7", "8")]
    with pytest.raises(DataRefused, match="answers differ have none"):
        labellers(written(tmp_path / "log.jsonl", rows))


def test_rows_without_text_have_no_label(tmp_path):
    image = row(2, "5", "5", reference="5")
    image["request"]["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    log = written(tmp_path / "log.jsonl", [row(1, "5", "6", reference="5"), image])
    loaded = load_dataset([log], Pair(), None, 0.0, Reporter(quiet=True))
    assert [one.record.id for one in loaded.dataset.rows] == ["r1"]
    assert loaded.labelled.unlabelled == {"no_text": 1}


def pairs(tmp_path: Path, *propensities: dict) -> Path:
    rows = [row(number, "5", "6", reference="5") | fields for number, fields in enumerate(propensities, 1)]
    return written(tmp_path / "log.jsonl", rows)


def test_rows_weigh_by_how_unlikely_their_pair_was_up_to_a_hundredfold(tmp_path, capsys):
    log = pairs(tmp_path, {}, {"pair_propensity": 0.5}, {"pair_propensity": 0.0001})
    data = load_dataset([log], Pair(), None, 0.0, Reporter()).dataset
    assert data.weight.tolist() == [1, 2, 100]
    assert data.effective_rows == pytest.approx(103**2 / (1 + 4 + 10000))
    assert "3 rows count as 1 equal ones" in capsys.readouterr().err


def test_equal_weights_count_as_they_are(tmp_path):
    log = pairs(tmp_path, *[{"pair_propensity": 0.25}] * 7)
    assert load_dataset([log], Pair(), None, 0.0, Reporter(quiet=True)).dataset.effective_rows == pytest.approx(7)


def test_pairs_that_a_router_chose_are_refused_unless_allowed(tmp_path):
    log = pairs(tmp_path, {}, {"route_propensity": 0.9}, {"route_propensity": 1.0, "pair_propensity": 0.1})
    with pytest.raises(DataRefused, match=r"^1 labelled rows come from routed traffic .* line 2\. .*--allow-routed"):
        load_dataset([log], Pair(), None, 0.0, Reporter(quiet=True))
    allowed = load_dataset([log], Pair(), Reading(allows_routed=True), 0.0, Reporter(quiet=True))
    assert allowed.dataset.weight.tolist() == [1, 1, 10]


def test_rows_of_routed_traffic_with_one_answer_refuse_nothing(tmp_path):
    single = row(2, "5", "5") | {"route_propensity": 0.9}
    del single["responses"]["gpt-4o-mini"]
    log = written(tmp_path / "log.jsonl", [row(1, "5", "6", reference="5"), single])
    assert labellers(log) == ["reference:number"]


def test_sessions_too_large_to_keep_whole_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Otherwise nobody learns that rows of one session stand on both sides of the split."""
    rows = [row(number, "yes", "yes") | {"session_id": f"s{number % 4}"} for number in range(100)]
    load_dataset([written(tmp_path / "few.jsonl", rows)], Pair(), None, 0.0, Reporter())
    said = " ".join(capsys.readouterr().err.split())
    assert "Warning: 4 groups hold more than 5% of the rows each (the largest 25)" in said
    rows = [one | {"session_id": f"s{number // 2}"} for number, one in enumerate(rows)]
    load_dataset([written(tmp_path / "many.jsonl", rows)], Pair(), None, 0.0, Reporter())
    assert "Warning" not in capsys.readouterr().err
