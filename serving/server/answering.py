"""The one path of every request, alone or among many: read, guard, admit, decide, answer.

Bytes of a `RouteRequest` in, `RouteResponse` or `RouteResult` out. The model runs on a thread of its
own, one prompt at a time (a batch of one: another row would change the answer); it releases the
interpreter lock, so that health checks are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serving.bundle import Bundle, Policy
from serving.decision import Decision, decide, guard, guarded_decision, threshold_policy
from serving.errors import DeadlineSpent, UnknownName
from serving.observe.metrics import ServerMetrics
from serving.prompt import Prompt, prompt_from_text
from serving.server.admission import Admission
from serving.server.config import ServerSettings
from serving.server.items import failed_result, request_id_of, result
from serving.server.status import failure_of
from serving.wire import RouteCall, Timings, read_request, response

WARM_UP_WORDS = (1, 16, 64, 256)
"""Lengths of the warm-up prompts; onnxruntime plans its memory at the first run of each shape."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and when the model thread began and ended with it, on the performance counter."""

    decision: Decision
    started_ns: int
    ended_ns: int


@dataclass(slots=True)
class Job:
    """A prompt on its way to the model thread; `prompt` is None once nobody waits for it."""

    prompt: Prompt | None
    policy: Policy
    deadline_s: float | None
    submitted_ns: int


class Answering:
    """Answers requests from one bundle.

    Attributes:
        admission: the queue's limits and counts.
        model_calls: prompts handed to `decide` so far, warm-up left out.
        metrics: where decisions and failures are counted.
    """

    def __init__(self, bundle: Bundle, settings: ServerSettings, metrics: ServerMetrics | None = None) -> None:
        """Take the bundle to answer from, the limits, and where decisions are counted."""
        self.bundle = bundle
        self.metrics = metrics or ServerMetrics()
        self.admission = Admission(settings.max_queue_items, settings.max_tenant_share, self.metrics.refused)
        self.model_calls = 0
        self._settings = settings
        self._model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnout-model")
        self._last_ended_ns = 0

    async def warm_up(self) -> None:
        """Run prompts of several lengths through the whole model."""
        prompts = [prompt_from_text("word " * n_words) for n_words in WARM_UP_WORDS]
        prompts += [prompt_from_text(golden.prompt) for golden in self.bundle.golden[:8]]
        await asyncio.get_running_loop().run_in_executor(self._model_thread, self._run_all, prompts)

    def close(self) -> None:
        """Drop what waits for the model and let its thread end."""
        self._model_thread.shutdown(wait=False, cancel_futures=True)

    async def result(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `RouteResult` of one item: what `answer` returns, or the failure it raised."""
        try:
            return result(await self.answer(raw, deadline_s))
        except Exception as error:  # noqa: BLE001  # a bad item fails alone, whatever is wrong with it
            request_id = request_id_of(raw, self._settings.max_request_bytes)
            failure = failure_of(error)
            self.metrics.failed(failure.code)
            return failed_result(request_id, failure)

    async def results(self, items: Iterable[bytes], deadline_s: float | None) -> list[Any]:
        """Return the `RouteResult` of each item, in their order; the items wait for the model together."""
        return list(await asyncio.gather(*(self.result(raw, deadline_s) for raw in items)))

    async def answer(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `RouteResponse` to the bytes of one `RouteRequest`.

        Args:
            raw: the bytes.
            deadline_s: when the caller stops waiting, on the monotonic clock; None for never.

        Raises:
            RequestError: any of them; another exception is a fault of ours.
        """
        received_ns = time.perf_counter_ns()
        call = read_request(raw, self._settings.max_request_bytes)
        self.check_bundle(call.bundle)
        policy = self._policy(call)
        reason = guard(call.prompt)
        decoded_ns = time.perf_counter_ns()
        if reason is None:
            decided = await self._queued(call, policy, deadline_s, decoded_ns)
        else:  # needs no model: no place in the queue either, which keeps the longest texts out of it
            decision = guarded_decision(self.bundle.manifest.pair, policy, reason)
            decided = Decided(decision, decoded_ns, time.perf_counter_ns())
        timings = Timings(
            decode_ns=decoded_ns - received_ns,
            queue_ns=decided.started_ns - decoded_ns,
            model_ns=decided.ended_ns - decided.started_ns,
        )
        self.metrics.decided(decided.decision, self.bundle.manifest.bundle_id, timings)
        return response(call, decided.decision, self.bundle.manifest.bundle_id, timings)

    def check_bundle(self, wanted: str) -> None:
        """Raise `UnknownName` unless the name is empty or that of the bundle served."""
        manifest = self.bundle.manifest
        if wanted not in ("", manifest.name, manifest.bundle_id):
            raise UnknownName(f"unknown bundle; this server has: {manifest.bundle_id}")

    def _policy(self, call: RouteCall) -> Policy:
        if call.threshold is not None:
            return threshold_policy(call.threshold)
        return self.bundle.manifest.policy(call.policy)

    async def _queued(self, call: RouteCall, policy: Policy, deadline_s: float | None, now_ns: int) -> Decided:
        remaining_s = _remaining_s(deadline_s)
        with self.admission.slot(call.tenant, remaining_s):
            job = Job(call.prompt, policy, deadline_s, now_ns)
            try:
                # A cancelled call (the caller's doing, or its deadline) takes its work out of the queue.
                return await asyncio.get_running_loop().run_in_executor(self._model_thread, self._run, job)
            finally:
                job.prompt = None  # the executor keeps cancelled jobs until their turn; the text need not wait

    def _run(self, job: Job) -> Decided:
        """Run on the model thread: the last moment to see that nobody waits any more."""
        prompt = job.prompt
        if prompt is None:  # cancelled after the executor had taken the job; nobody sees this
            raise DeadlineSpent("the caller is gone")
        started_ns = time.perf_counter_ns()
        _remaining_s(job.deadline_s)
        self.model_calls += 1
        decision = decide(self.bundle, prompt, job.policy, early_exit=self._settings.early_exit)
        ended_ns = time.perf_counter_ns()
        # From the end of the one before, where there was one: the hand-over is part of the time an item takes.
        self.admission.observe((ended_ns - max(job.submitted_ns, self._last_ended_ns)) / 1e9)
        self._last_ended_ns = ended_ns
        return Decided(decision, started_ns, ended_ns)

    def _run_all(self, prompts: list[Prompt]) -> None:
        policy = self.bundle.manifest.policy("")
        for prompt in prompts:
            for early_exit in (True, False):
                decide(self.bundle, prompt, policy, early_exit=early_exit)


def _remaining_s(deadline_s: float | None) -> float | None:
    """Return the seconds until the deadline; raises `DeadlineSpent` when there are none."""
    if deadline_s is None:
        return None
    remaining_s = deadline_s - time.monotonic()
    if remaining_s <= 0:
        raise DeadlineSpent("the deadline passed before the model could start")
    return remaining_s
