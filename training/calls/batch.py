"""Batch: the same calls through the Batch API: half the price, an answer within a day.

Submitting and collecting are two runs of one command, or one that waits. What was submitted stands in the cache
before it is created; a batch whose creation a kill cut off is found again at the endpoint by its metadata, so
that it is never created twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from uuid import uuid4

import msgspec

from training.calls.budget import Budget, Caps
from training.calls.cache import Batch, CallCache
from training.calls.call import Call, Failure, Keep, key_of
from training.calls.caller import Outcome, known_outcome, record_answer
from training.calls.endpoint import refusal, reply_of
from training.calls.sdk import openai
from training.errors import BatchPending, EndpointRefused

MAX_REQUESTS = 50_000
"""In one batch (OpenAI's Batch API guide)."""

MAX_BYTES = 100_000_000
"""Of one input file; the guide allows 200 MB."""

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
METADATA = "turnout"
MAX_LISTED = 1000
CONTROL_RETRIES = 5
OK = 200


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
    """

    client: openai.AsyncOpenAI
    cache: CallCache
    caps: Caps
    keep: Keep
    wait_s: float = 0.0
    poll_s: float = 30.0
    say: Callable[[str], None] = print
    is_reached: bool = False
    _failed: dict[str, Failure] = field(default_factory=dict)

    async def ask_rows(self, rows: Sequence[Sequence[Call]]) -> list[list[Outcome]]:
        """Collect what is ready, submit what is missing, and wait; return what became of each call.

        Raises:
            BatchPending: a batch is not done within `wait_s`.
            EndpointRefused: the endpoint has no batches, or failed one as a whole.
        """
        calls = {call.key: call for row in rows for call in row}
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.wait_s
        while True:
            pending = await self._collect(calls)
            if not pending:
                missing = self._missing(rows)
                if not missing:
                    return [[self._outcome(call) for call in row] for row in rows]
                await self._submit(missing)
                continue
            if loop.time() >= until_s:
                raise BatchPending(f"{'; '.join(pending)}. Run the same command again to collect")
            await asyncio.sleep(self.poll_s)

    def _outcome(self, call: Call) -> Outcome:
        known = known_outcome(self.cache, call.key)
        return self._failed.get(call.key, Failure.CAPPED) if known is None else known

    def _missing(self, rows: Sequence[Sequence[Call]]) -> dict[str, Call]:
        """Return the calls to submit: row by row, as far as the caps allow at the calls' bounds."""
        budget = Budget(self.caps, *self.cache.spent({call.key for row in rows for call in row}))
        chosen: dict[str, Call] = {}
        for row in rows:
            wanted = {call.key: call for call in row if known_outcome(self.cache, call.key) is None}
            wanted = {key: call for key, call in wanted.items() if key not in self._failed and key not in chosen}
            usd = sum(call.bound_usd for call in wanted.values())
            if not budget.fits(usd, len(wanted)):
                self.is_reached = True
                continue
            budget.spent_usd += usd
            budget.n_calls += len(wanted)
            chosen |= wanted
        return chosen

    async def _submit(self, calls: dict[str, Call]) -> None:
        waiting = iter(calls.values())
        while chunk := list(islice(waiting, MAX_REQUESTS)):
            for part in _within_bytes(chunk):
                # Unlike any other, so that an older batch of the same calls is never taken for this one.
                digest = key_of(requests=[call.key for call in part], once=uuid4().hex)
                self.cache.open_batch(digest, {call.key: call.bound_usd for call in part})
                await self._create(digest, part)

    async def _create(self, digest: str, calls: Sequence[Call]) -> openai.types.Batch:
        content = b"".join(_input_line(call) + b"\n" for call in calls)
        async with _endpoint_errors():
            patient = self.client.with_options(max_retries=CONTROL_RETRIES)
            uploaded = await patient.files.create(file=("turnout.jsonl", content), purpose="batch")
            # Not retried: a second try after a lost answer could create it twice. A later run finds it by metadata.
            created = await self.client.batches.create(
                input_file_id=uploaded.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={METADATA: digest},
            )
        self.cache.batch_created(digest, created.id, uploaded.id)
        self.say(f"batch {created.id}: {len(calls)} requests submitted")
        return created

    async def _collect(self, calls: dict[str, Call]) -> list[str]:
        """Take in the batches that are done; say of the others how far they are."""
        pending = []
        for batch in self.cache.open_batches():
            remote = await self._remote(batch, calls)
            if remote is None:
                self.cache.batch_collected(batch.digest)  # was never created, and the logs have changed since
            elif remote.status in ENDED:
                await self._take_in(batch, remote, calls)
            else:
                counts = remote.request_counts
                done = f", {counts.completed} of {counts.total} done" if counts else ""
                pending.append(f"batch {remote.id}: {remote.status}{done}")
        return pending

    async def _remote(self, batch: Batch, calls: dict[str, Call]) -> openai.types.Batch | None:
        async with _endpoint_errors():
            patient = self.client.with_options(max_retries=CONTROL_RETRIES)
            batch_id = batch.id or await self._adopt(batch.digest)
            if batch_id is not None:
                return await patient.batches.retrieve(batch_id)
        keys = self.cache.batched(batch.digest).keys()
        return await self._create(batch.digest, [calls[key] for key in keys]) if keys <= calls.keys() else None

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

    async def _take_in(self, batch: Batch, remote: openai.types.Batch, calls: dict[str, Call]) -> None:
        files = [name for name in (remote.output_file_id, remote.error_file_id) if name]
        numbers = self.cache.batched(batch.digest)
        async with _endpoint_errors():
            patient = self.client.with_options(max_retries=CONTROL_RETRIES)
            for name in files:
                content = await patient.files.content(name)
                for line in content.content.splitlines():
                    self._take_line(line, numbers, calls)
            for used in (*files, batch.input_file):  # they hold prompts: they stay there no longer than needed
                if used:
                    await _forget(patient, used)
        self.cache.batch_collected(batch.digest)
        if not files:
            raise EndpointRefused(f"batch {remote.id}: {remote.status} without any answer; nothing of it was billed")
        self._failed |= dict.fromkeys(numbers, Failure.UNAVAILABLE)  # not asked again in this run

    def _take_line(self, raw: bytes, numbers: dict[str, int], calls: dict[str, Call]) -> None:
        try:
            line = msgspec.json.decode(raw, type=_Line)
            body = msgspec.json.decode(line.response.body) if line.response else None
        except (msgspec.DecodeError, RecursionError):
            return
        number, call = numbers.get(line.custom_id), calls.get(line.custom_id)
        if number is None or call is None or line.response is None or line.response.status_code != OK:
            return
        record_answer(self.cache, number, call, reply_of(body), self.keep)
        del numbers[line.custom_id]


def _within_bytes(calls: Sequence[Call]) -> list[list[Call]]:
    parts: list[list[Call]] = [[]]
    size = 0
    for call in calls:
        length = len(_input_line(call)) + 1
        if size + length > MAX_BYTES and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(call)
        size += length
    return parts


def _input_line(call: Call) -> bytes:
    line = {"custom_id": call.key, "method": "POST", "url": "/v1/chat/completions", "body": call.body}
    return msgspec.json.encode(line)


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
