"""The one path of every request, alone or among many: read, rules, bundle, admission, model, answer.

Bytes of a `RouteRequest` in, `RouteResponse` or `RouteResult` out. The first stage of the model answers at once, where
it can (`fast_lane`). The whole model runs on a thread of its own, one prompt at a time (a batch of one: another row
would change the answer); it releases the interpreter lock, so that health checks are answered meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from turnout.serving.access.access import check_tenant
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.decision import (
    NO_RULES,
    Decision,
    as_stranger,
    check_content,
    exit_thresholds,
    model_decision,
    ruled_decision,
    settled,
)
from turnout.serving.decision.routes import Verdict, estimated_tokens
from turnout.serving.decision.rules.budget import ExplorationBudget
from turnout.serving.decision.rules.climbing import Climb
from turnout.serving.decision.rules.exploring import After
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.decision.rungs import NO_BAR, sure_bar
from turnout.serving.observe.correlation import concerning
from turnout.serving.observe.drift.promises import Promises
from turnout.serving.observe.drift.watch import DriftWatch
from turnout.serving.router.explain import parts_of
from turnout.serving.service.admission import Admission
from turnout.serving.service.asked import Asked, facts_of
from turnout.serving.service.challengers import Challengers
from turnout.serving.service.decision_log import Decided, DecisionLog
from turnout.serving.service.eager import gather_eagerly
from turnout.serving.service.fast_lane import FastLane
from turnout.serving.service.items import failed_result, request_id_of, result
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.lineup import Lineup, Served
from turnout.serving.service.model_thread import Ask, ModelThread, Predicted, remaining_s
from turnout.serving.service.pending import Pending
from turnout.serving.service.pledging import lower_of, pledge_of
from turnout.serving.service.rungs import PLAIN, rungs_for, with_rungs
from turnout.serving.service.status import failure_of
from turnout.serving.settings import ServerSettings
from turnout.serving.wire.check import Judgement
from turnout.serving.wire.route import Timings, read_request, response

T = TypeVar("T")


class Answering:
    """Answers requests from the bundles of a lifecycle.

    Attributes:
        lifecycle: the bundles.
        admission: the queue's limits and counts.
        challengers: canary and shadow.
        decision_log: where decisions go; None where none are kept.
        pending: requests that were tried, until their `Check` comes.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        settings: ServerSettings,
        rules: Callable[[], Rules] = lambda: NO_RULES,
        decision_log: DecisionLog | None = None,
        drift: DriftWatch | None = None,
        promises: Promises | None = None,
    ) -> None:
        """Take the bundles to answer from, the limits, where to find the rules in force, and what logs and watches."""
        self._promises = promises or Promises(lifecycle.metrics, None, tightens=False)
        self.lifecycle = lifecycle
        self.admission = Admission(settings.max_queue_items, settings.max_tenant_share, lifecycle.metrics.refused)
        self.challengers = Challengers(lifecycle)
        self._metrics = lifecycle.metrics
        self._rules = rules
        self.decision_log = decision_log
        self.pending = Pending(self._metrics.tried)
        self._drift = drift
        self._settings = settings
        self._budget = ExplorationBudget()
        self._model_thread = ModelThread(self.admission.observe, early_exit=settings.early_exit)
        self._fast_lane = FastLane(is_open=settings.early_exit)
        self._checks = Admission(settings.max_queue_items, settings.max_tenant_share, lifecycle.metrics.refused)
        self._check_thread = ModelThread(self._checks.observe, early_exit=settings.early_exit, name="turnout-check")

    @property
    def model_calls(self) -> int:
        """Prompts handed to the model so far, warm-up left out."""
        return self._fast_lane.calls + self._model_thread.calls

    @property
    def jobs(self) -> dict[str, int]:
        """Numbers of what the threads of both looks are at now; 0 for one that is idle."""
        return {"the model": self._model_thread.job, "the second look": self._check_thread.job}

    @property
    def _logs_features(self) -> bool:
        return self.decision_log is not None and self.decision_log.wants_features

    def close(self) -> None:
        """Drop what waits for the model and let its threads end."""
        self._model_thread.close()
        self._check_thread.close()
        self.challengers.close()

    async def second_look(self, job: Callable[[], T], asked: Asked) -> tuple[T, int, int]:
        """Run a second look in its turn, as `ModelThread.work`; raises what that and `Admission.slot` do.

        Second looks have a queue and a thread of their own: none runs the encoder, so that none has to wait for one.
        """
        with self._checks.slot(asked.call.tenant, remaining_s(asked.deadline_s)):
            return await self._check_thread.work(job, asked.deadline_s, asked.decoded_ns)

    def policy(self, asked: Asked, served: Served) -> Policy:
        """Return the policy to apply, at the thresholds at which its promises are served now."""
        return self._promises.policy(served.manifest, asked.policy(served))

    def checked(self, request_id: str, judged: Judgement) -> None:
        """Note what became of a tried request's answer, for the promise that it was tried under."""
        if self._drift is not None:
            self._drift.checked(request_id, judged.p_match, is_accepted=judged.verdict is Verdict.ACCEPT)

    async def result(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `RouteResult` of one item: what `answer` returns, or the failure it raised."""
        try:
            return result(await self.answer(raw, deadline_s))
        except Exception as error:  # noqa: BLE001  # a bad item fails alone, whatever is wrong with it
            failure = failure_of(error)
            self._metrics.failed(failure.code)
            return failed_result(request_id_of(raw, self._settings.max_request_bytes), failure)

    async def results(self, items: Iterable[bytes], deadline_s: float | None) -> list[Any]:
        """Return the `RouteResult` of each item, in their order; the items wait for the model together."""
        found = await gather_eagerly(self.result(raw, deadline_s) for raw in items)
        concerning("")  # lines of the whole batch belong to no item of it
        return found

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
        concerning(call.request_id)
        check_tenant(call.tenant)
        check_content(call.prompt)
        lineup, rules = self.lifecycle.lineup, self._rules()  # taken once: the request sees one state in every phase
        facts = facts_of(call)
        asked = Asked(call, facts, rules.before(facts), deadline_s, time.perf_counter_ns())
        served = lineup.find(asked.wanted_bundle)
        tokens = estimated_tokens(call.prompt.text) + call.prompt.extra_tokens
        costs = served.prices.expected_costs(
            tokens,
            call.output_tokens,
            call.cached_tokens,
            asked.previous_route(served) if call.previous_rung else call.previous,
            images=call.prompt.images,
        )
        decode_ns = asked.decoded_ns - received_ns
        if asked.before.route is not None:  # no place in the queue, which keeps the longest texts out of it
            ladder = rungs_for(served, asked, rules, tokens, costs)
            decision = ruled_decision(
                served.manifest.pair, asked.policy(served), asked.before, served.ladder, ladder.offered
            )
            timings = Timings(decode_ns, 0, time.perf_counter_ns() - asked.decoded_ns)
            self._decided(Decided(time.time(), call, decision, served.manifest, costs, tokens, usd=ladder.usd), timings)
            looks = ladder.looks(served, decision) if call.per_rung else ()
            return response(call, decision, served.manifest.bundle_id, costs, timings, looks=looks)
        served, policy, predicted = await self._predicted(lineup, served, asked)
        if asked.is_stranger(served):  # not cached so: the same prompt may come with another task
            predicted = msgspec.structs.replace(predicted, prediction=as_stranger(predicted.prediction))
        ladder, checked = rungs_for(served, asked, rules, tokens, costs), asked.checked(served, policy)
        chosen = model_decision(
            served.manifest.pair,
            policy,
            predicted.prediction,
            asked.before.rule,
            falls_back=asked.before.falls_back,
            checked=checked,
            ladder=served.ladder,
            bar=NO_BAR
            if served.is_pair
            else sure_bar(served.bundle, policy, call.prompt, predicted.prediction.p_rungs, checked),
            offered=ladder.offered,
        )
        self.challengers.show(lineup, served, asked, chosen)
        manifest = served.manifest
        after = self._after(
            rules, asked, chosen, predicted, costs, None if ladder is PLAIN else ladder.climb(served, asked, chosen)
        )
        decision = settled(chosen, manifest.pair, after, served.ladder)
        # Of a tried request only what was escalated or accepted gets an outcome: no fair sample of the first look.
        if self._drift is not None and (decision.wants_both or not (decision.is_between or decision.is_tried)):
            pledge = None
            if after.wants_both:
                pledge = pledge_of(self._promises, asked, served, chosen, after, predicted.prediction, rules.exploring)
            lower = lower_of(decision, served.ladder) if decision.wants_both and not served.is_pair else None
            self._drift.decided(served.bundle, decision.route, call.request_id, predicted.prediction, pledge, lower)
        if decision.is_tried:
            self.pending.put(asked, served)
        timings = Timings(decode_ns, predicted.started_ns - asked.decoded_ns, predicted.model_ns)
        features = predicted.features if self._logs_features else None
        self._decided(
            Decided(time.time(), call, decision, manifest, costs, tokens, features, served.bundle, ladder.usd), timings
        )
        looks = ladder.looks(served, decision) if call.per_rung else ()
        return response(call, decision, served.bundle_id, costs, timings, predicted.contributions, looks)

    def _after(
        self,
        rules: Rules,
        asked: Asked,
        chosen: Decision,
        predicted: Predicted,
        costs: ExpectedCosts,
        climb: Climb | None,
    ) -> After:
        """Return what session and exploration make of the model's choice, and count what the latter costs."""
        after = rules.after(
            asked.facts,
            asked.before,
            chosen.route,
            predicted.prediction.p_match,
            costs,
            chosen.reason,
            policy=chosen.policy,
            budget=self._budget,
            climb=climb,
        )
        self._metrics.explored(after)
        return after

    def _decided(self, decided: Decided, timings: Timings) -> None:
        """Count a decision, and log it where a log is kept."""
        self._metrics.decided(decided.decision, decided.manifest.bundle_id, timings)
        if self.decision_log is not None:
            self.decision_log.log(decided)

    async def _predicted(self, lineup: Lineup, served: Served, asked: Asked) -> tuple[Served, Policy, Predicted]:
        """Ask the canary, where it is its turn, and where it fails the bundle that always may."""
        canary = self.challengers.canary_for(lineup, asked)
        if canary is not None:
            try:
                policy = self.policy(asked, canary)
                return canary, policy, await self._by(canary, policy, asked)
            except Exception as error:  # noqa: BLE001  # no caller sees a fault of the canary
                self.challengers.stand_in(canary, error)
        policy = self.policy(asked, served)
        return served, policy, await self._by(served, policy, asked)

    async def _by(self, served: Served, policy: Policy, asked: Asked) -> Predicted:
        """Ask one bundle: its cache, else its model."""
        call = asked.call
        threshold, also = exit_thresholds(policy, asked.checked(served, policy))
        key = served.cache.key(call.prompt, threshold, also)
        if key and not call.explain:
            known = served.cache.get(key)
            self._metrics.cache(hit=known is not None)
            if known is not None:
                return Predicted(known, asked.decoded_ns, time.perf_counter_ns())
        parts = parts_of(call.prompt.text) if call.explain else []
        is_watched = self._drift is not None and served.bundle.baseline is not None
        rungs = served.bundle.rung_heads
        ask = Ask(
            served.bundle.model,
            call.prompt,
            threshold,
            asked.deadline_s,
            asked.decoded_ns,
            parts,
            wants_features=self._logs_features or (rungs is not None and not rungs.is_native),
            wants_measures=is_watched or rungs is not None,  # the whole model's thread then keeps the features
            also=also,
        )
        predicted = await self._fast_lane.answer(ask, served.bundle.fast_head) or await self._in_turn(ask, call.tenant)
        if rungs is not None and not predicted.prediction.p_rungs:
            predicted = with_rungs(rungs, ask, predicted, call.prompt)
        served.cache.put(key, predicted.prediction)
        self.challengers.took(served, predicted.model_ns // (1 + len(parts)))
        if is_watched and self._drift is not None and predicted.measures is not None:
            self._drift.predicted(served.bundle, predicted.prediction, predicted.measures)
        return predicted

    async def _in_turn(self, ask: Ask, tenant: str) -> Predicted:
        """Take a place in the queue, and wait there for the whole model."""
        with self.admission.slot(tenant, remaining_s(ask.deadline_s), 1 + len(ask.parts)):
            return await self._model_thread.ask(ask)
