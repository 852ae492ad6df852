"""One name of the registry: its versions, which is in service, what was before, and the changes of that.

    models/<name>/CURRENT    the version in service; replaced as a whole, so that servers never see half of it
    models/<name>/HISTORY    one line of JSON a change, the oldest first

Changes are made under a lock of the folder. `CURRENT` is replaced first and the change noted then: where a crash
comes between, or somebody replaces `CURRENT` by hand, `before` still leads to the version that was in service.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.bundles.manifest import MANIFEST, Manifest
from turnout.serving.bundles.registry import CURRENT, ENCODERS
from turnout.serving.errors import BundleRefused
from turnout.serving.files import write_whole

HISTORY = "HISTORY"
_GOING = ".going-"


class Change(msgspec.Struct, frozen=True):
    """One change of what is in service.

    Attributes:
        at_s: when, in seconds since 1970 (UTC).
        action: `promote` or `rollback`.
        before: version in service until then; empty for none.
        version: version in service from then on.
    """

    at_s: float
    action: str
    before: str
    version: str


class Entry:
    """The folder of one name."""

    def __init__(self, models: Path, name: str) -> None:
        """Take the name `name` of the registry `models`; raises `BundleRefused` when it has no version."""
        self.name = name
        self.folder = models / name
        if Path(name).name != name or name == ENCODERS or not self.folder.is_dir():
            raise BundleRefused(f"{self.folder}: no such name; the registry has: {', '.join(names(models)) or 'none'}")

    def versions(self) -> dict[str, Manifest]:
        """Return the manifests of all versions that can be read, the oldest first."""
        found = {}
        for folder in self.folder.iterdir():
            if (folder / MANIFEST).is_file() and not folder.name.startswith("."):
                with contextlib.suppress(BundleRefused):
                    found[folder.name] = read_manifest(folder)
        return dict(sorted(found.items(), key=lambda one: (one[1].created, one[0])))

    def current(self) -> str:
        """Return the version in service; empty when none is."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / CURRENT).read_text(encoding="utf-8").strip()
        return ""

    def history(self) -> list[Change]:
        """Return all changes, the oldest first; raises `BundleRefused` when the file is damaged."""
        path = self.folder / HISTORY
        try:
            return [msgspec.json.decode(line, type=Change) for line in path.read_bytes().splitlines()]
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            raise BundleRefused(f"{path}: not a history: {error}; restore it, or remove it to begin anew") from error

    def before(self) -> str:
        """Return the version that a rollback leads to: each one takes back one promotion; empty when none is left."""
        stack: list[str] = []
        at = ""
        for change in self.history():
            if at and change.before and change.before != at:  # replaced by hand
                stack.append(at)
            if change.action == "rollback" and stack:
                stack.pop()
            elif change.before:
                stack.append(change.before)
            at = change.version
        if at and self.current() != at:
            stack.append(at)
        return stack[-1] if stack else ""

    def promote(self, version: str, trusted_key: Path | None = None, *, instead_of: str | None = None) -> Change:
        """Put a version into service once it has passed the checks of `load_bundle`.

        Args:
            version: of this name.
            trusted_key: whose owner must have signed it.
            instead_of: version that it was held against; None puts it in the place of any.

        Raises:
            BundleRefused: there is no such version, it can't be served, it is in service already, or another than
                `instead_of` is.
            KeyRefused: `trusted_key` holds no key.
        """
        with self._locked():
            if instead_of is not None and (current := self.current()) != instead_of:
                raise BundleRefused(
                    f"{self.folder / CURRENT}: {current or 'none'} is in service by now, and {version} was held "
                    f"against {instead_of}; compare again, or put it into service with: turnout models promote"
                )
            return self._put("promote", version, trusted_key)

    def rollback(self, trusted_key: Path | None = None) -> Change:
        """Put the version of before back into service; raises what `promote` does, and when there is none."""
        with self._locked():
            version = self.before()
            if not version:
                raise BundleRefused(f"{self.folder / HISTORY}: no version before {self.current() or 'the first'}")
            return self._put("rollback", version, trusted_key)

    def prune(self, keep: int) -> list[str]:
        """Delete all versions but the newest `keep`, the one in service, its parent, and the one of before.

        Servers that hold a deleted version go on: they read its files once. Returns the versions deleted.
        """
        with self._locked():
            for leftover in self.folder.glob(f"{_GOING}*"):
                shutil.rmtree(leftover)
            found = self.versions()
            current = found.get(self.current())
            kept = {*list(found)[max(0, len(found) - keep) :], self.current(), self.before()}
            kept |= {name for name, one in found.items() if current and one.bundle_id == current.parent}
            gone = [version for version in found if version not in kept]
            for version in gone:
                hidden = self.folder / f"{_GOING}{version}"
                (self.folder / version).rename(hidden)  # at once: nobody finds half a bundle
                shutil.rmtree(hidden)
            return gone

    def _put(self, action: str, version: str, trusted_key: Path | None) -> Change:
        before = self.current()
        if version == before:
            raise BundleRefused(f"{self.folder / CURRENT}: {version} is in service already")
        if Path(version).name != version or not (self.folder / version).is_dir():
            known = ", ".join(self.versions()) or "none"
            raise BundleRefused(f"{self.folder / version}: no such version; there are: {known}")
        load_bundle(self.folder / version, trusted_key)
        change = Change(time.time(), action, before, version)
        lines = [msgspec.json.encode(one) for one in (*self.history(), change)]
        self._replace(CURRENT, version.encode() + b"\n")
        self._replace(HISTORY, b"\n".join(lines) + b"\n")
        return change

    def _replace(self, name: str, content: bytes) -> None:
        write_whole(self.folder / name, content)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait for whoever changes the same name, then keep others waiting."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def names(models: Path) -> list[str]:
    """Return the names of the registry, in their order."""
    return sorted(
        folder.name
        for folder in models.iterdir()
        if folder.is_dir() and folder.name != ENCODERS and any(folder.glob(f"*/{MANIFEST}"))
    )
