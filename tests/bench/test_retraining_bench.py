"""What retraining promises, on real outcomes: the gate errs as rarely as stated, and the story ends where it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.retraining.gate import duels
from tests.bench.retraining.rows import RealRows, read_rows
from training.progress import Reporter

pytestmark = [pytest.mark.bench, pytest.mark.shared_data]
TEST_ROWS, TRIES = 2000, 100


@pytest.fixture(scope="module")
def real(shared_data: Path) -> RealRows:
    return read_rows(shared_data, Reporter(quiet=True))


@pytest.mark.timeout(1800)
def test_worse_challenger_never_passes_and_better_one_nearly_always(real: RealRows):
    for duel in duels(real, [TEST_ROWS], TRIES):
        assert duel.worse_log_loss - duel.log_loss == pytest.approx(0.02, abs=1e-6)
        assert duel.worse_promoted == 0, duel.way
        assert duel.better_promoted >= 0.9 * TRIES, duel.way
