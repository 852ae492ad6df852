"""How well hashed n-grams tie the rows that their texts tie: recall, other pairs, and the largest groups.

    python -m tests.bench.near_digests LOG.parquet

All pairs are compared, of texts and of hashes: no estimate stands between them. Fails where less than 99 % of the pairs
that the texts tie are tied.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from serving.bundle import Pair
from serving.features import Featurizer
from serving.harness import LATEST_HARNESS_RULES, strip_harness
from serving.registry import find_encoder
from training.digests.near import near_rows
from training.embeddings import stack_counts
from training.encoders import DEFAULT_ENCODER, load_encoder
from training.logs import read_records
from training.reading import Reading
from training.splits import JACCARD, shingled, tied

MIN_RECALL = 0.99


def main(log: Path) -> int:
    """Measure and print; return the exit code."""
    records = read_records([log], Pair(), Reading()).records
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, LATEST_HARNESS_RULES)
    counts = stack_counts([featurize(record.prompt) for record in records])
    texts = [strip_harness(record.prompt.text, LATEST_HARNESS_RULES) for record in records]
    by_text = set(near_rows(_matrix(shingled(texts)), jaccard=JACCARD, template_share=1.0))
    by_hash = set(near_rows(counts))
    recall = len(by_text & by_hash) / len(by_text)
    n_pairs = len(records) * (len(records) - 1) // 2
    print(f"{len(records)} rows, {n_pairs} pairs; {len(by_text)} tied by their texts, {len(by_hash)} by hashed n-grams")
    print(f"recall {recall:.4f}; {len(by_hash - by_text)} other pairs tied")
    groups = tied([(str(row),) for row in range(len(records))], by_hash)
    for group, size in Counter(groups.group.tolist()).most_common(3):
        sources = Counter(records[row].source for row in np.flatnonzero(groups.group == group))
        print(f"a group of {size} rows: {', '.join(f'{n} of {name}' for name, n in sources.most_common(3))}")
    return int(recall < MIN_RECALL)


def _matrix(sets: list[set[str]]) -> csr_matrix:
    number: dict[str, int] = {}
    indices = [[number.setdefault(one, len(number)) for one in sorted(items)] for items in sets]
    indptr = np.cumsum([0, *map(len, indices)])
    columns = np.array([one for row in indices for one in row], dtype=np.int64)
    return csr_matrix((np.ones(columns.size, np.float32), columns, indptr), shape=(len(sets), len(number)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
