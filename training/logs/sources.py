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


def check_out(out: Path | None, logs: Sequence[LogFile], *beside: Path | None) -> None:
    """Refuse to write a result where something that is read, or a folder, is.

    Args:
        out: the file to write; None for none.
        logs: that are read.
        *beside: what is read beside them: files, and folders such as a bundle's.

    Raises:
        DataRefused: `out` is a folder, one of the files, by this name or another, or lies in one of the folders.
    """
    if out is None:
        return
    if out.is_dir():
        raise DataRefused(f"{out}: is a folder; name the file to write")
    read = [path for path in (*logs, *beside) if isinstance(path, Path) and path.exists()]
    if out.exists() and any(path.samefile(out) for path in read):
        raise DataRefused(
            f"{out}: is one of the logs or other files that are read, which it would replace; name another file"
        )
    if any(path.is_dir() and path.resolve() in out.resolve().parents for path in beside if path is not None):
        raise DataRefused(f"{out}: lies in a folder that is read; name a file elsewhere")


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
