"""Publish: files into a bundle folder, whole or not at all.

Comes in: the content of every file and a manifest without digests. Goes out: a folder that appears
under its final name only when all of it is on disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from turnout.serving.bundles.manifest import MANIFEST, MANIFEST_DIGEST, MANIFEST_SIGNATURE, FileDigest, Manifest
from turnout.serving.files import sync_folder
from turnout.training.errors import DataRefused


class _Named(msgspec.Struct):
    """Of a manifest of any version, the names of its files."""

    files: dict[str, msgspec.Raw]


def check_out(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier bundle, or lies in one, before hours of work end there."""
    if out.exists() and not out.is_dir():
        raise DataRefused(f"{out}: is a file; --out names the folder of the bundle")
    if around := next((folder for folder in out.absolute().parents if _is_bundle(folder)), None):
        raise DataRefused(f"{out}: lies in the bundle {around}, and would go with it; name a folder elsewhere")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not _is_bundle(out):
        raise DataRefused(f"{out}: holds files that are no bundle; name a new or an empty folder")
    if strange := _strange_files(out):
        raise DataRefused(
            f"{out}: holds {', '.join(strange[:3])}, which the bundle there does not know and which would go with it; "
            "name a new or an empty folder"
        )


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / MANIFEST_DIGEST).is_file()


def _strange_files(bundle: Path) -> list[str]:
    """Return the files in a bundle's folder that are none of its own; what begins with a dot may go."""
    try:
        known = msgspec.json.decode((bundle / MANIFEST).read_bytes(), type=_Named).files.keys()
    except msgspec.MsgspecError:
        known = {}.keys()
    own = {*known, MANIFEST, MANIFEST_DIGEST, MANIFEST_SIGNATURE}
    found = (path.relative_to(bundle) for path in sorted(bundle.rglob("*")) if not path.is_dir())
    return [str(path) for path in found if str(path) not in own and not path.name.startswith(".")]


def publish(out: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    """Write the bundle beside `out`, sync it, and rename it into place; an earlier bundle there is replaced.

    Returns:
        The manifest with size and SHA-256 of every file, as written.
    """
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    digests = {name: FileDigest(len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in sorted(contents.items())}
    complete = msgspec.structs.replace(manifest, files=digests)
    raw = msgspec.json.format(msgspec.json.encode(complete), indent=1) + b"\n"
    digest = hashlib.sha256(raw).hexdigest().encode() + b"\n"
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, content in {**contents, MANIFEST: raw, MANIFEST_DIGEST: digest}.items():
            _write(draft / name, content)
        draft.chmod(0o755)
        for folder in {(draft / name).parent for name in contents} | {draft}:
            sync_folder(folder)
        _replace(out, draft)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(out.parent)
    return complete


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(out: Path, draft: Path) -> None:
    if not out.exists():
        draft.rename(out)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    out.rename(retired / "bundle")
    try:
        draft.rename(out)
    except BaseException:
        (retired / "bundle").rename(out)
        retired.rmdir()
        raise
    shutil.rmtree(retired)
