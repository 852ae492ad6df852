"""How training grows with the rows: real rows repeated and perturbed, CPU seconds and memory by stage.

    python -m tests.bench.growth LOGS... [--rows 20000 80000 250000] [--whole]

Of each repeated row a tenth of the n-grams is dropped and a twentieth replaced by ones of other rows, its vector gets
noise and two labels of a hundred change; a copy is a group of its own. Each size runs in a process of its own. Timed
are scaling and the fit of both heads at the champion's settings (evaluations of the loss beside), and with `--whole`
all that `turnout train` fits once the settings are chosen, instead: five folds and all rows. Reading, embedding, the
choice of settings, policies, evaluation and export are not in it: `tests.bench.large_log` makes a log for the whole.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from tests.bench.recipe import CHAMPION, Rows, read
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import Blocks, Target, fit_scaler, outcome_classes
from turnout.training.fit.many_rows import fit_and_answer
from turnout.training.fit.out_of_fold import LessonRows
from turnout.training.fit.solver import fit_logistic

DROPPED, REPLACED, FLIPPED, NOISE = 0.1, 0.05, 0.02, 0.1
HEADER = "rows | scaling, s | full head, s (evaluations) | fast head, s (evaluations) | peak, GiB"
WHOLE_HEADER = "rows | five folds and all rows, s | peak, GiB"


@dataclass(frozen=True)
class Enlarged:
    """Repeated rows: features, outcome classes, match and groups, (n,) each."""

    table: FeatureTable
    classes: np.ndarray
    match: np.ndarray
    group: np.ndarray


def main() -> None:
    """Time each size and print a row of a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--rows", type=int, nargs="+", default=[20_000, 80_000, 250_000])
    arguments.add_argument("--whole", action="store_true")
    given = arguments.parse_args()
    rows = read(given.logs)
    print(WHOLE_HEADER if given.whole else HEADER, flush=True)
    for n in given.rows:
        child = multiprocessing.get_context("fork").Process(target=timed, args=(rows, n), kwargs={"whole": given.whole})
        child.start()
        child.join()


def timed(rows: Rows, n: int, *, whole: bool) -> None:
    """Print what n rows take."""
    large = enlarged(rows, n)
    told = _whole(large) if whole else _one_fit(large)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{n:,} | {told} | {peak:.2f}", flush=True)


def _whole(large: Enlarged) -> str:
    begins = time.process_time()
    lessons = LessonRows(large.table, {CHAMPION.form: large.classes}, large.match, large.group)
    fit_and_answer(lessons, [CHAMPION], n_jobs=1)
    return f"{time.process_time() - begins:.1f}"


def _one_fit(large: Enlarged) -> str:
    begins = time.process_time()
    scaler = fit_scaler(large.table, CHAMPION)
    blocks = Blocks.of(large.table, scaler)
    target = Target.of(large.classes, CHAMPION.form)
    design, near = blocks.design(CHAMPION.dense_scale), blocks.design(0.0)
    scaled = time.process_time()
    full = fit_logistic(design, target.share, CHAMPION.c)
    fitted = time.process_time()
    fast = fit_logistic(near, target.share, CHAMPION.c, start=blocks.without_dense(full, CHAMPION.dense_scale))
    ends = time.process_time()
    return (
        f"{scaled - begins:.1f} | {fitted - scaled:.1f} ({full.n_evaluations}) | "
        f"{ends - fitted:.1f} ({fast.n_evaluations})"
    )


def enlarged(rows: Rows, n: int) -> Enlarged:
    """Return n rows: those of the logs, then perturbed copies."""
    rng, known = np.random.default_rng(0), rows.source.size
    taken = rng.permutation(np.arange(n) % known) if n > known else rng.permutation(known)[:n]
    is_copy = np.zeros(n, dtype=bool)
    is_copy[np.unique(taken, return_index=True)[1]] = True
    is_copy = ~is_copy
    data = rows.data
    match = np.where(is_copy & (rng.random(n) < FLIPPED), 1 - data.match[taken], data.match[taken])
    classes = outcome_classes(match, data.strong_score[taken], data.weak_score[taken])
    dense = rows.table.dense[taken]
    noise = NOISE * dense.std() * rng.standard_normal(dense.shape, dtype=np.float32)
    dense = dense + np.where(is_copy[:, None], noise, np.float32(0))
    counts = rows.table.counts[taken]
    of_copy = np.repeat(is_copy, np.diff(counts.indptr))
    indices, values = counts.indices.copy(), counts.data.copy()
    moved = of_copy & (rng.random(indices.size) < REPLACED)
    indices[moved] = rng.choice(indices, int(moved.sum()))
    values[of_copy & (rng.random(indices.size) < DROPPED)] = 0
    counts = csr_matrix((values, indices, counts.indptr), counts.shape)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    group = np.where(is_copy, rows.group.max() + 1 + np.arange(n), rows.group[taken])
    return Enlarged(FeatureTable(counts, rows.table.structural[taken], dense), classes, match, group)


if __name__ == "__main__":
    main()
