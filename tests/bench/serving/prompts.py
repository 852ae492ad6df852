"""The prompts that every variant gets: five lengths that are made, and a mix as real as there is.

Run as `python -m tests.bench.serving.prompts ROWS` it prints synthetic rows as JSON lines, `{"text", "match"}`: what
the peers' heads are fitted on, without any row of a real log in a peer's folder.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from turnout.training.sample.sample import make_sample

LENGTHS = (8, 32, 128, 512, 8000)
"""In tokens; the words below are one word piece each."""

PER_LENGTH = 16
"""Different prompts of each length, so that nothing is answered from a memory of the last call."""

WORDS = (
    *("the", "ferry", "leaves", "northern", "pier", "at", "noon", "and", "seven", "red", "lamps"),
    *("light", "every", "quiet", "street", "of", "our", "old", "town"),
)
REAL = "gpt-4o_gpt-4o-mini.parquet"


def of_length(tokens: int) -> list[str]:
    """Return `PER_LENGTH` different prompts of that many words."""
    dice = random.Random(tokens)
    return [" ".join(dice.choices(WORDS, k=tokens)) for _ in range(PER_LENGTH)]


def mixed(n_prompts: int, seed: int) -> tuple[str, list[str]]:
    """Return what the mix is and its prompts: real ones where they lie beside the project, else of the sample."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    file = Path(os.environ.get("TURNOUT_SHARED_DATA", beside)) / REAL
    if file.exists():
        texts = pq.read_table(file, columns=["prompt"])["prompt"].to_pylist()
        name = f"{n_prompts} of {len(texts)} real prompts"
    else:
        texts = [row["text"] for row in sample_rows(4 * n_prompts, seed)]
        name = f"{n_prompts} synthetic prompts (no {REAL} beside the project)"
    return name, random.Random(seed).sample([text for text in texts if text.strip()], n_prompts)


def sample_rows(n_rows: int, seed: int) -> list[dict]:
    """Return the last message of synthetic rows, and whether the weak model was not worse."""
    return [
        {
            "text": row["request"]["messages"][-1]["content"],
            "match": row["responses"]["gpt-4o-mini"]["score"] >= row["responses"]["gpt-4o"]["score"],
        }
        for row in make_sample(n_rows, seed)
    ]


if __name__ == "__main__":
    for row in sample_rows(int(sys.argv[1]), seed=0):
        print(msgspec.json.encode(row).decode())
