"""Decisions as the event loop hands them to the log."""

from __future__ import annotations

from tests.training.manifests import make_manifest
from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.decision import Decision, Reason, Route
from turnout.serving.router.features import Features
from turnout.serving.router.model import Stage
from turnout.serving.router.prompt import Prompt
from turnout.serving.service.decision_log import Decided
from turnout.serving.wire.route import RouteCall

MANIFEST = make_manifest(name="tiny", version="1")


def decided(text: str = "hello", request_id: str = "r", features: Features | None = None) -> Decided:
    """Return a decision of the model for a request with this text."""
    call = RouteCall(request_id, Prompt(text), "", None, "", "acme", "chat", "s", None, 0, None, explain=False)
    chosen = Decision(Route.WEAK, "gpt-4o-mini", 0.95, 0.95, 0.9, "max_worse=0.01", Reason.MODEL, Stage.FAST)
    return Decided(1.5, call, chosen, MANIFEST, ExpectedCosts(1e-4, 1e-3), 2, features)
