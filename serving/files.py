"""Files as everything writes and watches them: there whole or not at all, and looked at without hanging with the disk.

Comes in: a path, and what is written to a draft beside it; or a look at what others wrote. Goes out: the file under its
name, on the disk; or what the look found, within a bounded time.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

LOOK_S = 2.0
"""A look at a file that takes longer hangs: a file system over a network that is gone, a pipe without a writer. Well
below the 5 s of silence after which a worker counts as hung."""

AGAIN_S = 30.0
"""While a look hangs, another one is tried so often: what hung may have been replaced, and never come back."""
MOST_HANGING = 8

T = TypeVar("T")


class Looks:
    """Looks at what others write, each time on a thread, so that a disk that hangs holds up nobody for long.

    Where one hangs, the next ones fail at once, but for one in `AGAIN_S`, until it has come back.
    """

    def __init__(self, limit_s: float = LOOK_S) -> None:
        """Take how long a look may take, in seconds."""
        self._limit_s = limit_s
        self._hanging: list[Future[Any]] = []
        self._began_s = 0.0

    def __call__(self, look: Callable[[], T]) -> T:
        """Return what `look` returns, or raise what it raises; `OSError` (ETIMEDOUT) where it hangs."""
        hanging = OSError(errno.ETIMEDOUT, f"no answer from the disk within {self._limit_s:g} s")
        self._hanging = [one for one in self._hanging if not one.done()]
        now_s = time.monotonic()
        if self._hanging and (now_s - self._began_s < AGAIN_S or len(self._hanging) >= MOST_HANGING):
            raise hanging
        found: Future[T] = Future()
        threading.Thread(target=_look, args=(look, found), name="turnout-look", daemon=True).start()
        self._hanging.append(found)
        self._began_s = now_s
        try:
            result = found.result(self._limit_s)
        except TimeoutError:
            if found.done():  # it was the look that raised it
                raise
            raise hanging from None
        self._hanging.clear()  # it answers: whoever still hangs, hangs at what is no longer there
        return result


def _look(look: Callable[[], T], found: Future[T]) -> None:
    try:
        found.set_result(look())
    except BaseException as error:  # noqa: BLE001  # it is the caller's
        found.set_exception(error)


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
