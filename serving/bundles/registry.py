"""The registry: where bundles and encoders lie, and which bundle is the champion.

    models/<name>/<version>/    a bundle
    models/<name>/CURRENT       the version in service, one line
    models/encoders/<name>/     an encoder (reserved name)

Looked up in `$TURNOUT_MODELS`, then beside `serving/` (`models/` in a checkout), then in the package `turnout_models`,
which has a wheel of its own: what only calls a server needs none of its 78 MB.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from turnout.serving.errors import BundleRefused

CURRENT = "CURRENT"
ENCODERS = "encoders"
PACKAGE = "turnout_models"
DEFAULT_NAME = "gpt-4o_gpt-4o-mini"
"""The bundle that ships: trained on real outcomes of that pair."""


def models_folder() -> Path:
    """Return the registry's folder.

    Raises:
        BundleRefused: there is none in any of the places.
    """
    explicit = os.environ.get("TURNOUT_MODELS")
    places = [Path(explicit)] if explicit else [Path(__file__).resolve().parents[2] / "models", *_installed()]
    for place in places:
        if place.is_dir():
            return place
    raise BundleRefused(
        f"no models folder; looked in {', '.join(map(str, places))}; name a bundle with --bundle, or "
        "install what ships: pip install ./serving/deploy/models in the checkout, or the wheel turnout_models"
    )


def _installed() -> list[Path]:
    spec = find_spec(PACKAGE)
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def locate(bundle: Path | None = None, name: str = DEFAULT_NAME) -> Path:
    """Return where a bundle comes from: the folder given, or that of `name` in the registry.

    Raises:
        BundleRefused: there is no such folder.
    """
    source = models_folder() / name if bundle is None else bundle
    if not source.is_dir():
        raise BundleRefused(f"{source}: no such folder; a bundle is a folder with a manifest.json, or with {CURRENT}")
    return source


def resolve(source: Path) -> Path:
    """Return the bundle that a source leads to now: itself, or the version that its `CURRENT` names.

    Raises:
        BundleRefused: `CURRENT` can't be read, or names no folder beside it.
    """
    pointer = source / CURRENT
    try:
        if not pointer.exists():
            return source
        version = pointer.read_text(encoding="utf-8").strip()
        folder = source / version
        is_there = folder.is_dir()
    except (OSError, ValueError) as error:
        raise BundleRefused(f"{pointer}: cannot be read: {error}; name a bundle with --bundle") from error
    if not version or Path(version).name != version or not is_there:
        raise BundleRefused(f"{pointer}: names {version!r}, and there is no such folder beside it")
    return folder


def find_bundle(bundle: Path | None = None, name: str = DEFAULT_NAME) -> Path:
    """Return the folder of a bundle: `locate`, then `resolve`; raises what they raise."""
    return resolve(locate(bundle, name))


def find_encoder(encoder: str) -> Path:
    """Return the folder of an encoder: a path if there is one, else a name in the registry."""
    path = Path(encoder)
    return path if path.is_dir() else models_folder() / ENCODERS / encoder
