"""The pages of the HTTP port that are for people and for Prometheus: metrics, and the report of a bundle.

Both read files, and so run on a thread.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os

from starlette.responses import Response

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.errors import UnknownName
from turnout.serving.observe.catalog import FOLDER_VARIABLE
from turnout.serving.observe.exposition import workers_registry
from turnout.serving.observe.metrics import ServerMetrics

FRONT_PAGE = "index.html"
REPORT = "report"
REPORT_HEADERS = {
    # The report is one page with its styles, scripts and pictures inside; it asks nobody for anything.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src 'self' data:; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # the same address shows the next bundle
}


def metrics_page(metrics: ServerMetrics) -> Response:
    """Return the metrics of all workers, whichever of them is asked."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415  # see observe/metrics.py

    folder = os.environ.get(FOLDER_VARIABLE)
    registry = metrics.registry if folder is None else workers_registry(folder)
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})


def report_page(bundle: Bundle, path: str) -> Response:
    """Return a file of the bundle's report, as the manifest has it; the front page for the empty path.

    Raises:
        UnknownName: the bundle has no such file, or another than its manifest says.
    """
    name = f"{REPORT}/{path or FRONT_PAGE}"
    listed = bundle.manifest.files.get(name)  # nothing else in the folder, or outside of it, can be named
    if listed is None:
        raise UnknownName(f"{bundle.manifest.bundle_id} has no such page in its report")
    try:
        raw = (bundle.folder / name).read_bytes()
    except OSError:
        raw = b""
    if hashlib.sha256(raw).hexdigest() != listed.sha256:
        raise UnknownName(f"{bundle.manifest.bundle_id}: this page of the report is not what the manifest says")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(raw, headers=REPORT_HEADERS, media_type=kind)
