"""Stored files: logs in an object store, opened and listed as local ones are.

Comes in: a URL, `s3://`, `gs://`, `abfs://` or whatever else pyarrow knows. Goes out: `StoredFile`, which readers use
like a `Path`. Credentials, region and endpoint come from the environment, as the store's own tools read them.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from turnout.training.errors import DataRefused

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_PATTERN = re.compile(r"[*?\[]")

BUFFER_BYTES = 4 << 20
"""Asked of the store at a time: readers ask for 8 KiB, and each request costs some 20 ms."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One object; can be sent to other machines, which open it themselves."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.url).name

    @property
    def suffixes(self) -> list[str]:
        """Those of the name, as `Path.suffixes`."""
        return PurePosixPath(self.url).suffixes

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Open for reading; seeking asks the store for bytes from there on.

        Raises:
            OSError: the object is absent, or the store refuses or can't be reached.
        """
        if mode != "rb":
            raise ValueError(f"{self.url}: opened with mode {mode!r}; objects are only read")
        store, root, bucket_url = _opened(self.url)
        path = root + self.url.removeprefix(bucket_url)
        return io.BufferedReader(store.open_input_file(path), BUFFER_BYTES)


LogFile = Path | StoredFile
"""Where a log lies; both have `name`, `suffixes`, `open` and a text to name them by."""


def find_stored(url: str) -> list[StoredFile]:
    """Return the objects that a URL names: itself, those directly in the folder, or those that match the pattern.

    Raises:
        DataRefused: nothing is there, the scheme is unknown, or the store refuses or can't be reached.
    """
    from pyarrow import ArrowException  # noqa: PLC0415  # the command line names its commands without it

    try:
        return [StoredFile(one) for one in _objects(url)]
    except (OSError, ArrowException) as error:
        raise DataRefused(f"{url}: cannot be listed: {why(error)}") from error


def why(error: Exception) -> str:
    """Return in one line what a file system or a store says is wrong."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


def _objects(url: str) -> list[str]:
    from pyarrow import fs  # noqa: PLC0415

    store, root, bucket_url = _opened(url)
    path = root + url.removeprefix(bucket_url)
    if _PATTERN.search(path):
        from fsspec.implementations.arrow import ArrowFSWrapper  # noqa: PLC0415  # only patterns need it

        found = [name for name, facts in ArrowFSWrapper(store).glob(path, detail=True).items() if _is_file(facts)]
    else:
        if store.get_file_info(path).type is not fs.FileType.Directory:
            return [url]  # whether it is there, its reader finds out
        inside = store.get_file_info(fs.FileSelector(path))
        found = [one.path for one in inside if one.type is fs.FileType.File and not one.base_name.startswith(".")]
    if not found:
        raise DataRefused(f"{url}: no file there")
    return [bucket_url + name.removeprefix(root) for name in sorted(found)]


def _is_file(facts: dict[str, Any]) -> bool:
    return bool(facts["type"] == "file")


def _opened(url: str) -> tuple[Any, str, str]:
    """Return the store, its path to the bucket, and the URL of the bucket."""
    scheme = URL.match(url)
    if scheme is None:
        raise ValueError(f"{url}: not a URL")
    bucket_url = scheme[0] + url[scheme.end() :].partition("/")[0]
    return *_store(bucket_url), bucket_url


@cache
def _store(bucket_url: str) -> tuple[Any, str]:
    from pyarrow import fs  # noqa: PLC0415

    # Once a process and bucket: opening one looks for credentials, which may take a call.
    store, root = fs.FileSystem.from_uri(bucket_url)
    return store, str(root)
