"""Options that several commands share, and how a field becomes an option: named once, read by cyclopts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, validators

from turnout.serving.bundles.registry import find_bundle

OPTION_NAMES = {"bundles": "bundle"}
"""Fields whose option has another name than they have."""

Flag = Annotated[bool, Parameter(negative=())]
"""A switch that is off unless given; it has no `--no-` form."""

AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as JSON.")]
AtLeastOne = Annotated[int, Parameter(validator=validators.Number(gte=1))]
NotNegative = Annotated[int, Parameter(validator=validators.Number(gte=0))]
TrustedKey = Annotated[
    Path | None, Parameter(help="Refuse a bundle that the owner of this Ed25519 public key (PEM) has not signed.")
]
ChampionOr = Annotated[Path | None, Parameter(help="Folder of a bundle. Without it: the champion that ships.")]
Bundles = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--bundle",
        negative=(),
        help="Folder of a bundle that is served; again for more, the first is the default.",
    ),
]


def say(line: str, result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a command did: the line for people, or the result as one line of JSON."""
    print(msgspec.json.encode(result, enc_hook=str).decode() if as_json else line)


def folders_of(bundles: tuple[Path, ...]) -> list[Path]:
    """Return the bundles named, or the champion; raises `BundleRefused` where one is not there."""
    return [find_bundle(folder) for folder in bundles] or [find_bundle()]
