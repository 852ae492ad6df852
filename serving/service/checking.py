"""The path of every `Check`: read, find the request, rules, admission, second look, verdict.

Bytes of a `CheckRequest` in, `CheckResponse` or `CheckResult` out. Second looks run on a thread of their own, in their
turn: none runs the encoder, and none waits for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError

from turnout.serving.access.access import check_tenant
from turnout.serving.decision.decision import check_content
from turnout.serving.decision.routes import Reason, Verdict, estimated_tokens
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.errors import UnknownName
from turnout.serving.observe.correlation import concerning
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.answering import Answering
from turnout.serving.service.asked import Asked, facts_of
from turnout.serving.service.decision_log import CheckedAnswer
from turnout.serving.service.items import failed_result
from turnout.serving.service.judging import Judging
from turnout.serving.service.lineup import Lineup, Served
from turnout.serving.service.status import failure_of
from turnout.serving.settings import ServerSettings
from turnout.serving.wire.check import CheckCall, Judgement, check_response, read_check
from turnout.serving.wire.route import Timings


class Checking:
    """Checks answers with the bundles, the queue and the model thread of an `Answering`."""

    def __init__(self, answering: Answering, settings: ServerSettings, rules: Callable[[], Rules]) -> None:
        """Take what routes, the limits, and where to find the rules in force."""
        self._answering = answering
        self._metrics = answering.lifecycle.metrics
        self._settings = settings
        self._rules = rules

    async def result(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `CheckResult` of one item: what `check` returns, or the failure it raised."""
        try:
            return pb.CheckResult(response=await self.check(raw, deadline_s))
        except Exception as error:  # noqa: BLE001  # a bad item fails alone, whatever is wrong with it
            failure = failure_of(error)
            self._metrics.failed(failure.code)
            routed = failed_result(_request_id_of(raw, self._settings.max_request_bytes), failure)
            return pb.CheckResult(failure=routed.failure)

    async def results(self, items: Iterable[bytes], deadline_s: float | None) -> list[Any]:
        """Return the `CheckResult` of each item, in their order."""
        return list(await asyncio.gather(*(self.result(raw, deadline_s) for raw in items)))

    async def check(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `CheckResponse` to the bytes of one `CheckRequest`.

        Args:
            raw: the bytes.
            deadline_s: when the caller stops waiting, on the monotonic clock; None for never.

        Raises:
            RequestError: any of them; another exception is a fault of ours.
        """
        received_ns = time.perf_counter_ns()
        call = read_check(raw, self._settings.max_request_bytes)
        concerning(call.request_id)
        check_tenant(call.tenant)
        asked, served = self._found(call, deadline_s)
        judged, served, began_ns, ended_ns = await self._judged(call, asked, served)
        timings = Timings(
            asked.decoded_ns - received_ns, max(0, began_ns - asked.decoded_ns), max(0, ended_ns - began_ns)
        )
        self._metrics.checked(judged)
        answering = self._answering
        answering.checked(asked.call.request_id, judged)
        answering.challengers.show_verdict(answering.lifecycle.lineup, served, asked, call, judged)
        log = answering.decision_log
        if log is not None:
            bundle_id = served.manifest.bundle_id
            log.log_check(CheckedAnswer(time.time(), asked.call, call, judged, bundle_id))
        return check_response(call.request_id, judged, served.manifest.bundle_id, timings)

    def _found(self, call: CheckCall, deadline_s: float | None) -> tuple[Asked, Served]:
        """Return the request that was answered, and the bundle that answered it or would."""
        pending = self._answering.pending
        if call.call is None:
            tried = pending.find(call.tenant, call.request_id)
            if tried is None or tried.asked is None:
                raise UnknownName("no request of that id waits for its check here; send the request itself")
            before = tried.asked
            asked = Asked(before.call, before.facts, before.before, deadline_s, time.perf_counter_ns())
            return asked, tried.served
        check_content(call.call.prompt)
        lineup, facts = self._answering.lifecycle.lineup, facts_of(call.call)
        asked = Asked(call.call, facts, self._rules().before(facts), deadline_s, time.perf_counter_ns())
        pending.checked(asked)
        return asked, self._of_canary(lineup, asked) or lineup.find(asked.wanted_bundle)

    def _of_canary(self, lineup: Lineup, asked: Asked) -> Served | None:
        """Return the canary where it routed the request: the draw is the same."""
        return self._answering.challengers.canary_for(lineup, asked)

    async def _judged(self, call: CheckCall, asked: Asked, served: Served) -> tuple[Judgement, Served, int, int]:
        """Return the judgement, the bundle that gave it, and when its model began and ended.

        Where the canary fails, the default bundle judges.
        """
        lineup = self._answering.lifecycle.lineup
        try:
            return await self._judged_by(served, call, asked)
        except Exception as error:
            if served is not lineup.canary or asked.wanted_bundle:
                raise
            self._answering.challengers.stand_in(served, error)
        return await self._judged_by(lineup.default, call, asked)

    async def _judged_by(self, served: Served, call: CheckCall, asked: Asked) -> tuple[Judgement, Served, int, int]:
        policy = self._answering.policy(asked, served)
        prompt = asked.call.prompt
        offered = asked.offered(served, self._rules(), estimated_tokens(prompt.text) + prompt.extra_tokens)
        judging = Judging(served, call, asked, policy, offered)
        now_ns = time.perf_counter_ns()
        if asked.before.route is not None and not call.answer.is_nothing:
            return judging.ruled(), served, now_ns, now_ns
        if call.answer.is_nothing and served.is_pair:
            return judging.judged(Verdict.ESCALATE, Reason.NO_ANSWER, judging.escalation()), served, now_ns, now_ns
        judged, began_ns, ended_ns = await self._answering.second_look(judging.look, asked)
        return judged, served, began_ns, ended_ns


def _request_id_of(raw: bytes, max_bytes: int) -> str:
    if len(raw) > max_bytes:
        return ""
    try:
        request = pb.CheckRequest.FromString(raw)
    except DecodeError:
        return ""
    return str(request.request_id or request.request.request_id)
