"""Sources: what the operator names, a file, a folder, a pattern or a URL, as the files to read.

Comes in: arguments of the command line. Goes out: paths, in the order of the arguments, those of one folder or
pattern sorted by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from turnout.training.errors import DataRefused
from turnout.training.logs.stored_files import URL, LogFile, find_stored


def find_logs(named: Sequence[str]) -> list[LogFile]:
    """Return the files that the arguments name; a file named twice, in whatever way, is read once.

    A folder stands for the files directly in it, hidden ones left out; in a pattern `**` stands for any folders.

    Raises:
        DataRefused: a pattern or a folder holds no file, or an object store refuses or can't be reached.
    """
    found: dict[LogFile, LogFile] = {}
    for path in (path for one in named for path in _files(one)):
        found.setdefault(path.resolve() if isinstance(path, Path) else path, path)
    return list(found.values())


def check_out(out: Path, logs: Sequence[LogFile]) -> None:
    """Refuse to write a result where a log or a folder is.

    Raises:
        DataRefused: `out` is a folder, or one of the logs, by this name or another.
    """
    if out.is_dir():
        raise DataRefused(f"{out}: is a folder; name the file to write")
    if out.exists() and any(isinstance(log, Path) and log.exists() and log.samefile(out) for log in logs):
        raise DataRefused(f"{out}: is one of the logs, which it would replace; name another file to write")


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
