"""The handlers of RouterService: bytes of a request in, a response or a status of the contract out.

Handlers get bytes, not messages, so that size and decoding errors are answered by us and not by the
library (which would say UNKNOWN, with the parser's text). The model runs on a thread of its own,
one call at a time: it releases the interpreter lock, so that health checks are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from serving.bundle import Bundle, Policy
from serving.decision import Decision, decide, threshold_policy
from serving.errors import NotServing, RequestError, UnknownName
from serving.incidents import report_incident
from serving.pb import router_pb2 as pb
from serving.prompt import Prompt, prompt_from_text
from serving.wire import SERVICE_NAME, RouteCall, Timings, read_request, response

WARM_UP_WORDS = (1, 16, 64, 256)
"""Lengths of the warm-up prompts; onnxruntime plans its memory at the first run of each shape."""


class DeadlineSpent(RequestError):
    """The caller's deadline passed before the model could start."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass(frozen=True, slots=True)
class _Decided:
    decision: Decision
    started_ns: int
    ended_ns: int


class RouterService:
    """Answers `Route` from one bundle.

    Attributes:
        is_warm: whether calls are answered; UNAVAILABLE until `warm_up` is done.
        model_calls: prompts handed to `decide` so far, warm-up left out.
    """

    def __init__(self, bundle: Bundle, max_request_bytes: int, *, early_exit: bool = True) -> None:
        """Take the bundle to answer from and the size above which a request is INVALID_ARGUMENT."""
        self._bundle = bundle
        self._max_request_bytes = max_request_bytes
        self._early_exit = early_exit
        self._model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnout-model")
        self.is_warm = False
        self.model_calls = 0

    def handlers(self) -> Any:
        """Return the generic gRPC handler; without a request deserializer, so that `route` gets bytes."""
        route = grpc.unary_unary_rpc_method_handler(self.route, response_serializer=pb.RouteResponse.SerializeToString)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Route": route})

    async def warm_up(self) -> None:
        """Run prompts of several lengths through the whole model, then accept calls."""
        prompts = [prompt_from_text("word " * n_words) for n_words in WARM_UP_WORDS]
        prompts += [prompt_from_text(golden.prompt) for golden in self._bundle.golden[:8]]
        await asyncio.get_running_loop().run_in_executor(self._model_thread, self._run_all, prompts)
        self.is_warm = True

    def close(self) -> None:
        """Drop what waits for the model and let its thread end."""
        self._model_thread.shutdown(wait=False, cancel_futures=True)

    async def route(self, raw: bytes, context: Any) -> Any:
        """Answer one `Route` call; every failure becomes a status of the contract."""
        try:
            return await self._answer(raw, context)
        except RequestError as error:
            code, details = _status_of(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
            code, details = _internal(error)
        return await context.abort(code, details)

    async def _answer(self, raw: bytes, context: Any) -> Any:
        received_ns = time.perf_counter_ns()
        deadline_s = _deadline_s(context)
        if not self.is_warm:
            raise NotServing("the server is not warm yet; use another replica")
        call = read_request(raw, self._max_request_bytes)
        self._check_bundle(call.bundle)
        policy = self._policy(call)
        decoded_ns = time.perf_counter_ns()
        # A cancelled call (the caller's doing, or its deadline) takes its work out of the queue.
        decided = await asyncio.get_running_loop().run_in_executor(
            self._model_thread, self._decide, call.prompt, policy, deadline_s
        )
        timings = Timings(
            decode_ns=decoded_ns - received_ns,
            queue_ns=decided.started_ns - decoded_ns,
            model_ns=decided.ended_ns - decided.started_ns,
        )
        return response(call, decided.decision, self._bundle.manifest.bundle_id, timings)

    def _policy(self, call: RouteCall) -> Policy:
        if call.threshold is not None:
            return threshold_policy(call.threshold)
        return self._bundle.manifest.policy(call.policy)

    def _check_bundle(self, wanted: str) -> None:
        manifest = self._bundle.manifest
        if wanted not in ("", manifest.name, manifest.bundle_id):
            raise UnknownName(f"unknown bundle; this server has: {manifest.bundle_id}")

    def _decide(self, prompt: Prompt, policy: Policy, deadline_s: float | None) -> _Decided:
        """Run on the model thread: the last moment to see that nobody waits any more."""
        started_ns = time.perf_counter_ns()
        if deadline_s is not None and time.monotonic() >= deadline_s:
            raise DeadlineSpent("the deadline passed before the model could start")
        self.model_calls += 1
        decision = decide(self._bundle, prompt, policy, early_exit=self._early_exit)
        return _Decided(decision, started_ns, time.perf_counter_ns())

    def _run_all(self, prompts: list[Prompt]) -> None:
        policy = self._bundle.manifest.policy("")
        for prompt in prompts:
            for early_exit in (True, False):
                decide(self._bundle, prompt, policy, early_exit=early_exit)


def _deadline_s(context: Any) -> float | None:
    """Return the caller's deadline on the monotonic clock; None without one."""
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + float(remaining_s)


def _status_of(error: RequestError) -> tuple[grpc.StatusCode, str]:
    if error.code is grpc.StatusCode.INTERNAL:
        return _internal(error)
    return error.code, str(error)


def _internal(error: Exception) -> tuple[grpc.StatusCode, str]:
    return grpc.StatusCode.INTERNAL, f"incident {report_incident(error)}"
