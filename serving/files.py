"""Files that are there whole or not at all, also after a power cut: the one writer that everything uses.

Comes in: a path, and what is written to a draft beside it. Goes out: the file under its name, on the disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, folder: Path | None = None, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a draft to write to, which takes the name of `path` when the block ends well and goes when it doesn't.

    The draft is synced before it is renamed, and the folder after it: a rename alone may survive a power cut that
    the content does not.

    Args:
        path: the final name; its folder exists.
        folder: where the draft lies; None for beside `path`. It must be of the same file system.
        mode: permission bits of the file.
    """
    handle, name = tempfile.mkstemp(dir=folder or path.parent, prefix=f".{path.name}.", suffix=".tmp")
    draft = Path(name)
    try:
        os.fchmod(handle, mode)
        os.close(handle)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` under the name of `path`, in place of what was there; see `replacing`."""
    with replacing(path, mode=mode) as draft:
        draft.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Return once the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
