"""Coroutines that begin at once: results in order, tasks only where one waits, and cancellation that reaches them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from turnout.serving.service.eager import LONGEST_HOLD_NS, _Rest, gather_eagerly

_number: ContextVar[int] = ContextVar("number", default=0)


async def at_once(value: int) -> int:
    return value


async def after(future: asyncio.Future[int], on_cancel: Callable[[], None] = lambda: None) -> int:
    try:
        return await future
    except asyncio.CancelledError:
        on_cancel()
        raise


def tasks_beside() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("make", [at_once, lambda value: after(_done(value))])
def test_what_never_waits_needs_no_task(make: Callable[[int], Any]) -> None:
    async def run() -> tuple[list[int], int]:
        found = await gather_eagerly(map(make, range(5)))
        return found, len(tasks_beside())

    assert asyncio.run(run()) == ([0, 1, 2, 3, 4], 0)


def _done(value: int) -> asyncio.Future[int]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def test_results_keep_their_order_when_some_wait_and_end_in_another() -> None:
    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        gathering = asyncio.ensure_future(gather_eagerly([after(futures[0]), at_once(7), *map(after, futures[1:])]))
        await asyncio.sleep(0)
        for number in (2, 0, 1):
            futures[number].set_result(number)
            await asyncio.sleep(0)
        return await gathering

    assert asyncio.run(run()) == [0, 7, 1, 2]


def test_one_that_waits_several_times_and_for_other_threads_goes_on() -> None:
    async def slow(value: int) -> int:
        await asyncio.sleep(0)
        found = await asyncio.to_thread(lambda: value + 1)
        await asyncio.sleep(0.001)
        return found

    assert asyncio.run(gather_eagerly(map(slow, range(10)))) == list(range(1, 11))


def test_what_waits_keeps_the_context_in_which_it_began_to_wait() -> None:
    async def run(number: int) -> int:
        _number.set(number)
        await asyncio.sleep(0)
        return _number.get()

    assert asyncio.run(gather_eagerly(map(run, range(4)))) == [0, 1, 2, 3]


def test_an_error_cancels_those_that_wait() -> None:
    async def fails() -> int:
        await asyncio.sleep(0)
        raise KeyError("nothing")

    async def run() -> tuple[list[str], bool]:
        cancelled: list[str] = []
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(KeyError):
            await gather_eagerly([fails(), after(future, lambda: cancelled.append("it"))])
        await asyncio.sleep(0)
        return cancelled, future.cancelled()

    assert asyncio.run(run()) == (["it"], True)


@pytest.mark.parametrize("turns", range(4))
def test_cancellation_reaches_those_that_wait_even_before_their_task_has_begun(turns: int) -> None:
    async def run() -> tuple[list[str], bool, int]:
        cancelled: list[str] = []
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        gathering = asyncio.ensure_future(gather_eagerly([after(future, lambda: cancelled.append("it"))]))
        loop.call_soon(lambda: None)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not turns:
            loop.call_soon(gathering.cancel)  # just after it has begun, and before the task of what waits
        else:
            gathering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gathering
        await asyncio.sleep(0)
        return cancelled, future.cancelled(), len(tasks_beside())

    assert asyncio.run(run()) == (["it"], True, 0)


def test_a_long_row_gives_way_to_the_rest_of_the_loop() -> None:
    async def work() -> int:
        until_ns = time.perf_counter_ns() + LONGEST_HOLD_NS // 2
        while time.perf_counter_ns() < until_ns:
            pass
        return 1

    async def run() -> tuple[int, int]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        total = sum(await gather_eagerly(work() for _ in range(12)))
        counting.cancel()
        return total, turns

    total, turns = asyncio.run(run())
    assert total == 12
    assert turns >= 4


def test_what_is_left_hears_of_a_cancellation_at_its_first_wait() -> None:
    said: list[str] = []

    async def work(future: asyncio.Future[int]) -> None:
        try:
            await future
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def run() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        begun = work(future)
        rest = _Rest(begun, begun.send(None))

        async def waiting() -> None:
            await rest

        task = asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert said == ["cancelled"]


def test_what_is_left_can_be_awaited_as_the_whole_can() -> None:
    async def run() -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        begun = after(future)
        rest = _Rest(begun, begun.send(None))
        asyncio.get_running_loop().call_soon(future.set_result, 7)
        return await rest

    assert asyncio.run(run()) == 7
