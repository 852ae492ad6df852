"""`turnout sample`: a synthetic log to try everything with."""

from __future__ import annotations

from pathlib import Path

from turnout.serving.cli.options import AsJson, AtLeastOne, say
from turnout.training.cli.options import Seed
from turnout.training.sample.sample import write_sample


def sample(*, out: Path, rows: AtLeastOne = 3000, seed: Seed = 0, as_json: AsJson = False) -> None:
    """Make a SYNTHETIC gateway log to try everything with: templates of our own, outcomes from a stated model.

    Args:
        out: File to write; .jsonl or .jsonl.gz.
        rows: Rows to make.
    """
    write_sample(out, rows, seed)
    line = f"{out}: {rows} synthetic rows, seed {seed}; they say nothing of real traffic"
    say(line, {"out": out, "rows": rows, "seed": seed, "synthetic": True}, as_json=as_json)
