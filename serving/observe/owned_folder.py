"""A folder for temporary files that is removed at the end, or by the next start where its owner was killed.

The owner holds a lock on the folder itself, which the kernel gives back however the owner ends, and which is seen from
other containers on the same volume, where process ids say nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NAME = "turnout-metrics-"
OWNED = f"{NAME}owned-"
"""Begins the name of a folder that is locked as long as its owner lives."""
_UNNAMED = ".turnout-metrics-"
_YOUNG_S = 60.0
"""A folder without a lock this young may be one that is about to be locked, or to get its first files."""

_PID = re.compile(r"_(\d+)\.db$")
_log = logging.getLogger("turnout.observe")


@contextlib.contextmanager
def owned_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give a new folder of this user alone; those without a living owner beside it are removed first.

    Raises:
        OSError: there is no room for a folder.
    """
    where = Path(tempfile.gettempdir()) if parent is None else parent
    for left in sweep(where):
        _log.info("removed %s, whose server is gone", left)
    unnamed = Path(tempfile.mkdtemp(prefix=_UNNAMED, dir=where))
    folder = where / unnamed.name.replace(_UNNAMED, OWNED)
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
        at_the_end.callback(os.close, _take(unnamed, folder))
        yield folder


def restore(folder: Path) -> bool:
    """Make an owned folder again where somebody removed it; return whether that was so.

    Raises:
        OSError: there is no room for a folder.
    """
    if folder.is_dir():
        return False
    _take(Path(tempfile.mkdtemp(prefix=_UNNAMED, dir=folder.parent)), folder)  # locked until this process ends
    return True


def _take(unnamed: Path, folder: Path) -> int:
    """Lock a folder, then give it its name, so that nobody finds it unlocked; return what holds the lock."""
    lock = os.open(unnamed, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there either
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder)
    return lock


def sweep(parent: Path) -> list[Path]:
    """Remove folders of this user without a living owner; return which. What can't be removed stays."""
    removed = []
    for folder in sorted([*parent.glob(f"{NAME}*"), *parent.glob(f"{_UNNAMED}*")]):
        with contextlib.suppress(OSError):  # another start removes it at the same time, or it is not ours
            if _is_ours(folder) and _has_no_owner(folder):
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.lstat().st_uid == os.getuid()


def _has_no_owner(folder: Path) -> bool:
    if not folder.name.startswith(OWNED):  # of a release before the lock: its workers' ids stand in its files
        is_young = time.time() - folder.stat().st_mtime < _YOUNG_S
        pids = {found.group(1) for path in folder.iterdir() if (found := _PID.search(path.name))}
        return not is_young and not any(Path("/proc", pid).exists() for pid in pids)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
