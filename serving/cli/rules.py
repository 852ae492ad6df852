"""`turnout rules check`: a rules file against the bundles that it is to be served with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.cli.options import Bundles, folders_of
from turnout.serving.decision.rules.names import check_names, checked_rules


def check(file: Path, /, *, bundle: Bundles = ()) -> None:
    """Check a rules file against the bundles it is to be served with; exit code 2 when refused.

    Args:
        file: Rules file, TOML.
    """
    print(check_rules(file, folders_of(bundle)))


def check_rules(file: Path, folders: Sequence[Path]) -> str:
    """Check a rules file against bundles and return the line to print; raises `RulesRefused`."""
    manifests = [read_manifest(folder) for folder in folders]
    rules = checked_rules(file, lambda rules: check_names(rules, manifests))
    return f"{file}: ok for {', '.join(one.bundle_id for one in manifests)}; rules: {len(rules.spec.rules)}"
