"""The one path of every request, alone or among many: read, choose a bundle, guard, admit, predict, answer.

Bytes of a `RouteRequest` in, `RouteResponse` or `RouteResult` out. The model runs on a thread of its
own, one prompt at a time (a batch of one: another row would change the answer); it releases the
interpreter lock, so that health checks are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from serving.bundle import Policy
from serving.decision import Decision, guard, guarded_decision, model_decision, threshold_policy
from serving.draws import draw
from serving.errors import ModelFault, RequestError, UnknownName
from serving.explain import parts_of
from serving.server.admission import Admission
from serving.server.canary import CanaryWatch
from serving.server.config import ServerSettings
from serving.server.incidents import report_incident
from serving.server.items import failed_result, request_id_of, result
from serving.server.lifecycle import Lifecycle
from serving.server.lineup import Lineup, Served
from serving.server.model_thread import Ask, ModelThread, Predicted, remaining_s
from serving.server.shadow import Shadow, Sighting
from serving.server.status import failure_of
from serving.wire import RouteCall, Timings, read_request, response


class Answering:
    """Answers requests from the bundles of a lifecycle.

    Attributes:
        admission: the queue's limits and counts.
        shadow: what compares the challenger, where there is one.
    """

    def __init__(self, lifecycle: Lifecycle, settings: ServerSettings) -> None:
        """Take the bundles to answer from and the limits."""
        self.lifecycle = lifecycle
        self.admission = Admission(settings.max_queue_items, settings.max_tenant_share)
        self.shadow = Shadow()
        self._settings = settings
        self._model_thread = ModelThread(self.admission.observe, early_exit=settings.early_exit)
        self._canary_watch = CanaryWatch()
        self._watched: Served | None = None

    @property
    def model_calls(self) -> int:
        """Prompts handed to the model so far, warm-up left out."""
        return self._model_thread.calls

    def close(self) -> None:
        """Drop what waits for the model and let its threads end."""
        self._model_thread.close()
        self.shadow.close()

    async def result(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `RouteResult` of one item: what `answer` returns, or the failure it raised."""
        try:
            return result(await self.answer(raw, deadline_s))
        except Exception as error:  # noqa: BLE001  # a bad item fails alone, whatever is wrong with it
            request_id = request_id_of(raw, self._settings.max_request_bytes)
            return failed_result(request_id, failure_of(error))

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
        lineup = self.lifecycle.lineup  # taken once: the request sees one set of bundles in every phase
        candidates = self._candidates(lineup, call)
        policy = _policy(call, candidates[-1])
        reason = guard(call.prompt)
        decoded_ns = time.perf_counter_ns()
        if reason is not None:  # needs no model: no place in the queue either, which keeps the longest texts out of it
            served, predicted = candidates[-1], None
            decision = guarded_decision(served.manifest.pair, policy, reason)
            started_ns, ended_ns = decoded_ns, time.perf_counter_ns()
        else:
            served, policy, predicted = await self._predicted(candidates, call, deadline_s, decoded_ns)
            decision = model_decision(served.manifest.pair, policy, predicted.prediction)
            started_ns, ended_ns = predicted.started_ns, predicted.ended_ns
            self._show(lineup, served, call, decision)
        timings = Timings(decoded_ns - received_ns, started_ns - decoded_ns, ended_ns - started_ns)
        contributions = predicted.contributions if predicted else ()
        return response(call, decision, served.manifest.bundle_id, timings, contributions)

    def _candidates(self, lineup: Lineup, call: RouteCall) -> tuple[Served, ...]:
        """Return the bundles to ask, in turn until one answers: the canary perhaps, then the one that always may."""
        last = lineup.find(call.bundle)
        share = self.lifecycle.sources.canary_share
        if call.bundle or lineup.canary is None or draw("canary", "", call.draw_key) >= share:
            return (last,)
        return (lineup.canary, last)

    async def _predicted(
        self, candidates: tuple[Served, ...], call: RouteCall, deadline_s: float | None, now_ns: int
    ) -> tuple[Served, Policy, Predicted]:
        *canaries, last = candidates
        for canary in canaries:
            try:
                policy = _policy(call, canary)
                return canary, policy, await self._by(canary, call, policy, deadline_s, now_ns)
            except UnknownName:
                continue  # the canary lacks the policy that the request names
            except Exception as error:
                if isinstance(error, RequestError) and not isinstance(error, ModelFault):
                    raise
                report_incident(error)
                self._watch(canary).fault()
                self._judge()
        policy = _policy(call, last)
        return last, policy, await self._by(last, call, policy, deadline_s, now_ns)

    async def _by(
        self, served: Served, call: RouteCall, policy: Policy, deadline_s: float | None, now_ns: int
    ) -> Predicted:
        """Ask one bundle: its cache, else its model."""
        key = served.cache.key(call.prompt, policy.threshold)
        if not call.explain and (known := served.cache.get(key)) is not None:
            return Predicted(known, now_ns, time.perf_counter_ns())
        parts = parts_of(call.prompt.text) if call.explain else []
        with self.admission.slot(call.tenant, remaining_s(deadline_s), 1 + len(parts)):
            ask = Ask(served.bundle.model, call.prompt, policy.threshold, deadline_s, now_ns, parts)
            predicted = await self._model_thread.ask(ask)
        served.cache.put(key, predicted.prediction)
        self._compare(served, predicted)
        return predicted

    def _show(self, lineup: Lineup, served: Served, call: RouteCall, decision: Decision) -> None:
        """Let the shadow see what the default bundle decided."""
        share = self.lifecycle.sources.shadow_share
        if lineup.shadow is None or served is not lineup.default or decision.p_match is None:
            return
        if draw("shadow", "", call.draw_key) < share:
            weak = served.manifest.pair.weak
            self.shadow.show(
                Sighting(
                    bundle=lineup.shadow.bundle,
                    prompt=call.prompt,
                    policy=decision.policy,
                    threshold=decision.threshold,
                    p_match=decision.p_match,
                    is_weak=decision.model == weak,
                )
            )

    def _compare(self, served: Served, predicted: Predicted) -> None:
        """Let the canary's watch see how long an answer took."""
        canary = self.lifecycle.lineup.canary
        if canary is not None and served in (canary, self.lifecycle.lineup.default):
            model_ns = (predicted.ended_ns - predicted.started_ns) // (1 + len(predicted.contributions))
            self._watch(canary).answered(model_ns, by_canary=served is canary)
            self._judge()

    def _watch(self, canary: Served) -> CanaryWatch:
        if self._watched is not canary:
            self._watched, self._canary_watch = canary, CanaryWatch()
        return self._canary_watch

    def _judge(self) -> None:
        if self._canary_watch.verdict is not None and self.lifecycle.lineup.canary is self._watched:
            self.lifecycle.take_canary_back(self._canary_watch.verdict)


def _policy(call: RouteCall, served: Served) -> Policy:
    if call.threshold is not None:
        return threshold_policy(call.threshold)
    return served.manifest.policy(call.policy)
