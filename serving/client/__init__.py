"""The reference client: asks the router, and answers with the strong model whenever that fails.

Comes in: a gateway's content. Goes out: `Routed` or `Judged`, always. Gateways of `serving.gateways` are built on it.
"""

from turnout.serving.client.routers import AsyncRouter, Router
from turnout.serving.wire.asking import Routed, RouteItem
from turnout.serving.wire.asking_check import AnswerItem, Judged

__all__ = ["AnswerItem", "AsyncRouter", "Judged", "RouteItem", "Routed", "Router"]
