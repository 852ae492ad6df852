"""The fast lane: the first stage of a model answers at once, and never waits for an encoder's run.

Comes in: `Ask`. Goes out: `Predicted`, or nothing where the second stage has to look: such a prompt takes its turn on
the model's thread (`model_thread`), and only those count for the queue, its limits and its estimates. With eight
callers on the real mix, what the first stage answers waited 14 ms behind encoders of others, for 0.3 ms of work.

It runs on the event loop: it takes microseconds in C (`router.native`), and what that hands over is mostly Python,
which another thread could not run at the same time anyway. What it reads is bounded (`features.HEAD_CHARS`), so that a
run holds the loop for 4 ms at most, and many requests that come at once give way to the rest of the loop between them.
"""

from __future__ import annotations

import asyncio
import time

from turnout.serving.router.model import FastHead, Looked
from turnout.serving.router.prompt import Prompt
from turnout.serving.service.model_thread import Ask, Predicted, remaining_s

LONGEST_HOLD_NS = 2_000_000
"""How long runs may hold one turn of the event loop before others have theirs: some ten runs."""

TOO_LONG_NS = 20_000_000
"""CPU time of a run that no trained graph takes: 5 times the longest measured, 8,192 characters of Japanese."""

REST = 1_000
"""A run that was too long closes the lane for this many times as long, so that it costs the loop 0.1 % at most."""


class FastLane:
    """Answers what the first stage of a model can.

    Attributes:
        calls: prompts that the first stage answered.
    """

    def __init__(self, *, is_open: bool) -> None:
        """Take whether the first stage may answer at all."""
        self.calls = 0
        self._is_open = is_open
        self._closed_until_ns = 0
        self._held_ns = 0

    async def answer(self, ask: Ask, head: FastHead | None) -> Predicted | None:
        """Return the answer of the first stage; None where the second has to look, or the lane is closed.

        The features and p of rungs stay with `ask`, so that the second stage need not compute them again.

        Raises:
            DeadlineSpent: the deadline passed before the turn came.
            ModelFault: as `FastHead.look`.
        """
        prompt = ask.prompt
        if head is None or prompt is None or ask.parts or not self._is_open:
            return None
        while self._held_ns > LONGEST_HOLD_NS:  # noqa: ASYNC110  # an event would wake all, and most would wait again
            await asyncio.sleep(0)
        if time.monotonic_ns() < self._closed_until_ns:
            return None
        remaining_s(ask.deadline_s)
        started_ns = time.perf_counter_ns()
        looked = head.look(prompt, ask.threshold, ask.also, wants_features=ask.wants_features)
        if looked is None:
            looked = self._by_graph(ask, prompt, head)
        ask.features, ask.p_rungs = looked.features, looked.p_rungs
        ended_ns = time.perf_counter_ns()
        self._took(ended_ns - started_ns)
        if looked.prediction is None:
            return None
        self.calls += 1
        features = looked.features if ask.wants_features else None
        return Predicted(looked.prediction, started_ns, ended_ns, features=features, measures=looked.measures)

    def _by_graph(self, ask: Ask, prompt: Prompt, head: FastHead) -> Looked:
        """Look by the Python path, and see to what it takes; the head in C takes less than any limit."""
        cpu_ns = time.thread_time_ns()
        looked = head.look_by_graph(ask.model.featurize(prompt), ask.threshold, ask.also)
        cpu_ns = time.thread_time_ns() - cpu_ns
        if cpu_ns > TOO_LONG_NS:
            self._closed_until_ns = time.monotonic_ns() + REST * cpu_ns
        return looked

    def _took(self, held_ns: int) -> None:
        """Add up what runs hold of this turn, and of turns before it that held less than is allowed.

        Only what holds the loop for too long asks it when its next turn comes: that takes a turn of its own.
        """
        is_short = self._held_ns <= LONGEST_HOLD_NS
        self._held_ns += held_ns
        if is_short and self._held_ns > LONGEST_HOLD_NS:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._held_ns = 0
