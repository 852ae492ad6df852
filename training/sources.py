"""Sources: what the operator names, a file, a folder, a pattern or a URL, as the files to read.

Comes in: arguments of the command line. Goes out: paths, in the order of the arguments, those of one folder or
pattern sorted by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from training.errors import DataRefused
from training.stored_files import URL, LogFile, find_stored


def find_logs(named: Sequence[str]) -> list[LogFile]:
    """Return the files that the arguments name; a file named twice is read once.

    A folder stands for the files directly in it, hidden ones left out; in a pattern `**` stands for any folders.

    Raises:
        DataRefused: a pattern or a folder holds no file, or an object store refuses or can't be reached.
    """
    return list(dict.fromkeys(path for one in named for path in _files(one)))


def _files(named: str) -> Sequence[LogFile]:
    if URL.match(named):
        return find_stored(named)
    path = Path(named)
    if path.is_dir():
        found = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    elif has_magic(named) and not path.exists():
        # Path.glob takes no absolute pattern
        found = [Path(match) for match in sorted(glob(named, recursive=True)) if Path(match).is_file()]  # noqa: PTH207
    else:
        return [path]
    if not found:
        raise DataRefused(f"{named}: no file there")
    return found
