"""The demo: a dozen requests through a real server, printed as a table. Run by `make demo`.

Comes in: a bundle folder. Nothing goes out but the table; the server is stopped cleanly.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.table import Table

from turnout.serving.bundles.bundle import Manifest, read_manifest
from turnout.serving.cli.tables import console
from turnout.serving.client import Router
from turnout.training.learn.flow import DIFFERENCE
from turnout.training.sample.sample import make_sample

FRESH_SEED = 99
"""The log was drawn with another one."""

STRANGER = "明日の会議は何時ですか。英語に訳してください。"
"""Unlike anything in the log: goes strong, OUT_OF_DISTRIBUTION."""


def requests() -> list[str]:
    """Return eleven prompts of the kinds in the log, and a stranger."""
    texts = [row["request"]["messages"][-1]["content"] for row in make_sample(60, FRESH_SEED)]
    return [*[text for text in dict.fromkeys(texts) if isinstance(text, str)][:11], STRANGER]


def run(bundle: Path) -> None:
    """Start a server on a free port, route the requests, print the decisions, stop the server; then the comparison."""
    manifest = read_manifest(bundle)
    command = [
        sys.executable,
        "-m",
        "turnout.serving.cli.app",
        "serve",
        "--bundle",
        str(bundle),
        "--listen",
        "127.0.0.1:0",
    ]
    command += ["--workers", "1", "--metrics", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # our own command
        try:
            ready = server.stdout.readline().strip() if server.stdout else ""
            print(ready)
            with Router(ready.rpartition(" ")[2], timeout_s=1.0) as router:
                router.route(text=STRANGER)  # the first call also connects
                console().print(_table(router, manifest.default_policy))
        finally:
            server.terminate()
            code = server.wait(timeout=30)
    print(f"server stopped with exit code {code}")
    print(comparison(manifest))


def comparison(manifest: Manifest) -> str:
    """Return how the router ranks beside a plain regression on the encoder's vectors, on the same rows."""
    name = f"{DIFFERENCE}encoder_lr"
    difference, bounds = manifest.metrics.get(name), manifest.intervals.get(name)
    if difference is None or bounds is None:
        return "No comparison with encoder_lr: the rows are too few for an interval."
    return (
        f"AUROC less that of encoder_lr, each row answered without its group: {difference:+.3f} "
        f"(95 % of paired draws {bounds[0]:+.3f} to {bounds[1]:+.3f})"
    )


def _table(router: Router, policy: str) -> Table:
    table = Table("prompt", "route", "p_match", "threshold", "reason", "ms", title=f"policy {policy}")
    for text in requests():
        routed = router.route(text=text)
        numbers = [f"{value:.3f}" if value is not None else "" for value in (routed.p_match, routed.threshold)]
        reason = routed.fallback_reason or f"{routed.reason} {routed.stage or ''}"
        table.add_row(f"{text[:36]}…".replace("\n", " "), routed.tier, *numbers, reason, f"{routed.latency_ms:.1f}")
    return table


if __name__ == "__main__":
    run(Path(sys.argv[1]))
