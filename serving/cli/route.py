"""`turnout route`: one prompt, asked of a server or in this process; the decision as a line."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.cli.options import AsJson, ChampionOr
from turnout.serving.decision.decision import Decision, decide, threshold_policy
from turnout.serving.decision.routes import Reason
from turnout.serving.decision.rungs import RungLook, rung_looks
from turnout.serving.errors import EXIT_DATA_REFUSED, EXIT_OK
from turnout.serving.router.prompt import prompt_from_text

if TYPE_CHECKING:
    from turnout.serving.client import Routed, Router
    from turnout.serving.wire.asking import RungAsked

ONE_SHOT_TIMEOUT_S = 2.0
"""A one-off command also pays for connecting; a gateway keeps the client's 0.1 s."""


def route(
    text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    server: str | None = None,
    bundle: ChampionOr = None,
    policy: str = "",
    threshold: float | None = None,
    early_exit: bool = True,
    tls_ca: Path | None = None,
    token_file: Path | None = None,
    as_json: AsJson = False,
) -> int:
    """Route one prompt and print the decision, with a server or in this process; exit code 1 when none was had.

    Args:
        text: The prompt; - reads it from standard input.
        server: HOST:PORT of a running server to ask.
        policy: Name of a policy of the bundle, such as max_worse=0.01.
        threshold: Plain threshold in [0, 1] instead of a policy.
        early_exit: Let the fast head answer where it is sure (in-process only).
        tls_ca: Speak TLS with --server, trusting certificates of this authority (PEM).
        token_file: File with the bearer token for --server, on one line.
    """
    prompt = sys.stdin.read() if text == "-" else text
    if server is not None:
        with open_router(server, tls_ca, token_file) as router:
            line, is_answered = route_remotely(router, prompt, policy, threshold, as_json=as_json)
        print(line)
        return EXIT_OK if is_answered else EXIT_DATA_REFUSED  # the reason is on stderr, in the words of the server
    print(route_locally(find_bundle(bundle), prompt, policy, threshold, early_exit=early_exit, as_json=as_json))
    return EXIT_OK


def decision_line(decision: Decision | Routed) -> str:
    """Return a decision as one line: `gpt-4o-mini (weak)  p_match 0.943 >= 0.910  policy ...  MODEL FAST`."""
    parts = [f"{decision.rung or decision.model} ({tier_of(decision)})"]
    if decision.p_match is not None and decision.reason == Reason.OUT_OF_DISTRIBUTION:
        parts.append(f"p_match {decision.p_match:.3f}, unlike the training data")
    elif decision.p_match is not None and decision.threshold is not None:
        sign = ">=" if decision.p_match >= decision.threshold else "<"
        parts.append(f"p_match {decision.p_match:.3f} {sign} {decision.threshold:.3f}")
    if decision.policy:
        parts.append(f"policy {decision.policy}")
    parts.append(f"{decision.reason} {decision.stage}" if decision.p_match is not None else decision.reason)
    return "  ".join(parts)


def tier_of(decision: Decision | Routed) -> str:
    """Return `weak`, `strong`, or of a ladder `between`."""
    if isinstance(decision, Decision):
        return "between" if decision.is_between else decision.route
    return decision.tier


def rungs_line(looks: Iterable[RungLook | RungAsked]) -> str:
    """Return each rung below the top, its p and what it needs: `gpt-4o-mini 0.412 < 0.910, gpt-4o 0.960 >= 0.850`."""
    told = []
    for one in looks:
        name = one.rung if isinstance(one.rung, str) else one.rung.name
        if one.p is not None and one.threshold is not None:
            told.append(f"{name} {one.p:.3f} {'>=' if one.p >= one.threshold else '<'} {one.threshold:.3f}")
    return ", ".join(told)


def decision_json(decision: Decision, bundle_id: str) -> str:
    """Return a decision as one line of JSON, with the names of the response's fields."""
    ladder = {"rung": decision.rung, "effort": decision.effort, "p": decision.p_rungs, "thresholds": decision.t_rungs}
    fields = {
        "tier": tier_of(decision),
        "model": decision.model,
        "p_match": decision.p_match,
        "confidence": decision.confidence,
        "threshold": decision.threshold,
        "policy": decision.policy,
        "reason": decision.reason,
        "stage": decision.stage,
        "bundle": bundle_id,
        **(ladder if decision.n_rungs > 2 else {}),
    }
    return msgspec.json.encode(fields).decode()


def route_locally(
    folder: Path, text: str, policy: str, threshold: float | None, *, early_exit: bool, as_json: bool
) -> str:
    """Route one prompt in this process and return the line to print."""
    bundle = load_bundle(folder)
    chosen = bundle.manifest.policy(policy) if threshold is None else threshold_policy(threshold)
    decision = decide(bundle, prompt_from_text(text), chosen, early_exit=early_exit)
    if as_json:
        return decision_json(decision, bundle.manifest.bundle_id)
    if decision.n_rungs == 2 or decision.p_match is None:
        return decision_line(decision)
    ladder, n = bundle.manifest.ladder, decision.n_rungs
    p, thresholds = (decision.p_match, *decision.p_rungs), (decision.threshold, *decision.t_rungs)
    return f"{decision_line(decision)}  rungs {rungs_line(rung_looks(ladder, p, thresholds, (None,) * n))}"


def open_router(server: str, tls_ca: Path | None, token_file: Path | None) -> Router:
    """Return a client of a server, with TLS where an authority is given and the token where a file is."""
    import grpc  # a fifth of the time of a decision in this process

    from turnout.serving.client import Router  # the same

    credentials = None if tls_ca is None else grpc.ssl_channel_credentials(tls_ca.read_bytes())
    token = "" if token_file is None else token_file.read_text(encoding="utf-8").strip()
    return Router(server, timeout_s=ONE_SHOT_TIMEOUT_S, credentials=credentials, token=token)


def route_remotely(
    router: Router, text: str, policy: str, threshold: float | None, *, as_json: bool
) -> tuple[str, bool]:
    """Route one prompt with a server and return the line to print, and whether the server answered."""
    routed = router.route(text=text, policy=policy, threshold=threshold, per_rung=True)
    is_answered = routed.fallback_reason is None
    if as_json:
        return msgspec.json.encode(dataclasses.asdict(routed)).decode(), is_answered
    said = (
        decision_line(routed) if is_answered else f"{routed.model} ({routed.tier})  fallback: {routed.fallback_reason}"
    )
    rungs = f"  rungs {rungs_line(routed.p_rungs)}" if len(routed.p_rungs) > 2 and routed.p_match is not None else ""
    return f"{said}{rungs}  {routed.latency_ms:.1f} ms", is_answered
