"""A model behind a gate: tests decide when work ends, instead of waiting for the right millisecond."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from turnout.serving.router.model import Prediction, RouterModel
from turnout.serving.router.prompt import Prompt

BLOCKER = "the blocker"


class GatedModel(RouterModel):
    """The real model behind a gate: the blocker waits at it until the test opens it."""

    def __init__(self, model: RouterModel) -> None:
        self.model = model
        self.gate = threading.Event()
        self.at_gate = threading.Event()
        self.texts: list[str] = []

    def predict(self, prompt: Prompt, threshold: float, *, early_exit: bool = True) -> Prediction:
        self.texts.append(prompt.text)
        if prompt.text == BLOCKER:
            self.at_gate.set()
            self.gate.wait(120)
        return self.model.predict(prompt, threshold, early_exit=early_exit)


async def until(is_so: Callable[[], bool], timeout_s: float = 120) -> None:
    """Wait until it is so; fails after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110  # what is waited for is a plain counter
            await asyncio.sleep(0.005)
