"""Batch: the same calls through the Batch API: half the price, an answer within a day.

Submitting and collecting are two runs of one command, or one that waits. What was submitted stands in the cache
before it is created; a batch whose creation a kill cut off is found again at the endpoint by its metadata, so
that it is never created twice. Calls are walked through and never held all at once: what is in memory is one batch.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import msgspec

from turnout.training.calls.budget import Budget, Caps
from turnout.training.calls.cache import Batch, CallCache, Waiting
from turnout.training.calls.call import Call, CallFailure, Keep, key_of
from turnout.training.calls.caller import Outcome, known_outcome, record_answer
from turnout.training.calls.endpoint import refusal, reply_of
from turnout.training.calls.sdk import openai
from turnout.training.calls.seen import distinct
from turnout.training.calls.tariff import Tariff
from turnout.training.errors import BatchPending, EndpointRefused

MAX_REQUESTS = 50_000
"""In one batch (OpenAI's Batch API guide)."""

MAX_BYTES = 32_000_000
"""Of one input file; the guide allows 200 MB, but its calls and the file take some three times that in memory."""

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
METADATA, MODEL = "turnout", "model"
"""What a batch carries at the endpoint: our digest, and the model that all its requests are for."""
MAX_LISTED = 1000
CONTROL_RETRIES = 5
OK = 200

Rows = Iterable[Sequence[Call]]
"""Calls row by row; walked through several times, and the same each time."""


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None


@dataclass
class BatchCaller:
    """Asks calls in batches, through one client and one cache.

    Attributes:
        wait_s: how long to wait for a batch before leaving it to a later run.
        poll_s: between two looks at a batch.
        budget: what all these calls have cost, and whether a cap left any out; once they are settled.
    """

    client: openai.AsyncOpenAI
    cache: CallCache
    caps: Caps
    keep: Keep
    wait_s: float = 0.0
    poll_s: float = 30.0
    say: Callable[[str], None] = print
    budget: Budget = field(init=False)
    _failed: set[str] = field(default_factory=set)

    async def settle(self, rows: Rows) -> None:
        """Collect what is ready, submit what is missing, and wait, until `outcome` knows what became of each call.

        Raises:
            BatchPending: a batch is not done within `wait_s`.
            EndpointRefused: the endpoint has no batches, or failed one as a whole.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.wait_s
        while True:
            pending = await self._collect(rows)
            if not pending:
                if not await self._submit_missing(rows):
                    return
                continue
            if loop.time() >= until_s:
                raise BatchPending(f"{'; '.join(pending)}. Run the same command again to collect")
            await asyncio.sleep(self.poll_s)

    def outcome(self, call: Call) -> Outcome:
        """Return what became of a call."""
        known = known_outcome(self.cache, call.key)
        if known is not None:
            return known
        return CallFailure.UNAVAILABLE if call.key in self._failed else CallFailure.CAPPED

    async def _submit_missing(self, rows: Rows) -> bool:
        """Submit what has no answer, row by row, as far as the caps allow at the calls' bounds; whether it was any."""
        self.budget = Budget(self.caps, *self.cache.spent(distinct(call.key for row in rows for call in row)))
        before = self.budget.n_calls
        parts: dict[str, _Part] = defaultdict(_Part)  # by model: the guide wants all requests of a file to be for one
        for row in rows:
            wanted = {call.key: call for call in row if self._is_missing(call.key)}
            wanted = {key: call for key, call in wanted.items() if key not in parts[call.model].calls}
            if not self._fits(wanted.values()):
                continue
            for call in wanted.values():
                line = _input_line(call)
                if parts[call.model].is_full(line):
                    await self._submit(parts.pop(call.model))
                parts[call.model].add(call, line)
        for part in parts.values():
            if part.calls:
                await self._submit(part)
        return self.budget.n_calls > before

    def _is_missing(self, key: str) -> bool:
        is_known = key in self._failed or known_outcome(self.cache, key) is not None
        return not is_known and not self.cache.is_batched(key)

    def _fits(self, wanted: Collection[Call]) -> bool:
        """Take room for calls, if there is any."""
        usd = sum(call.bound_usd for call in wanted)
        if wanted and not self.budget.fits(usd, len(wanted)):
            self.budget.is_reached = True
            return False
        self.budget.spent_usd += usd
        self.budget.n_calls += len(wanted)
        return True

    async def _submit(self, part: _Part) -> None:
        # Unlike any other, so that an older batch of the same calls is never taken for this one.
        digest = key_of(requests=list(part.calls), once=uuid4().hex)
        self.cache.open_batch(digest, {key: call.bound_usd for key, call in part.calls.items()})
        await self._create(digest, part)

    async def _create(self, digest: str, part: _Part) -> openai.types.Batch:
        async with _endpoint_errors():
            patient = self.client.with_options(max_retries=CONTROL_RETRIES)
            uploaded = await patient.files.create(file=("turnout.jsonl", bytes(part.content)), purpose="batch")
            # Not retried: a second try after a lost answer could create it twice. A later run finds it by metadata.
            created = await self.client.batches.create(
                input_file_id=uploaded.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={METADATA: digest, MODEL: part.model},
            )
        self.cache.batch_created(digest, created.id, uploaded.id)
        self.say(f"batch {created.id}: {len(part.calls)} requests submitted")
        return created

    async def _collect(self, rows: Rows) -> list[str]:
        """Take in the batches that are done; say of the others how far they are."""
        pending = []
        for batch in self.cache.open_batches():
            remote = await self._remote(batch, rows)
            if remote is None:
                self.cache.batch_collected(batch.digest)  # was never created, and the logs have changed since
            elif remote.status in ENDED:
                await self._take_in(batch, remote, rows)
            else:
                counts = remote.request_counts
                done = f", {counts.completed} of {counts.total} done" if counts else ""
                pending.append(f"batch {remote.id}: {remote.status}{done}")
        return pending

    async def _remote(self, batch: Batch, rows: Rows) -> openai.types.Batch | None:
        async with _endpoint_errors():
            patient = self.client.with_options(max_retries=CONTROL_RETRIES)
            batch_id = batch.id or await self._adopt(batch.digest)
            if batch_id is not None:
                return await patient.batches.retrieve(batch_id)
        keys = self.cache.batched(batch.digest).keys()
        part = _Part()
        for call in _calls(rows, keys):
            part.add(call, _input_line(call))
        is_whole = part.calls.keys() == keys and len({call.model for call in part.calls.values()}) == 1
        return await self._create(batch.digest, part) if is_whole else None

    async def _adopt(self, digest: str) -> str | None:
        """Find a batch at the endpoint whose id a kill kept from the cache; None when it was never created."""
        listed = 0
        async for remote in self.client.with_options(max_retries=CONTROL_RETRIES).batches.list(limit=100):
            if (remote.metadata or {}).get(METADATA) == digest:
                self.cache.batch_created(digest, remote.id, remote.input_file_id)
                return remote.id
            listed += 1
            if listed >= MAX_LISTED:
                break
        return None

    async def _take_in(self, batch: Batch, remote: openai.types.Batch, rows: Rows) -> None:
        files = [name for name in (remote.output_file_id, remote.error_file_id) if name]
        waiting = self.cache.batched(batch.digest)
        tariffs = _tariffs(rows, (remote.metadata or {}).get(MODEL), waiting.keys())
        async with _endpoint_errors():
            patient = self.client.with_options(max_retries=CONTROL_RETRIES)
            for name in files:
                content = await patient.files.content(name)
                for line in content.content.splitlines():
                    self._take_line(line, waiting, tariffs)
            for used in (*files, batch.input_file):  # they hold prompts: they stay there no longer than needed
                if used:
                    await _forget(patient, used)
        self.cache.batch_collected(batch.digest)
        if not files:
            raise EndpointRefused(f"batch {remote.id}: {remote.status} without any answer; nothing of it was billed")
        self._failed |= waiting.keys()  # not asked again in this run

    def _take_line(self, raw: bytes, waiting: dict[str, Waiting], tariffs: Mapping[str, Tariff]) -> None:
        try:
            line = msgspec.json.decode(raw, type=_Line)
            body = msgspec.json.decode(line.response.body) if line.response else None
        except (msgspec.DecodeError, RecursionError):
            return
        sent, tariff = waiting.get(line.custom_id), tariffs.get(line.custom_id)
        if sent is None or tariff is None or line.response is None or line.response.status_code != OK:
            return
        record_answer(self.cache, sent.number, tariff, sent.bound_usd, reply_of(body), self.keep)
        del waiting[line.custom_id]


@dataclass
class _Part:
    """Calls of one model, until they are as many as a batch may hold."""

    calls: dict[str, Call] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    @property
    def model(self) -> str:
        return next(iter(self.calls.values())).model

    def is_full(self, line: bytes) -> bool:
        is_over = len(self.calls) == MAX_REQUESTS or len(self.content) + len(line) > MAX_BYTES
        return bool(self.calls) and is_over

    def add(self, call: Call, line: bytes) -> None:
        self.calls[call.key] = call
        self.content += line


def _calls(rows: Rows, keys: AbstractSet[str]) -> Iterator[Call]:
    """Yield the calls of these keys, each once."""
    left = set(keys)
    for row in rows:
        for call in row:
            if call.key in left:
                left.remove(call.key)
                yield call


def _tariffs(rows: Rows, model: str | None, keys: AbstractSet[str]) -> Mapping[str, Tariff]:
    """Return what the calls of a batch cost; one submitted when they named no model may be for several."""
    if model is None:
        return {call.key: call.tariff for call in _calls(rows, keys)}
    found = next((call.tariff for row in rows for call in row if call.model == model), None)
    return {} if found is None else dict.fromkeys(keys, found)


def _input_line(call: Call) -> bytes:
    line = {"custom_id": call.key, "method": "POST", "url": "/v1/chat/completions", "body": call.body}
    return msgspec.json.encode(line) + b"\n"


async def _forget(client: openai.AsyncOpenAI, name: str) -> None:
    try:
        await client.files.delete(name)
    except openai.APIError:  # it is gone, or the endpoint keeps files; nothing that was paid for depends on it
        return


@asynccontextmanager
async def _endpoint_errors() -> AsyncIterator[None]:
    """Turn the SDK's errors, whose text may quote a prompt, into ours."""
    try:
        yield
    except openai.APIStatusError as error:
        refused = refusal(error)
        raise EndpointRefused(
            f"the endpoint refuses the batch with status {refused.status} {refused.code}".rstrip()
            + "; run again to go on from the cache"
        ) from None
    except openai.APIError as error:
        raise BatchPending(
            f"the endpoint was lost ({type(error).__name__}); run the same command again to go on"
        ) from None
