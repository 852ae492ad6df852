"""The model's thread: one prompt after the other, away from the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.gates import BLOCKER, GatedModel
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.router.model import Prediction
from turnout.serving.router.prompt import Prompt
from turnout.serving.service.model_thread import Ask, ModelThread


class Witness(GatedModel):
    """A gated model that remembers which thread ran it."""

    def predict(self, prompt: Prompt, threshold: float, *, early_exit: bool = True) -> Prediction:
        self.thread = threading.current_thread()
        return super().predict(prompt, threshold, early_exit=early_exit)

    @property
    def ran_here(self) -> bool:
        return self.thread is threading.main_thread()


@pytest.fixture
def model(bundle: Bundle) -> Witness:
    return Witness(bundle.model)


@asynccontextmanager
async def model_thread() -> AsyncIterator[ModelThread]:
    thread = ModelThread(lambda _: None, early_exit=True)
    yield thread
    thread.close()


def ask_of(model: Witness, text: str = "hello", parts: list[tuple[int, int]] | None = None) -> Ask:
    return Ask(model, Prompt(text), 0.5, None, time.perf_counter_ns(), parts or [])


@pytest.mark.parametrize("parts", [[], [(0, 2)]])
def test_the_event_loop_stays_free(model: Witness, parts: list[tuple[int, int]]):
    async def check() -> None:
        async with model_thread() as thread:
            await thread.ask(ask_of(model, parts=parts))
            assert not model.ran_here

    asyncio.run(check())


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_prompt_waits_for_the_run_on_the_thread(model: Witness, is_cancelled: bool):
    async def check() -> None:
        async with model_thread() as thread:
            blocker = asyncio.ensure_future(thread.ask(ask_of(model, BLOCKER)))
            await asyncio.to_thread(model.at_gate.wait, 60)
            if is_cancelled:  # nobody waits for it any more, and yet it runs
                blocker.cancel()
            waiting = asyncio.ensure_future(thread.ask(ask_of(model)))
            await asyncio.sleep(0.05)
            assert model.texts == [BLOCKER]
            model.gate.set()
            await waiting
            assert model.texts == [BLOCKER, "hello"]
            await asyncio.gather(blocker, return_exceptions=True)

    asyncio.run(check())
