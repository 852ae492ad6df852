"""Labels of a ladder that were made before: a file a rung, as `turnout label` wrote it for the rung and the top.

Comes in: the files and the logs. Goes out: what the files say. Each speaks of the logs as its pair is read and joined,
so that they are read so once more: a label reaches the request that its row became part of, or nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.labels import Labelled
from turnout.training.labels.stored import label_files, origin_of, pair_of_labels, stored_labels
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile


def files_of_rungs(path: Path | None, names: Sequence[str]) -> dict[int, Path]:
    """Return the file of each rung that has one, by its number; other rungs are labelled from the logs.

    Args:
        path: one file, or a folder of them; None for none.
        names: of the rungs, the cheapest first.

    Raises:
        DataRefused: a file is none of labels, compares other models, or is the second of a rung.
    """
    found: dict[int, Path] = {}
    for file in label_files(path):
        pair = pair_of_labels(file)
        rung = names.index(pair.weak) if pair.weak in names[:-1] and pair.strong == names[-1] else None
        if rung is None:
            raise DataRefused(
                f"{file}: labels compare {pair.weak} with {pair.strong}, and not a rung of the ladder with its "
                f"top: turnout label LOGS --strong {names[-1]} --weak RUNG, with RUNG one of {', '.join(names[:-1])}"
            )
        if rung in found:
            raise DataRefused(f"{file}: labels of {names[rung]} are in {found[rung]} too; leave one of them")
        found[rung] = file
    return found


def stored_of_rung(file: Path, paths: Sequence[LogFile], pair: Pair, reading: Reading, margin: float) -> Labelled:
    """Return what a file says of the rows of its pair; raises `DataRefused` as `stored_labels` does."""
    read = read_records(paths, pair, reading).joined(reading.join)
    return stored_labels(file, read.records, origin_of(paths, pair, margin))
