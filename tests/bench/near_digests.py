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

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.features import Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES, strip_harness
from turnout.training.dataset.digests.near import near_rows
from turnout.training.dataset.near_duplicates import JACCARD
from turnout.training.dataset.shingles import Hashes, shingle_hashes
from turnout.training.dataset.splits import tied
from turnout.training.dataset.templates import TEMPLATE_SHARE
from turnout.training.encoders.embeddings import stack_counts
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading

MIN_RECALL = 0.99


def main(log: Path) -> int:
    """Measure and print; return the exit code."""
    records = read_records([log], Pair(), Reading()).records
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    featurize = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, LATEST_HARNESS_RULES)
    counts = stack_counts([featurize(record.prompt) for record in records])
    texts = [strip_harness(record.prompt.text, LATEST_HARNESS_RULES) for record in records]
    shingles = _matrix(list(shingle_hashes(texts)))
    by_text = set(near_rows(shingles, jaccard=JACCARD, template_share=TEMPLATE_SHARE))
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


def _matrix(rows: list[Hashes]) -> csr_matrix:
    """Return which shingles each row holds."""
    _, columns = np.unique(np.concatenate(rows), return_inverse=True)
    ends = np.cumsum([0, *(row.size for row in rows)])
    return csr_matrix((np.ones(columns.size, np.float32), columns, ends), shape=(len(rows), int(columns.max()) + 1))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
