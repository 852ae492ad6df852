"""The thread on which the whole model runs, one prompt at a time.

What waits is bounded by `Admission`, which is passed first. A call that is cancelled, or whose deadline
passes, leaves before the model starts; a run that has begun is not interrupted. What the first stage of a model can
answer does not come here (`fast_lane`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.errors import DeadlineSpent
from turnout.serving.router.explain import Contribution, contributions
from turnout.serving.router.features import Features
from turnout.serving.router.model import Prediction, RouterModel
from turnout.serving.router.prompt import Prompt

T = TypeVar("T")


class Ask(msgspec.Struct, gc=False):
    """A prompt on its way to a model; `prompt` is None once nobody waits for the answer.

    Attributes:
        deadline_s: when the caller stops waiting, on the monotonic clock; None for never.
        submitted_ns: when the wait began, on the performance counter.
        parts: of the prompt, that the answer is to explain; each costs a run.
        wants_features: whether the answer is to bring the features of the prompt.
        wants_measures: whether it is to bring the structural ones among them, which cost less.
        also: a second threshold near which the fast head may not answer; None for none.
        features: of the prompt, once they are known.
        p_rungs: of a ladder, p of the rungs between, once it is known.
    """

    model: RouterModel
    prompt: Prompt | None
    threshold: float
    deadline_s: float | None
    submitted_ns: int
    parts: list[tuple[int, int]] = []  # msgspec makes a new one for each
    wants_features: bool = False
    wants_measures: bool = False
    also: float | None = None
    features: Features | None = None
    p_rungs: tuple[float, ...] = ()


class Predicted(msgspec.Struct, frozen=True, gc=False):
    """A prediction, when the model began and ended with it, on the performance counter, and what was asked for."""

    prediction: Prediction
    started_ns: int
    ended_ns: int
    contributions: tuple[Contribution, ...] = ()
    features: Features | None = None
    measures: NDArray[np.float32] | None = None

    @property
    def model_ns(self) -> int:
        """What the model took, explanations included."""
        return self.ended_ns - self.started_ns


class ModelThread:
    """Runs prompts one after the other.

    Attributes:
        calls: prompts that reached the model, those of explanations counted once.
        job: number of what the thread is at now; 0 when it is idle.
    """

    def __init__(self, observe: Callable[[float], None], *, early_exit: bool, name: str = "turnout-model") -> None:
        """Start nothing yet; `observe` takes the seconds of each run, on the thread that ran it, called `name`."""
        self.calls = 0
        self.job = 0
        self._n_jobs = 0
        self._observe = observe
        self._early_exit = early_exit
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._last_ended_ns = 0

    async def ask(self, ask: Ask) -> Predicted:
        """Wait for the turn and for the answer.

        Raises:
            DeadlineSpent: the deadline passed before the turn came.
            ModelFault: as `RouterModel.predict`.
        """
        try:
            # A cancelled call (the caller's doing, or its deadline) takes its work out of the queue.
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._there, partial(self.run, ask))
        finally:
            ask.prompt = None  # the executor keeps cancelled work until its turn; the text need not wait

    def _there(self, job: Callable[[], T]) -> T:
        self._n_jobs += 1
        self.job = self._n_jobs
        try:
            return job()
        finally:
            self.job = 0

    def run(self, ask: Ask) -> Predicted:
        """Run now: the last moment to see that nobody waits any more."""
        prompt = ask.prompt
        if prompt is None:  # cancelled after the executor had taken it; nobody sees this
            raise DeadlineSpent("the caller is gone")
        started_ns = time.perf_counter_ns()
        remaining_s(ask.deadline_s)
        self.calls += 1

        def p_match(varied: Prompt) -> float:
            return ask.model.predict(varied, ask.threshold, early_exit=self._early_exit).p_match

        prediction, features = self._predict(ask, prompt)
        explained = contributions(prompt, ask.parts, p_match)
        ended_ns = time.perf_counter_ns()
        # From the end of the one before, where there was one: the hand-over is part of the time an item takes.
        busy_ns = ended_ns - max(ask.submitted_ns, self._last_ended_ns)
        self._observe(busy_ns / (1 + len(ask.parts)) / 1e9)
        self._last_ended_ns = ended_ns
        measures = None if features is None else features.structural
        return Predicted(prediction, started_ns, ended_ns, explained, features, measures)

    def _predict(self, ask: Ask, prompt: Prompt) -> tuple[Prediction, Features | None]:
        if ask.features is None and ask.also is None and not (ask.wants_features or ask.wants_measures):
            return ask.model.predict(prompt, ask.threshold, early_exit=self._early_exit), None
        features = ask.features or ask.model.featurize(prompt)
        between = ask.model.predict_between
        return between(features, ask.threshold, ask.also, early_exit=self._early_exit), features

    async def work(self, job: Callable[[], T], deadline_s: float | None, submitted_ns: int) -> tuple[T, int, int]:
        """Wait for the turn and run a job there; return its result, and when it began and ended.

        Raises:
            DeadlineSpent: the deadline passed before the turn came.
            Exception: what the job raises.
        """

        def timed() -> tuple[T, int, int]:
            started_ns = time.perf_counter_ns()
            remaining_s(deadline_s)
            result = job()
            ended_ns = time.perf_counter_ns()
            self._observe((ended_ns - max(submitted_ns, self._last_ended_ns)) / 1e9)
            self._last_ended_ns = ended_ns
            return result, started_ns, ended_ns

        return await asyncio.get_running_loop().run_in_executor(self._executor, self._there, timed)

    def close(self) -> None:
        """Drop what waits and let the thread end."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def remaining_s(deadline_s: float | None) -> float | None:
    """Return the seconds until the deadline; raises `DeadlineSpent` when there are none."""
    if deadline_s is None:
        return None
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise DeadlineSpent("the deadline passed before the model could start")
    return left_s
