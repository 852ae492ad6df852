"""How often the router that is served breaks its promises: logs of n rows drawn from real ones, the rest is traffic.

    python -m tests.bench.redraws LOGS... --rows 1000 --draws 40 --out FILE.jsonl [--fixed]

Each draw takes whole groups at random until there are n rows, trains by the recipe of `turnout train` and asks the fit
on all of them about all other groups, at the thresholds that were solved out of fold. `--fixed` leaves out the choice
of settings (binary form, C 1), which takes four times as long. Draws come from the same rows and overlap. The file
keeps one line a draw, so that a killed run goes on; figures are of all lines in it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import beta

from tests.bench.recipe import Rows, learned, read
from turnout.training.fit.fit import FitSettings
from turnout.training.fit.select import candidates_of

FIXED = FitSettings(form="binary", c=1.0)
LEVELS = (0.005, 0.01, 0.02, 0.05)


def main() -> None:
    """Draw, and print how often each promise was broken and what it sent to the weak model."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--rows", type=int, default=1000)
    arguments.add_argument("--draws", type=int, default=40)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--fixed", action="store_true")
    given = arguments.parse_args()
    rows = read(given.logs)
    known = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for seed in sorted(set(range(given.draws)) - {one["seed"] for one in known}):
        found = drawn(rows, given.rows, seed, fixed=given.fixed)
        known.append(found)
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    print(figures(known))


def drawn(rows: Rows, n_rows: int, seed: int, *, fixed: bool) -> dict[str, float]:
    """Return, by level, the share that goes weak and the share made worse of the rows that were not drawn."""
    names, number, size = np.unique(rows.group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(names.size)
    taken = order[: int(np.searchsorted(np.cumsum(size[order]), n_rows)) + 1]
    is_ours = np.isin(number, taken)
    learn, rest = np.flatnonzero(is_ours), np.flatnonzero(~is_ours)
    candidates = [FIXED] if fixed else candidates_of(["four_outcomes", "binary"], learn.size)
    found = learned(rows, learn, candidates, seed, balanced=False)
    router, table = found.solved.router, rows.table.take(rest)
    heads, is_unlike = router.log_odds(table), router.is_out_of_distribution(table)
    told: dict[str, float] = {"seed": seed, "rows": int(learn.size)}
    for level in LEVELS:
        threshold = next(one.threshold for one in found.solved.policies if one.name == f"max_worse={level:g}")
        weak = (router.cascade(heads, threshold).p_match >= threshold) & ~is_unlike
        told[f"weak {level:g}"] = float(weak.mean())
        told[f"worse {level:g}"] = float((weak & (rows.data.match[rest] == 0)).mean())
    return told


def figures(known: list[dict[str, float]]) -> str:
    """Return the figures of all draws as a table."""
    n = len(known)
    lines = [f"{n} draws", "| max_worse | to the weak model | broken, 95 % |", "| --- | --- | --- |"]
    for level in LEVELS:
        broken = sum(one[f"worse {level:g}"] > level for one in known)
        low = beta.ppf(0.025, broken, n - broken + 1) if broken else 0.0
        high = beta.ppf(0.975, broken + 1, n - broken) if broken < n else 1.0
        weak = np.array([one[f"weak {level:g}"] for one in known])
        lines.append(
            f"| {level:g} | {weak.mean():.1%} ± {weak.std() / np.sqrt(n):.1%} | "
            f"{broken / n:.1%} ({low:.1%} to {high:.1%}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
