"""What retraining promises, on real outcomes: the gate errs as rarely as stated, and the story ends where it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench.retraining.gate import duels
from tests.bench.retraining.rows import RealRows, read_rows
from tests.bench.retraining.story import tell, worlds
from turnout.training.progress import Reporter

pytestmark = [pytest.mark.bench, pytest.mark.shared_data]
TEST_ROWS, TRIES = 2000, 100
N_OTHERS = 4000


@pytest.fixture(scope="module")
def real(shared_data: Path) -> RealRows:
    return read_rows(shared_data, Reporter(quiet=True))


@pytest.mark.timeout(1800)
def test_worse_challenger_never_passes_and_better_one_nearly_always(real: RealRows):
    for duel in duels(real, [TEST_ROWS], TRIES):
        assert duel.worse_log_loss - duel.log_loss == pytest.approx(0.02, abs=1e-6)
        assert duel.worse_promoted == 0, duel.way
        assert duel.better_promoted >= 0.9 * TRIES, duel.way


@pytest.mark.timeout(3600)
def test_two_retrainings_bring_a_source_never_seen_to_where_it_would_be_from_the_start(real: RealRows):
    told = [one for world in worlds(real, N_OTHERS, seed=0) for one in tell(real, world, [1.0], seed=0)]
    ends = [one for one in told if one.name == "retrained 2"]
    assert len(ends) == 8
    assert np.mean([one.auroc_less[0] for one in ends]) >= -0.02
    assert np.mean([one.figures.ece_excess for one in ends]) <= 0.01
    starts = [one for one in told if one.name == "cold start"]
    assert np.mean([one.figures.auroc for one in starts]) < np.mean([one.figures.auroc for one in ends])
