"""Groups and split: rows that say the same never stand on both sides.

Comes in: labelled records. Goes out: a group for each row and a part for each group: fit 0.6,
calibrate 0.1, policy 0.1, test 0.2.

Two rows share a group when they share a group id, a session, the normalised last user text, or when
they are near-duplicates (`training.dataset.near_duplicates`: 3-word shingles without templates, Jaccard at least 0.8).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from turnout.serving.router.harness import strip_harness
from turnout.serving.router.ties import key_digest, session_key, text_key
from turnout.training.dataset.near_duplicates import near_duplicates
from turnout.training.logs.records import Record

LARGEST_GROUP_SHARE = 0.05
"""A component above this share of the rows is split by exact text: it says a template slipped through."""

WEEK_S = 7 * 86_400
BLOCK = ("FIT",) * 6 + ("CALIBRATE", "POLICY") + ("TEST",) * 2


class Part(IntEnum):
    """What a row is used for."""

    FIT = 0
    CALIBRATE = 1
    POLICY = 2
    TEST = 3


@dataclass(frozen=True)
class Groups:
    """Groups of n rows.

    Attributes:
        group: (n,) int64, group of each row, 0 .. n_groups - 1 in order of first appearance.
        keys: for each row, what ties it to rows of other files: hashes of text, group id and session.
        n_near_duplicates: pairs joined by near-duplication alone.
        split_sizes: sizes of the components that were too large and were split by exact text.
        salt: under which `keys` are digests already, in hex; None where they are the keys themselves.
    """

    group: NDArray[np.int64]
    keys: list[tuple[str, ...]]
    n_near_duplicates: int = 0
    split_sizes: list[int] = field(default_factory=list)
    salt: str | None = None

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1 if self.group.size else 0

    def take(self, rows: NDArray[np.int64]) -> Groups:
        """Return the groups of some rows, whole ones in ascending order, numbered anew."""
        group = np.unique(self.group[rows], return_inverse=True)[1].astype(np.int64)
        return Groups(group, [self.keys[row] for row in rows], self.n_near_duplicates, self.split_sizes, self.salt)

    def digests(self, rows: NDArray[np.int64], salt: str) -> set[bytes]:
        """Return the salted digests of the keys of some rows; `salt` is their own where they have one."""
        keys = (self.keys[row] for row in rows)
        if self.salt is None:
            return key_digests(keys, salt)
        return {bytes.fromhex(key) for row in keys for key in row}


def group_records(records: Sequence[Record], harness_rules: int = 0) -> Groups:
    """Return the groups of the records (connected components over every tie above).

    Args:
        records: in any order, by which the groups are numbered.
        harness_rules: version of the rules by which user texts lose their harness text before they are compared.
    """
    texts = user_texts(records, harness_rules)
    keys = [group_keys(record, text) for record, text in zip(records, texts, strict=True)]
    return tied(keys, near_duplicates(texts))


def user_texts(records: Sequence[Record], harness_rules: int) -> list[str]:
    """Return the last user text of each record as it is compared: without harness text."""
    return [strip_harness(record.user_text, harness_rules) for record in records]


def tied(keys: list[tuple[str, ...]], near: Iterable[tuple[int, int]]) -> Groups:
    """Return the groups of n rows.

    Args:
        keys: of each row, that of its text first; rows that share one belong together.
        near: pairs of further rows that belong together.
    """
    components = DisjointSet(range(len(keys)))
    first_with: dict[str, int] = {}
    for row, row_keys in enumerate(keys):
        for key in row_keys:
            components.merge(first_with.setdefault(key, row), row)
    n_near = sum(components.merge(row, other) for row, other in near)
    root = [components[row] for row in range(len(keys))]
    root, split_sizes = _split_oversized(root, keys)
    return Groups(_number_by_appearance(root), keys, n_near, split_sizes)


def split_groups(records: Sequence[Record], group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Assign each row the part of its group; return (n,) int64 of `Part`.

    Groups are assigned in random blocks of ten, six to fit, one to calibrate, one to policy, two to
    test, source by source, so that the parts have the same mix. When `created` spans a week or more,
    the latest 20 % of the groups are the test, the 10 % before them the policy part.
    """
    rng = np.random.default_rng(seed)
    _, first_row = np.unique(group, return_index=True)
    sources = np.array([records[row].source or records[row].task or "" for row in first_row])
    shuffled = rng.permutation(first_row.size)
    order = shuffled[np.argsort(sources[shuffled], kind="stable")]
    part_of_group = np.empty(first_row.size, dtype=np.int64)
    latest = _latest_created(records, group)
    if latest is None:
        part_of_group[order] = _block_parts(order.size, BLOCK, rng)
    else:
        by_time = np.argsort(latest, kind="stable")
        n_early, n_before_test = int(0.7 * by_time.size), int(0.8 * by_time.size)
        early = set(by_time[:n_early].tolist())
        early_order = np.array([one for one in order if one in early], dtype=np.int64)
        part_of_group[early_order] = _block_parts(early_order.size, BLOCK[:7], rng)
        part_of_group[by_time[n_early:n_before_test]] = Part.POLICY
        part_of_group[by_time[n_before_test:]] = Part.TEST
    return part_of_group[group]


def key_digests(keys: Iterable[tuple[str, ...]], salt: str) -> set[bytes]:
    """Return salted 8-byte digests of the keys: what a bundle keeps of the rows it was trained on."""
    return {key_digest(key, salt) for row in keys for key in row}


def group_keys(record: Record, user_text: str) -> tuple[str, ...]:
    """Return what ties a record to others: the hash of its user text, its group and its session."""
    keys = [text_key(user_text)]
    if record.group_id:
        keys.append(f"group:{record.group_id}")
    if record.session_id:
        keys.append(session_key(record.session_id))
    return tuple(keys)


def _split_oversized(root: list[int], keys: list[tuple[str, ...]]) -> tuple[list[int], list[int]]:
    sizes = Counter(root)
    limit = max(10.0, LARGEST_GROUP_SHARE * len(root))
    oversized = {component for component, size in sizes.items() if size > limit}
    first_with: dict[tuple[int, str], int] = {}
    split = [
        first_with.setdefault((component, row_keys[0]), row) if component in oversized else component
        for row, (component, row_keys) in enumerate(zip(root, keys, strict=True))
    ]
    return split, sorted((sizes[component] for component in oversized), reverse=True)


def _number_by_appearance(root: list[int]) -> NDArray[np.int64]:
    number: dict[int, int] = {}
    return np.array([number.setdefault(component, len(number)) for component in root], dtype=np.int64)


def _latest_created(records: Sequence[Record], group: NDArray[np.int64]) -> NDArray[np.float64] | None:
    created = np.array([np.nan if record.created is None else record.created for record in records])
    if np.isnan(created).any() or created.size == 0 or created.max() - created.min() < WEEK_S:
        return None
    latest = np.full(int(group.max()) + 1, -np.inf)
    np.maximum.at(latest, group, created)
    return latest


def _block_parts(n: int, block: tuple[str, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    parts = np.array([Part[name] for name in block], dtype=np.int64)
    blocks = [rng.permutation(parts) for _ in range(-(-n // parts.size))]
    return np.concatenate(blocks)[:n] if blocks else np.empty(0, np.int64)
