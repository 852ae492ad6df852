"""The file in which a worker shares its counts, which costs counts and not the worker when there is no room for it.

prometheus_client maps sparse files: a page that the disk has no room for is SIGBUS at the first write of a new
series. Here room is taken before it is mapped. Series without room are kept in the worker, and move into the
file as soon as there is room again.

A file that somebody removed is made again, with all its counts.

Comes in: values of series. Goes out: the file, or the same values kept in memory.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

FIRST_BYTES = 1 << 16
"""As prometheus_client: room for some 300 series."""

TRY_AGAIN_S = 5.0
COMPLAIN_EVERY_S = 60.0
_log = logging.getLogger("turnout.observe")
_files: list[CountsFile] = []


def n_unshared() -> int:
    """Return how many series of this process have no room in the shared folder now."""
    return sum(file.n_unshared for file in _files)


def share_again() -> None:
    """Let series without room move into the file if there is room again; called with every sample."""
    for file in _files:
        file.share_again()


def take_room_first() -> None:
    """Have prometheus_client share counts by `CountsFile` from now on; before the first instrument is made."""
    values.MmapedDict = CountsFile  # type: ignore[attr-defined]  # the name under which it looks it up


class CountsFile(MmapedDict):
    """A dict of series in a mapped file that has its room; for one thread, as its base."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # the base's signature
        """Open the file, or go on without where that fails."""
        self._fname = filename
        self._unfiled: dict[str, tuple[float, float]] = {}
        self._try_at_s = self._complain_at_s = 0.0
        self._f: Any = None
        if read_mode:
            super().__init__(filename, read_mode)
        else:
            self._open()
            _files.append(self)

    def read_value(self, key: str) -> tuple[float, float]:
        """Return value and time of a series, 0 for a new one."""
        if self._f and key in self._positions:
            return super().read_value(key)  # type: ignore[no-any-return]
        if key not in self._unfiled:
            self.write_value(key, 0.0, 0.0)
        return super().read_value(key) if self._f and key in self._positions else self._unfiled[key]

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Write a series into the file where it has room there, else keep it; never raises for lack of room."""
        if self._f and key in self._positions:
            super().write_value(key, value, timestamp)
            return
        self._unfiled[key] = (value, timestamp)
        self.share_again()

    @property
    def n_unshared(self) -> int:
        """Series that have no room now."""
        return len(self._unfiled)

    def share_again(self) -> None:
        """Give every series its place, as far as there is room; not within `TRY_AGAIN_S` of a failure."""
        if self._f and not os.fstat(self._f.fileno()).st_nlink:  # somebody removed it: nobody reads it any more
            self._unfiled = {key: (value, stamp) for key, value, stamp in self.read_all_values()}
            super().close()
            self._f = None
        if self._unfiled and time.monotonic() >= self._try_at_s:
            self._file_all()

    def read_all_values(self) -> Any:
        """Yield key, value and time of all series, with room or without."""
        if self._f:
            yield from super().read_all_values()
        yield from ((key, *pair) for key, pair in self._unfiled.items())

    def close(self) -> None:
        """Close the file; what had no room is gone."""
        self._unfiled.clear()
        if self in _files:
            _files.remove(self)
        if self._f:
            super().close()

    def _open(self) -> None:
        """Make the file with its room under another name: a scrape that met an empty one would fail."""
        self._positions: dict[str, int] = {}
        new = f"{self._fname}.{os.getpid()}.new"
        try:
            if not Path(self._fname).exists():
                with Path(new).open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, FIRST_BYTES)
                Path(new).replace(self._fname)
            super().__init__(self._fname)
        except OSError as error:
            self._f = None
            with contextlib.suppress(OSError):
                Path(new).unlink(missing_ok=True)
            self._complain(error)

    def _file_all(self) -> None:
        """Give every series its place, as far as there is room."""
        if not self._f:
            self._open()
        if not self._f:
            return
        for key, pair in list(self._unfiled.items()):
            try:
                self._make_room(key)
            except OSError as error:
                self._complain(error)
                return
            super().write_value(key, *pair)
            del self._unfiled[key]

    def _make_room(self, key: str) -> None:
        """Let the file grow, by whole pages that it really has, until the series fits."""
        longest = len(key.encode()) + 32  # its length, padding, value and time
        while self._used + longest > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
            self._capacity *= 2
            self._m = mmap.mmap(self._f.fileno(), self._capacity)

    def _complain(self, error: OSError) -> None:
        """Log the first failure, and later ones once a minute."""
        now_s = time.monotonic()
        self._try_at_s = now_s + TRY_AGAIN_S
        if now_s < self._complain_at_s:
            return
        self._complain_at_s = now_s + COMPLAIN_EVERY_S
        _log.error(
            "metrics: no room in the shared folder (%s); series are missing from scrapes until there is, "
            "and decisions go on",
            error.strerror,
        )
