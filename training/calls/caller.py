"""Caller: asks the calls of many rows at once, each from the cache, or at a price and within the caps.

A row's calls are asked one after the other, rows side by side. Each request is written down before it
leaves; time-outs and malformed answers are paid for, error statuses are not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from turnout.training.calls.budget import Budget, CapReached, Reservation
from turnout.training.calls.cache import CallCache, State
from turnout.training.calls.call import Call, CallFailure, Keep, Reply
from turnout.training.calls.endpoint import Lost, Refusal, send
from turnout.training.calls.sdk import openai
from turnout.training.calls.tariff import Tariff
from turnout.training.errors import EndpointRefused

Outcome = bytes | CallFailure
"""What was kept of a call's answer, or why there is nothing."""

MAX_ANSWERS = 3
"""Answers paid for at most before a call counts as malformed."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how fast a call that fails is tried again.

    Attributes:
        max_attempts: requests for one call; malformed answers are counted apart, by `MAX_ANSWERS`.
        first_delay_s, max_delay_s: delays double from the first to the last, less up to half by chance.
        max_retry_after_s: a longer `Retry-After` is not waited for; the call fails.
        max_failed_in_row: calls that fail one after the other, with none answered, before the run stops.
    """

    max_attempts: int = 6
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_retry_after_s: float = 300.0
    max_failed_in_row: int = 20

    def delay_s(self, attempt: int) -> float:
        """Return how long to wait after an attempt, counted from 0."""
        delay_s = min(self.first_delay_s * 2.0**attempt, self.max_delay_s)
        return delay_s * (1 - 0.5 * random.random())  # noqa: S311  # spreads retries, guards nothing


@dataclass
class _Pause:
    """Until when the endpoint wants to be left alone, by all calls alike."""

    until_s: float = 0.0

    def extend(self, delay_s: float) -> None:
        self.until_s = max(self.until_s, asyncio.get_running_loop().time() + delay_s)

    async def wait(self) -> None:
        while (left_s := self.until_s - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110  # others extend it
            await asyncio.sleep(min(left_s, 1.0))


@dataclass
class Caller:
    """Asks calls through one client, one cache and one budget."""

    client: openai.AsyncOpenAI
    cache: CallCache
    budget: Budget
    keep: Keep
    retries: Retries = field(default_factory=Retries)
    _pause: _Pause = field(default_factory=_Pause)
    _failed_in_row: int = 0
    _is_stopped: bool = False

    async def ask_rows(
        self, rows: Sequence[Sequence[Call]], concurrency: int, advance: Callable[[int], None]
    ) -> list[list[Outcome]]:
        """Ask the calls of all rows, in the order of the rows, so many rows at a time; return what became of each.

        Rows with the same calls are asked once.

        Raises:
            EndpointRefused: no call can succeed, or too many failed one after the other.
        """
        keys = [tuple(call.key for call in row) for row in rows]
        outcomes: dict[tuple[str, ...], list[Outcome]] = {}
        queue = iter(dict(zip(keys, rows, strict=True)).items())
        workers = [self._work(queue, outcomes, advance) for _ in range(concurrency)]
        # Where one fails for good, calls under way still end: they are paid for, and their answers are kept.
        ended = await asyncio.gather(*workers, return_exceptions=True)
        for error in filter(None, ended):
            raise error
        return [outcomes[row] for row in keys]

    async def _work(
        self,
        queue: Iterator[tuple[tuple[str, ...], Sequence[Call]]],
        outcomes: dict[tuple[str, ...], list[Outcome]],
        advance: Callable[[int], None],
    ) -> None:
        for keys, calls in queue:
            if self._is_stopped:
                return
            try:
                outcomes[keys] = await self._ask_row(calls)
            except Exception:
                self._is_stopped = True
                raise
            advance(1)

    async def _ask_row(self, calls: Sequence[Call]) -> list[Outcome]:
        known = {call.key: known_outcome(self.cache, call.key) for call in calls}
        missing = {call.key: call for call in calls if known[call.key] is None}
        if missing:
            try:
                # All of a row's calls or none: half an answer pair would be paid for and decide nothing.
                async with self.budget.reserve([call.bound_usd for call in missing.values()]) as room:
                    for call in missing.values():
                        known[call.key] = await self._ask(call, room)
            except CapReached:
                known |= {key: CallFailure.CAPPED for key in missing if known[key] is None}
        return [known[call.key] or CallFailure.CAPPED for call in calls]

    async def _ask(self, call: Call, room: Reservation) -> Outcome:
        """Ask one call until it is answered; `room` holds space for one request."""
        for attempt in range(self.retries.max_attempts):
            await self._pause.wait()
            if self._is_stopped:
                break
            outcome = await self._send(call, room)
            if isinstance(outcome, bytes):
                return outcome
            if outcome is None and (known := known_outcome(self.cache, call.key)) is not None:
                return known  # malformed for the last time
            if isinstance(outcome, Refusal) and not self._wait_for(outcome, attempt):
                return self._failed(CallFailure.UNAVAILABLE if outcome.is_passing else CallFailure.REFUSED, outcome)
            if not isinstance(outcome, Refusal):
                room.extend(call.bound_usd)  # paid for, or perhaps: the next one is one more
            if isinstance(outcome, Lost):
                await asyncio.sleep(self.retries.delay_s(attempt))
        return CallFailure.UNAVAILABLE if self._is_stopped else self._failed(CallFailure.UNAVAILABLE, None)

    async def _send(self, call: Call, room: Reservation) -> bytes | Refusal | Lost | None:
        """Send one request; return what was kept of its answer, None if it was malformed, or why there is none."""
        bound_usd = call.bound_usd
        number = self.cache.send(call.key, bound_usd)
        answer = await send(self.client, call.body, idempotency_key(self.cache, call.key))
        if isinstance(answer, Refusal):
            self.cache.not_billed(number)
            return answer
        if isinstance(answer, Lost):
            room.spend(bound_usd, bound_usd)
            return answer
        self._failed_in_row = 0
        kept, usd = record_answer(self.cache, number, call.tariff, bound_usd, answer, self.keep)
        room.spend(bound_usd, usd)
        return kept

    def _wait_for(self, refusal: Refusal, attempt: int) -> bool:
        """Make all calls wait as long as asked, or as the back-off says; False when it is not worth it."""
        asked_s = refusal.retry_after_s
        if not refusal.is_passing or attempt + 1 == self.retries.max_attempts:
            return False
        if asked_s is not None and asked_s > self.retries.max_retry_after_s:
            return False
        self._pause.extend(self.retries.delay_s(attempt) if asked_s is None else asked_s)
        return True

    def _failed(self, why: CallFailure, refusal: Refusal | None) -> CallFailure:
        self._failed_in_row += 1
        if self._failed_in_row >= self.retries.max_failed_in_row and not self._is_stopped:
            self._is_stopped = True  # at once, so that calls under way don't say so again
            last = "a time-out" if refusal is None else f"status {refusal.status} {refusal.code}".rstrip()
            raise EndpointRefused(
                f"{self._failed_in_row} calls in a row failed, the last one with {last}; check the endpoint and the "
                "parameters of the request. What was paid for is in the cache; run again to go on"
            )
        return why


def known_outcome(cache: CallCache, key: str) -> Outcome | None:
    """Return what the cache knows of a call; None when it has to be asked."""
    sends = cache.sends(key)
    kept = [sent.kept for sent in sends if sent.state is State.ANSWERED and sent.kept is not None]
    if kept:
        return kept[0]
    malformed = sum(sent.state is State.MALFORMED for sent in sends)
    return CallFailure.MALFORMED if malformed >= MAX_ANSWERS else None


def idempotency_key(cache: CallCache, key: str) -> str:
    """Return what makes two sends of a call the same; a malformed answer starts anew."""
    malformed = sum(sent.state is State.MALFORMED for sent in cache.sends(key))
    return f"turnout-{key[:40]}-{malformed}"


def record_answer(
    cache: CallCache, number: int, tariff: Tariff, bound_usd: float, reply: Reply, keep: Keep
) -> tuple[bytes | None, float]:
    """Write an answer into the cache; return what was kept of it and what it cost, the bound where nobody counted."""
    usd = tariff.usage_usd(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
    cost_usd = bound_usd if usd is None else usd
    kept = keep(reply)
    cache.answered(number, cost_usd, reply.prompt_tokens, reply.completion_tokens, kept)
    return kept, cost_usd
