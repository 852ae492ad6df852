"""Join: rows that hold one model's answer each, paired where they are the same request.

Comes in: the records of all logs. Goes out: the same, a strong and a weak answer to one request in one record.
Two logs, one of each model, and one log that holds both are the same to it, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import PurePath

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.training.logs.reading import JoinBy
from turnout.training.logs.records import Record

DIGEST_BYTES = 16
"""Of a join key: by chance, two of a billion different requests share one with a probability of 1e-21."""

KEY = np.dtype([("key", "V16"), ("row", "i8"), ("is_weak", "?")])
"""25 bytes a row are kept to join by, 58 while they are sorted, whatever the length of the prompt."""


SHARED_FIELDS = (
    "reference",
    "preference",
    "task",
    "source",
    "group_id",
    "session_id",
    "tenant",
    "created",
    "pair_propensity",
    "route_propensity",
)


def join_answers(records: Sequence[Record], by: JoinBy) -> tuple[list[Record], int]:
    """Pair records with a single answer; return all records in their order, and how many were merged into others.

    Where one model answered the same request several times, the first strong answer goes with the first weak one,
    the second with the second, in the order of files and lines; what is left over stays as it is. A row that says
    what an earlier one says, id and all, is merged into it: exports overlap. A pair stands at
    the place of its strong row, with that row's fields, and the weak row's where the strong one has none.
    """
    if by is JoinBy.NONE:
        return list(records), 0
    partner = np.full(len(records), -1, dtype=np.int64)
    is_merged = np.zeros(len(records), dtype=np.bool_)
    singles = (row_digest(record, by) if may_join(record, by) else None for record in records)
    is_merged[_repetitions(singles)] = True
    keys = _keys(records, by)
    for strong, weak in _pairs(keys[~is_merged[keys["row"]]]):
        partner[strong] = weak
    is_merged[partner[partner >= 0]] = True
    joined = [
        record if other < 0 else _paired(record, records[int(other)])
        for record, other, is_gone in zip(records, partner, is_merged, strict=True)
        if not is_gone
    ]
    repeated = set(_repetitions(whole_digest(record, by) for record in joined))
    kept = [record for row, record in enumerate(joined) if row not in repeated]
    return kept, len(records) - len(kept)


def _repetitions(digests: Iterable[bytes | None]) -> list[int]:
    """Return the rows whose digest an earlier row has."""
    seen, repeated = set[bytes](), list[int]()
    for row, digest in enumerate(digests):
        if digest in seen:
            repeated.append(row)
        elif digest is not None:
            seen.add(digest)
    return repeated


def whole_digest(record: Record, by: JoinBy) -> bytes | None:
    """Return the digest of a row that no other completes, as `row_digest` does; None for one that may join another."""
    return None if may_join(record, by) else row_digest(record, by)


def row_digest(record: Record, by: JoinBy) -> bytes | None:
    """Return all that a row says but its place, hashed to `DIGEST_BYTES`; None where two rows that say it are two.

    Those are rows without an id of their own, and those that nothing makes the same request (`is_told_apart`).
    """
    if not has_own_id(record) or not is_told_apart(record, by):
        return None
    said = _SAID(record)
    try:
        content = _encode(said)
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, a number of more than 64 bits
        content = repr(said).encode()
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


_PLACE = {"file", "line", "index", "odd_fields", "other_models"}
_SAID = attrgetter(*(field.name for field in fields(Record) if field.name not in _PLACE | {"user_text"}))
"""What a row says: `user_text` is part of the prompt."""
_encode = msgspec.msgpack.Encoder().encode  # 1.3 us for a row of 2 kB, `repr` 6.4


def _keys(records: Sequence[Record], by: JoinBy) -> NDArray[np.void]:
    """Return key, row and side of the rows that may join another, sorted by key, then row."""
    single = (
        (join_digest(record, by), row, record.strong is None)
        for row, record in enumerate(records)
        if may_join(record, by)
    )
    keys = np.fromiter(single, dtype=KEY)
    return keys[np.argsort(keys["key"].view(f"S{DIGEST_BYTES}"), kind="stable")]


def may_join(record: Record, by: JoinBy) -> bool:
    """Whether another record may hold the other model's answer.

    By prompt, none may for a request with images or other content that is not text: records only count these, and "What
    is in this picture?" is asked of many pictures. By id, none may for a row without one.
    """
    has_one_answer = (record.strong is None) != (record.weak is None)
    return has_one_answer and is_told_apart(record, by)


def is_told_apart(record: Record, by: JoinBy) -> bool:
    """Whether what is joined by makes two rows the same request: a prompt of text alone, or an id of the row's own."""
    match by:
        case JoinBy.PROMPT:
            return not (record.prompt.images or record.prompt.is_beyond_features)
        case JoinBy.ID:
            return has_own_id(record)
    return False


def has_own_id(record: Record) -> bool:
    """Whether the row says its id itself; others have that of their place, which is another in every file."""
    place = f":{record.line}.{record.index}" if record.index else f":{record.line}"
    return not record.id.endswith(place) or record.id != f"{PurePath(record.file).name}{place}"


def join_digest(record: Record, by: JoinBy) -> bytes:
    """Return what two records that are the same request have in common, hashed to `DIGEST_BYTES`."""
    prompt = record.prompt
    facts = f"{prompt.turns} {prompt.tools} {prompt.wants_json} {record.carried}\n{prompt.text}"
    key = record.id if by is JoinBy.ID else facts
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _pairs(keys: NDArray[np.void]) -> Iterator[tuple[int, int]]:
    """Yield (strong row, weak row) of each key, the k-th with the k-th."""
    ends = np.flatnonzero(keys["key"][1:] != keys["key"][:-1]) + 1
    start = 0
    for end in (*ends.tolist(), len(keys)):
        if end - start > 1:
            rows, is_weak = keys["row"][start:end], keys["is_weak"][start:end]
            yield from zip(rows[~is_weak].tolist(), rows[is_weak].tolist(), strict=False)
        start = end


def _paired(strong: Record, weak: Record) -> Record:
    missing = {name: getattr(weak, name) for name in SHARED_FIELDS if getattr(strong, name) is None}
    return replace(strong, weak=weak.weak, **missing)
