"""`turnout bundle`: look into a bundle, check it, or sign it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from turnout.serving.bundles.bundle import load_bundle, read_manifest, sign_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.bundles.rung_shares import read_rung_shares
from turnout.serving.cli.options import AsJson, TrustedKey, say
from turnout.serving.cli.tables import console, figures_table, policies_table, shares_table


def verify(bundle: Path, /, *, trusted_key: TrustedKey = None, as_json: AsJson = False) -> None:
    """Check every file's digest, open the graph and answer the golden prompts; exit code 3 when refused.

    Args:
        bundle: Folder of the bundle.
    """
    loaded = load_bundle(bundle, trusted_key)
    name, files, golden = loaded.manifest.bundle_id, len(loaded.manifest.files), len(loaded.golden)
    line = f"{name}: {files} files and {golden} golden prompts ok"
    say(line, {"bundle": name, "files": files, "golden": golden, "signed": trusted_key is not None}, as_json=as_json)


def sign(bundle: Path, /, *, key: Path, as_json: AsJson = False) -> None:
    """Check a bundle as `verify` does, then write manifest.sig; `serve --trusted-key` asks for it.

    Args:
        bundle: Folder of the bundle.
        key: PEM file with the Ed25519 private key (turnout key new).
    """
    load_bundle(bundle)
    signature = sign_bundle(bundle, key)
    say(str(signature), {"signature": signature}, as_json=as_json)


def show(bundle: Path | None = None, /, *, as_json: AsJson = False) -> None:
    """Print what a bundle is: models, figures with intervals, policies, training; of a ladder each rung's share.

    Args:
        bundle: Folder of the bundle; without it the champion.
    """
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    is_ladder = manifest.rungs is not msgspec.UNSET
    shares = read_rung_shares(folder) if is_ladder else []
    if as_json:
        beside = {"rung_shares": msgspec.to_builtins(shares)} if is_ladder else {}
        print(msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(manifest) | beside)).decode())
        return
    synthetic = "  (trained on SYNTHETIC data)" if manifest.synthetic else ""
    rows = sum(manifest.training.rows.values())
    models = [rung.name for rung in reversed(manifest.ladder)]
    print(f"{manifest.bundle_id}  {' / '.join(models)}{synthetic}")
    print(f"{rows} rows, match rate {manifest.training.match_rate:.3f}, calibrated by {manifest.calibrator}")
    if (rule := manifest.out_of_distribution) is not None:
        print(f"out of distribution: more than {rule.limit:.1%} rare n-grams; {rule.share_test:.1%} of the test part")
    console().print(figures_table("Test part", manifest.metrics, manifest.intervals), policies_table(manifest))
    if shares:
        console().print(shares_table([rung.name for rung in manifest.ladder], shares))
