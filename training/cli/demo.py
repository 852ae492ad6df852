"""The demo: a dozen requests through a real server, with both looks; then whether the promise is kept on fresh rows.

Run by `make demo`. Comes in: a bundle folder. Goes out: what is printed; the server is stopped cleanly.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import Policy
from turnout.serving.cli.tables import console
from turnout.serving.client import Router
from turnout.serving.wire.asking import Routed, RouteItem
from turnout.serving.wire.asking_check import AnswerItem
from turnout.training.learn.flow import DIFFERENCE
from turnout.training.sample.sample import WEAK, make_sample

POLICY = "max_worse=0.05"
"""Shown where it is met: of 3,000 rows it gives most of the dozen to the weak model, the default policy two of them."""
FRESH_SEED, FRESH_ROWS = 99, 1000
"""The log was drawn with another seed. Of 1,000 rows a share of 4 % is known to within 0.6 points, in 9 CPU seconds."""
N_SHOWN = 11
BATCH = 100
PROMPT_WIDTH = 26
PATIENCE_S = 30.0

STRANGER, ITS_ANSWER = "明日の会議は何時ですか。英語に訳してください。", "What time is the meeting tomorrow?"
"""Unlike anything in the log, OUT_OF_DISTRIBUTION: nothing vouches for the answer, and so the strong model is asked."""


@dataclass(frozen=True, slots=True)
class FreshShares:
    """What became of fresh rows: shares of all of them."""

    answered_weak: float
    made_worse: float


def run(bundle: Path) -> None:
    """Serve the bundle; show a dozen requests, what became of fresh ones, the comparison, and where to go on."""
    manifest = read_manifest(bundle)
    policy = shown_policy(manifest)
    rows = make_sample(FRESH_ROWS, FRESH_SEED)
    with _serving(bundle) as address, Router(address, timeout_s=PATIENCE_S) as router:
        router.route(text=STRANGER)  # the first call also connects
        console().print(_table(router, rows, policy))
        one, two = (kept(router, rows, policy.name, can_check=looks) for looks in (False, True))
    print(promise(policy, one, two))
    print(comparison(manifest))


def shown_policy(manifest: Manifest) -> Policy:
    """Return the policy to show: `POLICY` where its promise is met, else the default one."""
    found = next((one for one in manifest.policies if one.name == POLICY), None)
    return found if found is not None and found.is_met else manifest.policy("")


@contextlib.contextmanager
def _serving(bundle: Path) -> Iterator[str]:
    """Start a server on a free port; give its address, and stop it."""
    command = [sys.executable, "-m", "turnout.serving.cli.app", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--workers", "1", "--metrics", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # our own command
        try:
            ready = server.stdout.readline().strip() if server.stdout else ""
            print(ready)
            yield ready.rpartition(" ")[2]
        finally:
            server.terminate()
            code = server.wait(timeout=30)
    print(f"server stopped with exit code {code}")


def kept(router: Router, rows: Sequence[dict[str, Any]], policy: str, *, can_check: bool) -> FreshShares:
    """Route fresh rows, check what is tried, and count where the weak answer was shown, and where it was the worse."""
    weak = worse = 0
    for some in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)):
        items = [RouteItem(openai_body=_body(row), policy=policy, can_check=can_check) for row in some]
        for row, routed in zip(some, router.route_batch(items), strict=True):
            if _shows_weak(router, row, routed):
                weak += 1
                scores = {model: answer["score"] for model, answer in row["responses"].items()}
                worse += scores[routed.model] < max(scores.values())
    return FreshShares(weak / len(rows), worse / len(rows))


def _shows_weak(router: Router, row: dict[str, Any], routed: Routed) -> bool:
    if routed.action != "try":
        return routed.tier == "weak"
    judged = router.check(
        _answer(row, routed.model), routed, openai_body=_body(row), policy=routed.policy, can_check=True
    )
    return judged.verdict == "accept"


def _body(row: dict[str, Any]) -> bytes:
    return msgspec.json.encode(row["request"])


def _answer(row: dict[str, Any], model: str) -> AnswerItem:
    said = row["responses"][model]
    return AnswerItem(text=said["content"] or "", tool_calls=len(said.get("tool_calls", ())))


def promise(policy: Policy, one: FreshShares, two: FreshShares) -> str:
    """Return what was promised and what came of it, with one look and with two."""
    lines = [f"{FRESH_ROWS:,} fresh rows under {policy.name}:"]
    for looks, found in (("one look", one), ("two looks", two)):
        said = f"  {looks}: {found.answered_weak:.1%} answered by the weak model, {found.made_worse:.1%} made worse"
        if policy.kind == "max_worse":
            is_kept = found.made_worse <= policy.target
            said += f", at most {policy.target:.1%} promised: {'kept' if is_kept else 'BROKEN on these rows'}"
        lines.append(said)
    return "\n".join(lines)


def comparison(manifest: Manifest) -> str:
    """Return how the router ranks beside a plain regression on the encoder's vectors, on the same rows."""
    name = f"{DIFFERENCE}encoder_lr"
    difference, bounds = manifest.metrics.get(name), manifest.intervals.get(name)
    if difference is None or bounds is None:
        return "No comparison with encoder_lr: the rows are too few for an interval."
    verdict = "the router wins" if bounds[0] > 0 else "no winner" if bounds[1] >= 0 else "the baseline wins"
    return (
        f"AUROC less that of the baseline encoder_lr, each row answered without its group: {difference:+.3f} "
        f"(95 % of paired draws {bounds[0]:+.3f} to {bounds[1]:+.3f}): {verdict}"
    )


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table: the first single messages, each once, and the stranger."""
    single = {row["request"]["messages"][0]["content"]: row for row in rows if len(row["request"]["messages"]) == 1}
    stranger = {
        "request": {"messages": [{"role": "user", "content": STRANGER}]},
        "responses": {WEAK: {"content": ITS_ANSWER}},
    }
    return [*list(single.values())[:N_SHOWN], stranger]


def _table(router: Router, rows: Sequence[dict[str, Any]], policy: Policy) -> Table:
    title = f"policy {policy.name}: by the prompt alone, the weak model answers from p_match {policy.threshold:.3f} on"
    table = Table(title=title)
    table.add_column("prompt", no_wrap=True, max_width=PROMPT_WIDTH, overflow="ellipsis")
    for name in ("p_match", "one look", "two looks", "reason", "ms"):
        table.add_column(name, no_wrap=True)
    for row in shown(rows):
        asked: dict[str, Any] = {"openai_body": _body(row), "policy": policy.name}
        one, two = router.route(**asked), router.route(**asked, can_check=True)
        ms, second = two.latency_ms, str(two.action)
        if two.action == "try":
            judged = router.check(_answer(row, two.model), two, **asked, can_check=True)
            ms += judged.latency_ms
            second += f", {judged.verdict}" + ("" if judged.p_match is None else f" {judged.p_match:.3f}")
        p_match = "" if one.p_match is None else f"{one.p_match:.3f}"
        reason = one.fallback_reason or f"{one.reason} {one.stage or ''}"
        text = row["request"]["messages"][0]["content"].replace("\n", " ")
        table.add_row(text, p_match, one.tier, second, reason, f"{ms:.1f}")
    return table


if __name__ == "__main__":
    run(Path(sys.argv[1]))
