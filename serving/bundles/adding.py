"""A bundle from anywhere into the registry, under its own name and version, whole or not at all.

Comes in: a folder that `turnout train` wrote. Goes out: `models/NAME/VERSION/`, checked and not in service yet.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.registry import ENCODERS
from turnout.serving.errors import BundleRefused
from turnout.serving.files import sync_folder


def add_bundle(models: Path, bundle: Path, name: str, trusted_key: Path | None = None) -> Manifest:
    """Copy a bundle into the registry once it has passed the checks of `load_bundle`; CURRENT stays as it is.

    Args:
        models: folder of the registry, made if need be.
        bundle: folder of the bundle.
        name: the bundle's own, which stands in its manifest.
        trusted_key: whose owner must have signed it.

    Raises:
        BundleRefused: it can't be served, is called otherwise, or its version is there already.
        KeyRefused: `trusted_key` holds no key.
    """
    manifest = load_bundle(bundle, trusted_key).manifest
    if manifest.name != name or Path(name).name != name or name == ENCODERS:
        raise BundleRefused(
            f"{bundle}: is called {manifest.name!r}; add it by that name, or train it with: --name {name}"
        )
    folder = models / name
    place = folder / manifest.version
    if place.exists():
        raise BundleRefused(f"{place}: is there already; a version is never replaced")
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{manifest.version}.", dir=folder))
    try:
        shutil.copytree(bundle, draft, dirs_exist_ok=True)
        draft.chmod(0o755)
        load_bundle(draft, trusted_key)  # what was copied is what was checked
        for path in (*draft.rglob("*"), draft):
            _sync(path)
        draft.rename(place)  # fails where somebody else was first: a folder with files is not replaced
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(folder)
    return manifest


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
