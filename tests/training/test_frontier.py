"""The frontier: what each part is worth, and which of them nothing beats."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.training.runs import QUIET, TrainingRun
from turnout.serving.bundles.manifest import Pair
from turnout.training.assess import frontier
from turnout.training.assess.frontier import (
    UNIONS,
    FrontierPoint,
    FrontierRows,
    cheapest_within_error,
    measure_frontier,
)
from turnout.training.dataset.dataset import load_dataset
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.report.frontier import write_frontier


@pytest.fixture(scope="module")
def points(
    training_run: TrainingRun, tmp_path_factory: pytest.TempPathFactory, encoder: EncoderModel, dense_cache: Path
) -> list[FrontierPoint]:
    log: Path = tmp_path_factory.mktemp("frontier") / "log.jsonl"
    log.write_bytes(b"".join(training_run.log.read_bytes().splitlines(keepends=True)[:600]))
    data = load_dataset([log], Pair(), None, 0.0, QUIET).dataset
    table = embed([record.prompt for record in data.records], encoder, cache_dir=dense_cache, harness_rules=1)
    renamed = msgspec.structs.replace(encoder.card, name="the same again")
    encoders = [(encoder, table), (EncoderModel(renamed, encoder.graph, encoder.tokenizer_json), table)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier, "N_TIMED", 40)  # parts differ by a hundred times
        return measure_frontier(FrontierRows.of(data, np.arange(len(data.rows))), encoders, 0, QUIET)


def test_each_union_has_one_point_and_each_encoder_its_own(points: list[FrontierPoint]):
    with_encoder = [union for union in UNIONS if "dense" in union]
    assert len(points) == len(UNIONS) + len(with_encoder)
    assert {point.encoder for point in points if "dense" not in point.parts} == {None}
    assert sorted(point.us for point in points) == [point.us for point in points]


def test_same_vectors_are_worth_the_same_and_the_encoder_costs_time(points: list[FrontierPoint]):
    dense = [point for point in points if point.parts == "dense"]
    assert dense[0].auroc == dense[1].auroc > 0.55
    assert dense[0].excess_loss == pytest.approx(dense[1].excess_loss)
    lexical = next(point for point in points if point.parts == "lexical")
    assert lexical.us < min(point.us for point in dense)


def test_one_point_has_the_lowest_loss_and_none_of_the_frontier_is_beaten(points: list[FrontierPoint]):
    assert min(point.excess_loss for point in points) == 0.0
    for one in points:
        beaten = any(other.us < one.us and other.excess_loss < one.excess_loss for other in points)
        assert one.is_on_frontier == (not beaten)
    chosen = cheapest_within_error(points)
    assert chosen.excess_loss <= chosen.excess_loss_se
    assert all(one.excess_loss > one.excess_loss_se for one in points if one.us < chosen.us)


@pytest.mark.slow
def test_figure_names_every_union(points: list[FrontierPoint], tmp_path: Path):
    write_frontier(points, tmp_path / "plots")
    svg = (tmp_path / "plots" / "frontier.svg").read_text(encoding="utf-8")
    assert (tmp_path / "plots" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert all(f"{' + '.join(union)}" in svg for union in UNIONS)
    assert "the same again" in svg
    assert ">1,000<" in svg
    assert "math" not in svg
