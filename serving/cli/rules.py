"""`turnout rules check`: a rules file against the bundles that it is to be served with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.cli.options import AsJson, Bundles, folders_of, say
from turnout.serving.decision.rules.names import check_names, checked_rules


def check(file: Path, /, *, bundle: Bundles = (), as_json: AsJson = False) -> None:
    """Check a rules file against the bundles it is to be served with; exit code 2 when refused.

    Args:
        file: Rules file, TOML.
    """
    names, n_rules = check_rules(file, folders_of(bundle))
    line = f"{file}: ok for {', '.join(names)}; rules: {n_rules}"
    say(line, {"file": file, "bundles": names, "rules": n_rules}, as_json=as_json)


def check_rules(file: Path, folders: Sequence[Path]) -> tuple[list[str], int]:
    """Check a rules file against bundles; return their names and the number of rules. Raises `RulesRefused`."""
    manifests = [read_manifest(folder) for folder in folders]
    rules = checked_rules(file, lambda rules: check_names(rules, manifests))
    return [one.bundle_id for one in manifests], len(rules.spec.rules)
