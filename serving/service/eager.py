"""Coroutines that begin at once: most items of a batch are answered without ever waiting, and need no task.

    coroutine -> its first step, here and now -> its result, or a task of the event loop that goes on where it waits

A task costs some 10 us of CPU, and `asyncio.gather` makes one of each coroutine. Python 3.12 has eager ones, 3.11 none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator, Iterable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_HOLD_NS = 2_000_000
"""How long coroutines that begin one after the other hold the event loop before others have their turn: 40 items."""


async def gather_eagerly(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in order, as `asyncio.gather` of coroutines does; each begins before the next one is taken.

    First steps run in the caller's context, the rest of a coroutine in a copy of it, made when it first waits. Where
    one raises, or the caller is cancelled, those that wait are cancelled.
    """
    begun: list[Any] = []
    turn_ns = time.perf_counter_ns()
    try:
        for coroutine in coroutines:
            begun.append(_begin(coroutine))
            if time.perf_counter_ns() - turn_ns > LONGEST_HOLD_NS:
                await asyncio.sleep(0)
                turn_ns = time.perf_counter_ns()
        return [await one if one.__class__ is asyncio.Task else one for one in begun]
    finally:
        for one in begun:
            if one.__class__ is asyncio.Task:
                one.cancel()  # changes nothing of one that is done


def _begin(coroutine: Coroutine[Any, Any, T]) -> T | asyncio.Task[T]:
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    return asyncio.get_running_loop().create_task(_Rest(coroutine, waits_for))


class _Rest(Coroutine[Any, Any, T]):
    """What is left of a coroutine that has begun: it gives once more what that waits for, then is that coroutine."""

    def __init__(self, begun: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._begun, self._first = begun, [waits_for]

    def send(self, value: Any) -> Any:
        return self._first.pop() if self._first else self._begun.send(value)

    def throw(self, *error: Any) -> Any:
        for future in self._first:  # cancelled before its first step, when the task does not know yet what it waits for
            if future is not None:
                future.cancel()
        self._first.clear()
        return self._begun.throw(*error)

    def close(self) -> None:
        self._begun.close()

    def __await__(self) -> Generator[Any, Any, T]:
        step = partial(self.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = partial(self.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001  # thrown on, as it is into any coroutine
                step = partial(self.throw, error)
