"""What the serving commands do, as plain functions; the command line only reads arguments and prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import grpc
import msgspec

from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.cli.tables import console, figures_table, policies_table
from turnout.serving.client import Router
from turnout.serving.decision.decision import Decision, decide, threshold_policy
from turnout.serving.decision.rules.names import check_names, checked_rules
from turnout.serving.router.prompt import prompt_from_text

ONE_SHOT_TIMEOUT_S = 2.0
"""A one-off command also pays for connecting; a gateway keeps the client's 0.1 s."""


def decision_line(decision: Decision) -> str:
    """Return a decision as one line for people: `gpt-4o-mini (weak)  p_match 0.943 >= 0.910 ...`."""
    head = f"{decision.model} ({decision.route})"
    if decision.p_match is None:
        return f"{head}  {decision.reason}  policy {decision.policy}"
    if decision.confidence is None:
        return f"{head}  p_match {decision.p_match:.3f}  policy {decision.policy}  {decision.reason} {decision.stage}"
    sign = ">=" if decision.p_match >= decision.threshold else "<"
    return (
        f"{head}  p_match {decision.p_match:.3f} {sign} {decision.threshold:.3f}  "
        f"confidence {decision.confidence:.3f}  policy {decision.policy}  {decision.reason} {decision.stage}"
    )


def decision_json(decision: Decision, bundle_id: str) -> str:
    """Return a decision as one line of JSON, with the names of the response's fields."""
    fields = {
        "tier": decision.route,
        "model": decision.model,
        "p_match": decision.p_match,
        "confidence": decision.confidence,
        "threshold": decision.threshold,
        "policy": decision.policy,
        "reason": decision.reason,
        "stage": decision.stage,
        "bundle": bundle_id,
    }
    return msgspec.json.encode(fields).decode()


def route_locally(
    folder: Path, text: str, policy: str, threshold: float | None, *, early_exit: bool, as_json: bool
) -> str:
    """Route one prompt in this process and return the line to print."""
    bundle = load_bundle(folder)
    chosen = bundle.manifest.policy(policy) if threshold is None else threshold_policy(threshold)
    decision = decide(bundle, prompt_from_text(text), chosen, early_exit=early_exit)
    return decision_json(decision, bundle.manifest.bundle_id) if as_json else decision_line(decision)


def open_router(server: str, tls_ca: Path | None, token_file: Path | None) -> Router:
    """Return a client of a server, with TLS where an authority is given and the token where a file is."""
    credentials = None if tls_ca is None else grpc.ssl_channel_credentials(tls_ca.read_bytes())
    token = "" if token_file is None else token_file.read_text(encoding="utf-8").strip()
    return Router(server, timeout_s=ONE_SHOT_TIMEOUT_S, credentials=credentials, token=token)


def route_remotely(
    router: Router, text: str, policy: str, threshold: float | None, *, as_json: bool
) -> tuple[str, bool]:
    """Route one prompt with a server and return the line to print, and whether the server answered."""
    routed = router.route(text=text, policy=policy, threshold=threshold)
    is_answered = routed.fallback_reason is None
    if as_json:
        return msgspec.json.encode(dataclasses.asdict(routed)).decode(), is_answered
    why = f"fallback: {routed.fallback_reason}" if routed.fallback_reason else f"{routed.reason} {routed.stage}"
    known = "" if routed.p_match is None else f"p_match {routed.p_match:.3f}  "
    known += "" if routed.confidence is None else f"confidence {routed.confidence:.3f}  "
    return f"{routed.model} ({routed.tier})  {known}{why}  {routed.latency_ms:.1f} ms", is_answered


def show_bundle(folder: Path, *, as_json: bool) -> None:
    """Print the manifest of a bundle, as tables or as JSON."""
    manifest = read_manifest(folder)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(manifest)).decode())
        return
    synthetic = "  (trained on SYNTHETIC data)" if manifest.synthetic else ""
    rows = sum(manifest.training.rows.values())
    print(f"{manifest.bundle_id}  {manifest.pair.strong} / {manifest.pair.weak}{synthetic}")
    print(f"{rows} rows, match rate {manifest.training.match_rate:.3f}, calibrated by {manifest.calibrator}")
    if (rule := manifest.out_of_distribution) is not None:
        print(f"out of distribution: more than {rule.limit:.1%} rare n-grams; {rule.share_test:.1%} of the test part")
    console().print(figures_table("Test part", manifest.metrics, manifest.intervals), policies_table(manifest))


def check_rules(file: Path, folders: Sequence[Path]) -> str:
    """Check a rules file against bundles and return the line to print; raises `RulesRefused`."""
    manifests = [read_manifest(folder) for folder in folders]
    rules = checked_rules(file, lambda rules: check_names(rules, manifests))
    return f"{file}: ok for {', '.join(one.bundle_id for one in manifests)}; rules: {len(rules.spec.rules)}"
