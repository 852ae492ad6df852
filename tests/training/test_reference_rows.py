"""The real outcomes beside the project, read, labelled, grouped and split as training does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import QUIET
from turnout.serving.bundles.manifest import Pair
from turnout.training.dataset.dataset import load_dataset
from turnout.training.dataset.splits import Part, split_groups


@pytest.mark.slow
@pytest.mark.shared_data
def test_reference_rows_are_all_read_labelled_and_split_by_group(shared_data: Path):
    loaded = load_dataset([shared_data / "gpt-4o_gpt-4o-mini.parquet"], Pair(), None, 0.0, QUIET)
    data = loaded.dataset
    assert loaded.read.n_rows == len(data.rows) == 20_764
    assert loaded.labelled.by_labeller == {"scores": 20_764}
    assert data.match.mean() == pytest.approx(0.8748, abs=5e-5)

    group = data.groups.group
    part = split_groups(data.records, group, seed=0)
    parts_of_group = {(int(one), int(where)) for one, where in zip(group, part, strict=True)}
    assert len(parts_of_group) == data.groups.n_groups
    theirs: dict[str, set[int]] = {}
    for record, where in zip(data.records, part, strict=True):
        theirs.setdefault(record.group_id or record.id, set()).add(int(where))
    assert all(len(places) == 1 for places in theirs.values())
    for one, share in ((Part.FIT, 0.6), (Part.CALIBRATE, 0.1), (Part.POLICY, 0.1), (Part.TEST, 0.2)):
        assert np.unique(group[part == one]).size / data.groups.n_groups == pytest.approx(share, abs=0.002)
    assert data.groups.split_sizes == []
    assert np.bincount(group).max() < 100
