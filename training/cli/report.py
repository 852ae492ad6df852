"""`turnout report`: a bundle's page, rendered again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.cli.options import AsJson, Flag, say
from turnout.serving.errors import UsageRefused
from turnout.training.bundle.publish import publish
from turnout.training.cli.options import BundleFolder
from turnout.training.errors import DataRefused
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.learn.train import EVALUATION_JSON, report_files
from turnout.training.report import render_report


def report(
    bundle: BundleFolder,
    /,
    *,
    out: Path | None = None,
    evaluation: Path | None = None,
    replace: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Write a bundle's report: one page for a browser, and its figures as PNG and SVG.

    Args:
        out: Folder to write the page and its figures to; turnout-report when not given.
        evaluation: JSON of `turnout evaluate BUNDLE LOGS --out FILE` to show, not that of the training run.
        replace: Put it into the bundle, with a new manifest; a signature has to be made again.
    """
    if replace and out is not None:
        raise UsageRefused("--replace writes into the bundle itself; leave out --out")
    page = write_report(bundle, None if replace else out or Path("turnout-report"), evaluation)
    say(str(page), {"page": page}, as_json=as_json)


def write_report(bundle: Path, out: Path | None, evaluation: Path | None = None) -> Path:
    """Render the report of a bundle again and return its page.

    Args:
        bundle: folder of the bundle.
        out: where to write it; None puts it into the bundle.
        evaluation: JSON to show; None for the figures that the bundle carries.
    """
    load_bundle(bundle)
    manifest, source = read_manifest(bundle), evaluation or bundle / EVALUATION_JSON
    try:
        found = msgspec.json.decode(source.read_bytes(), type=Evaluation)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataRefused(f"{source}: no evaluation to report on: {error}") from error
    if found.bundle not in (msgspec.UNSET, manifest.bundle_id):
        raise DataRefused(
            f"{source}: measures {found.bundle}, and this bundle is {manifest.bundle_id}; evaluate it first"
        )
    if out is not None:
        return render_report(manifest, found, out)
    kept = {name: (bundle / name).read_bytes() for name in manifest.files if not name.startswith("report/")}
    publish(bundle, manifest, kept | report_files(manifest, found))
    return bundle / "report" / "index.html"
