"""What was answered before is answered again without the model, and no prompt is kept for it."""

from __future__ import annotations

import asyncio
import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from tests.gates import GatedModel
from tests.running import lifecycle_of, server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.router.model import Prediction, Stage
from turnout.serving.router.prompt import Prompt
from turnout.serving.service.cache import PredictionCache

prompts = st.builds(Prompt, st.text(max_size=5), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.booleans())


def test_repeated_prompt_is_answered_without_the_model_and_a_changed_one_is_not(bundle: Bundle):
    gated = dataclasses.replace(bundle, model=GatedModel(bundle.model))

    async def check() -> None:
        lifecycle = lifecycle_of(gated, cache_items=10)
        async with server_in_loop(lifecycle) as (server, address), AsyncRouter(address, timeout_s=60) as router:
            seen = len(gated.model.texts)
            first, second = [await router.route(text="hello the word") for _ in range(2)]
            assert gated.model.texts[seen:] == ["hello the word"]
            assert dataclasses.replace(second, latency_ms=first.latency_ms) == first
            await router.route(text="hello the word", threshold=0.3)
            await router.route(messages=[{"role": "user", "content": "hello the word"}] * 2)
            assert server.service.model_calls == 3
            cache = lifecycle.lineup.default.cache
            assert (cache.hits, cache.misses, len(cache)) == (1, 3, 3)

    asyncio.run(check())


def test_cached_answers_take_no_place_in_the_queue(bundle: Bundle):
    async def check() -> None:
        lifecycle = lifecycle_of(bundle, cache_items=10)
        async with server_in_loop(lifecycle, max_queue_items=1) as (_, address):
            async with AsyncRouter(address, timeout_s=60) as router:
                await router.route(text="hello")
                routed = await asyncio.gather(*(router.route(text="hello") for _ in range(50)))
            assert {one.fallback_reason for one in routed} == {None}

    asyncio.run(check())


@given(one=prompts, other=prompts, threshold=st.floats(0, 1), elsewhere=st.floats(0, 1))
def test_keys_are_equal_exactly_when_all_that_matters_is(
    one: Prompt, other: Prompt, threshold: float, elsewhere: float
):
    cache = PredictionCache(4)
    same = (one, threshold) == (other, elsewhere) and repr(threshold) == repr(elsewhere)
    assert (cache.key(one, threshold) == cache.key(other, elsewhere)) == same


@given(st.lists(st.integers(0, 20), max_size=200))
def test_cache_is_bounded_and_keeps_what_was_used_last(texts: list[int]):
    cache, recent = PredictionCache(5), []
    for number in texts:
        key = cache.key(Prompt(str(number)), 0.5)
        found = cache.get(key)
        assert (found is not None) == (number in recent)
        cache.put(key, Prediction(number / 20, Stage.FAST))
        recent = [*(one for one in recent if one != number), number][-5:]
    assert len(cache) == len(recent)


def test_keys_of_two_processes_tell_nothing_of_each_other():
    prompt = Prompt("a guess")
    assert PredictionCache(1).key(prompt, 0.5) != PredictionCache(1).key(prompt, 0.5)


def test_cache_of_no_items_keeps_nothing():
    cache = PredictionCache(0)
    cache.put(cache.key(Prompt("hello"), 0.5), Prediction(0.5, Stage.FAST))
    assert (len(cache), cache.get(b""), cache.misses) == (0, None, 0)
