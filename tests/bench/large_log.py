"""A large log out of a small one: real rows repeated and perturbed, as a Parquet log that `turnout train` reads.

    python -m tests.bench.large_log OUT.parquet LOGS... [--rows 1000000] [--answers] [--vectors FOLDER]

Of each copy a tenth of the words is dropped and a twentieth replaced by words of other rows, and two labels of a
hundred change sides; a copy has no group id, so that near-duplicates are looked for among all. `--answers` keeps both
models' answers. `--vectors` fills a cache of dense vectors (TURNOUT_CACHE=FOLDER): a copy's is that of its row with
noise, so that training can be measured apart from the encoder, whose time is told by `--encode N` copies.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.features import Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.encoders.embeddings import CACHE_CHUNK, DenseCache, default_cache_dir, embed
from turnout.training.encoders.encoders import DEFAULT_ENCODER, EncoderModel, load_encoder

DROPPED, REPLACED, FLIPPED, NOISE = 0.1, 0.05, 0.02, 0.1
AT_ONCE = 20 * CACHE_CHUNK
PLAIN = ("source", "task", "prompt", "strong_model", "weak_model", "strong_score", "weak_score", "language")
ANSWERS = ("strong_response", "weak_response")


def main() -> None:
    """Write the log, and what was asked for beside it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--answers", action="store_true")
    arguments.add_argument("--vectors", type=Path)
    arguments.add_argument("--encode", type=int, default=0)
    given = arguments.parse_args()
    columns = [*PLAIN, *(ANSWERS if given.answers else ())]
    rows = pa.concat_tables([pq.read_table(log, columns=columns) for log in given.logs]).to_pylist()
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    fill = _Vectors(given.vectors, encoder, rows) if given.vectors else None
    writer, copies = None, []
    for some in _copies(rows, given.rows):
        table = pa.Table.from_pylist([row for _, row in some])
        writer = writer or pq.ParquetWriter(given.out, table.schema)
        writer.write_table(table)
        copies += [row["prompt"] for _, row in some[: max(0, given.encode - len(copies))]]
        if fill:
            fill.add(some)
    if writer:
        writer.close()
    if copies:
        begins = time.process_time()
        embed([prompt_from_text(text) for text in copies], encoder, cache_dir=None, n_threads=1)
        took = (time.process_time() - begins) / len(copies)
        print(f"encoder and features: {1e3 * took:.2f} CPU-ms a prompt over {len(copies):,} distinct copies")


def _copies(rows: Sequence[dict[str, object]], n: int) -> Iterator[list[tuple[int, dict[str, object]]]]:
    """Yield n rows, some at a time, each with the number of the real one: those first, then perturbed copies."""
    rng = np.random.default_rng(0)
    words = [str(row["prompt"]).split(" ") for row in rows]
    order = rng.permutation(np.arange(n) % len(rows)) if n > len(rows) else rng.permutation(len(rows))[:n]
    seen: set[int] = set()
    for start in range(0, n, AT_ONCE):
        some = []
        for number in order[start : start + AT_ONCE].tolist():
            is_copy = number in seen
            seen.add(number)
            some.append((number, _perturbed(rows[number], words, number, rng) if is_copy else rows[number]))
        yield some


def _perturbed(
    row: dict[str, object], words: Sequence[list[str]], number: int, rng: np.random.Generator
) -> dict[str, object]:
    own, others = words[number], words[int(rng.integers(len(words)))]
    chance = rng.random(len(own))
    kept = [
        others[place % len(others)] if drawn < DROPPED + REPLACED else word
        for place, (word, drawn) in enumerate(zip(own, chance.tolist(), strict=True))
        if drawn >= DROPPED
    ]
    changed = {"prompt": " ".join(kept) or own[0]}
    if rng.random() < FLIPPED:
        changed |= {"strong_score": row["weak_score"], "weak_score": row["strong_score"]}
    return row | changed


class _Vectors:
    """Puts the vectors of copies into a cache without running the encoder."""

    def __init__(self, folder: Path, encoder: EncoderModel, rows: Sequence[dict[str, object]]) -> None:
        self._featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, LATEST_HARNESS_RULES)
        prompts = [prompt_from_text(str(row["prompt"])) for row in rows]
        rules = LATEST_HARNESS_RULES
        real = embed(prompts, encoder, cache_dir=default_cache_dir(), harness_rules=rules, n_threads=1)
        self._vectors = real.dense
        self._noise = NOISE * float(real.dense.std())
        self._cache = DenseCache(folder, encoder.card.sha256)
        self._rng = np.random.default_rng(1)

    def add(self, some: Sequence[tuple[int, dict[str, object]]]) -> None:
        """Give the rows vectors, where they have none."""
        ids = [self._featurize(prompt_from_text(str(row["prompt"]))).token_ids for _, row in some]
        own = self._vectors[[number for number, _ in some]]
        own = own + self._noise * self._rng.standard_normal(own.shape, dtype=np.float32)
        place = {key.tobytes(): number for number, key in enumerate(ids)}
        for start in range(0, len(ids), CACHE_CHUNK):
            self._cache.fill(
                ids[start : start + CACHE_CHUNK], lambda missing: iter([own[place[one.tobytes()]] for one in missing])
            )


if __name__ == "__main__":
    main()
