"""Repeats: which row repeats which, written beside the rows when all of them have been seen.

Comes in: finished rows in the order of the logs, twice, with the columns of
`training.dataset.features.schema.MADE_FIELDS`. Goes out: the same with `FIELDS`, which are null where a row has no
label. Of a labelled row 104 bytes stay in memory (`turnout.training.dataset.near_duplicates`, and the digest of its
text); its shingles stand in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.training.dataset.features.schema import FIELDS, SHINGLES
from turnout.training.dataset.near_duplicates import NONE, repeated_rows, signatures_of
from turnout.training.dataset.shingles import Hashes, shingle_file
from turnout.training.dataset.templates import find_templates


class Repeats(NamedTuple):
    """What is known of the n labelled rows together.

    Attributes:
        texts: (n,) digest of each row's user text, 8 bytes.
        earlier: (n,) number of an earlier row that the row repeats, or `NONE`.
        templates: hashes of the shingles that don't count.
    """

    texts: pa.Array
    earlier: NDArray[np.int32]
    templates: Hashes


def with_repeats(tables: Callable[[], Iterable[pa.Table]], folder: Path | None = None) -> Iterator[pa.Table]:
    """Yield tables of rows with what ties them to each other.

    Args:
        tables: gives all rows anew, with `MADE_FIELDS` beside their labels.
        folder: where shingles take their room; None for the system's folder of temporary files.
    """
    found = find_repeats(tables(), folder)
    first = 0
    for table in tables():
        has_label = pc.is_valid(table["match"]).to_numpy()
        last = first + int(has_label.sum())
        yield _with_fields(table, has_label, _ties(table.filter(pa.array(has_label)), found, first, last))
        first = last


def find_repeats(tables: Iterable[pa.Table], folder: Path | None = None) -> Repeats:
    """Return which of the labelled rows repeat others; raises `DataRefused` where the disk is full."""
    texts = [pa.array([], pa.binary(8))]
    with shingle_file(folder) as shingles:
        for table in tables:
            kept = table.filter(pc.is_valid(table["match"]))
            hashes, ends = _shingles(kept)
            shingles.add(np.split(hashes, ends[:-1]) if ends.size else [])
            texts.append(pc.list_element(kept["keys"], 0).combine_chunks())
        templates = find_templates(shingles)
        return Repeats(pa.concat_arrays(texts), repeated_rows(shingles, templates), templates)


def _shingles(kept: pa.Table) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the shingles of rows after one another, and where each row ends in them."""
    column = kept[SHINGLES.name].combine_chunks()
    return column.flatten().to_numpy(), np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False))


def _ties(kept: pa.Table, found: Repeats, first: int, last: int) -> dict[str, pa.Array]:
    earlier = found.earlier[first:last]
    signed = signatures_of(*_shingles(kept), found.templates)
    return {
        "near_duplicate_of": found.texts.take(pa.array(earlier, mask=earlier == NONE)),
        "minhash": pa.array(signed.as_bytes(), pa.binary()),
    }


def _with_fields(table: pa.Table, has_label: NDArray[np.bool_], ties: dict[str, pa.Array]) -> pa.Table:
    """Return the table with `FIELDS`, each null where a row has no label."""
    own_row = pa.array(np.arange(has_label.size), mask=~has_label)
    kept_row = pa.array(np.cumsum(has_label) - 1, mask=~has_label)
    for field in FIELDS:
        column = ties[field.name].take(kept_row) if field.name in ties else table[field.name].take(own_row)
        place = table.schema.get_field_index(field.name)
        table = table.append_column(field, column) if place < 0 else table.set_column(place, field, column)
    return table
