"""The demo: a dozen requests through a real server, printed as a table. Run by `make demo`.

Comes in: a bundle folder. Nothing goes out but the table; the server is stopped cleanly.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.table import Table

from serving.client import Router
from serving.tables import console

POLICY = "max_worse=0.05"
"""The sample is small: with some 600 rows to prove it on, the default of 1 % leaves nearly all to the strong model."""

REQUESTS = (
    "Is this review positive, negative or neutral? The soup was warm and the waiter kind.",
    "Translate to French: The museum opens at nine.",
    "What is the chemical symbol of tin?",
    "Name the city and the year in: The bridge in Porto was finished in 1886.",
    "A train covers 84 km in 56 minutes, stops for 9 and covers 45 km in 27. What is its mean speed?",
    "Write a function that returns the longest palindrome in a string, in linear time, and prove it right.",
    "Ana is older than Ben, Cleo is younger than Ben, Dov is older than Ana. Who is the youngest?",
    "Resume en una frase: El comité aplazó la votación porque faltaban dos miembros.",
    "Return JSON with the keys name and total for: Ms Okafor ordered three lamps at 40 each.",
    "明日の会議は何時ですか。英語に訳してください。",
    "Wie viele Primzahlen liegen zwischen 40 und 60? Begründe jeden Schritt.",
    "Refactor this query to avoid the cross join and explain each step: SELECT * FROM a, b WHERE a.k > b.k",
)


def run(bundle: Path) -> None:
    """Start a server on a free port, route the requests, print the decisions, stop the server."""
    command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(bundle), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # our own command
        try:
            ready = server.stdout.readline().strip() if server.stdout else ""
            print(ready)
            with Router(ready.rpartition(" ")[2], policy=POLICY, timeout_s=1.0) as router:
                router.route(text=REQUESTS[0])  # the first call also connects
                console().print(_table(router))
        finally:
            server.terminate()
            code = server.wait(timeout=30)
    print(f"server stopped with exit code {code}")


def _table(router: Router) -> Table:
    table = Table("prompt", "route", "p_match", "confidence", "reason", "ms", title=f"policy {POLICY}")
    for text in REQUESTS:
        routed = router.route(text=text)
        numbers = [f"{value:.3f}" if value is not None else "" for value in (routed.p_match, routed.confidence)]
        reason = routed.fallback_reason or f"{routed.reason} {routed.stage}"
        table.add_row(f"{text[:36]}…", routed.tier, *numbers, reason, f"{routed.latency_ms:.1f}")
    return table


if __name__ == "__main__":
    run(Path(sys.argv[1]))
