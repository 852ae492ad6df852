"""The fast lane: what the first stage of a model can answer comes at once, and says what the whole model says."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import grpc
import msgspec
import numpy as np
import pytest

from tests.builders import tiny_graph
from tests.gates import until
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import GRAPH, Bundle, load_bundle, read_file_of
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.errors import DeadlineSpent
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.features import Features
from turnout.serving.router.graph_parts import fast_graph
from turnout.serving.router.model import FastHead, Looked, Prediction, RouterModel, Stage
from turnout.serving.router.prompt import Prompt
from turnout.serving.service import fast_lane
from turnout.serving.service.fast_lane import FastLane
from turnout.serving.service.model_thread import Ask
from turnout.serving.wire.route import ROUTE_METHOD
from turnout.training.sample.sample import make_sample


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return load_bundle(find_bundle())


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rows = make_sample(40, 7)
    return ["", "x" * 20_000, "日本語の文。" * 50, *(row["request"]["messages"][-1]["content"] for row in rows)]


def ask_of(bundle: Bundle, text: str, threshold: float = 0.9, **more: object) -> Ask:
    return Ask(bundle.model, Prompt(text), threshold, None, time.perf_counter_ns(), **more)


def answer(lane: FastLane, ask: Ask, head: FastHead | None) -> Prediction | None:
    predicted = asyncio.run(lane.answer(ask, head))
    return None if predicted is None else predicted.prediction


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.85, 0.9, 0.944, 0.96, 1.0])
def test_it_answers_what_the_whole_model_answers_without_its_encoder(
    shipped: Bundle, texts: list[str], threshold: float
):
    lane = FastLane(is_open=True)
    for text in texts:
        whole = shipped.model.predict(Prompt(text), threshold)
        assert answer(lane, ask_of(shipped, text, threshold), shipped.fast_head) == (
            whole if whole.stage is Stage.FAST else None
        )
    assert 0 < lane.calls <= len(texts)


def test_it_leaves_open_what_one_of_two_thresholds_leaves_open(shipped: Bundle, texts: list[str]):
    lane, found = FastLane(is_open=True), []
    for text in texts:
        stages = {shipped.model.predict(Prompt(text), threshold).stage for threshold in (0.5, 0.9)}
        said = answer(lane, ask_of(shipped, text, 0.5, also=0.9), shipped.fast_head)
        assert (said is None) == (Stage.FULL in stages)
        found.append(said is None)
    assert {True, False} <= set(found)


@pytest.mark.parametrize(
    ("is_open", "has_head", "parts"), [(False, True, []), (True, False, []), (True, True, [(0, 2)])]
)
def test_it_is_closed_without_early_exit_without_two_stages_and_to_explanations(
    shipped: Bundle, *, is_open: bool, has_head: bool, parts: list[tuple[int, int]]
):
    ask = ask_of(shipped, "hello", 0.0, parts=parts)
    assert answer(FastLane(is_open=is_open), ask, shipped.fast_head if has_head else None) is None


def test_features_of_what_it_leaves_open_are_not_computed_again(shipped: Bundle, texts: list[str]):
    for text in texts:
        ask = ask_of(shipped, text)
        if answer(FastLane(is_open=True), ask, shipped.fast_head) is None:
            assert ask.features is not None
            expected = shipped.model.featurize(Prompt(text))
            for name in Features.__slots__:
                np.testing.assert_array_equal(getattr(ask.features, name), getattr(expected, name))
            return
    pytest.fail("no prompt was left open")


def test_a_spent_deadline_is_seen_before_the_run(shipped: Bundle):
    ask = msgspec.structs.replace(ask_of(shipped, "hello"), deadline_s=time.monotonic() - 1)
    with pytest.raises(DeadlineSpent):
        answer(FastLane(is_open=True), ask, shipped.fast_head)


def test_graphs_that_are_not_made_of_two_stages_have_no_lane():
    assert fast_graph(tiny_graph(nan_on_digits=False, work_per_question=0)) is None
    assert fast_graph(b"\xff no graph") is None
    assert fast_graph(b"") is None


def test_the_first_stage_holds_no_encoder(shipped: Bundle):
    whole = read_file_of(shipped, GRAPH)
    first = fast_graph(whole)
    assert first is not None
    assert len(first) < len(whole) / 2


class Slow:
    """A first stage that takes more CPU time than any trained one."""

    def look(self, *_: object, **__: object) -> None:
        """Hand over."""

    def look_by_graph(self, *_: object) -> Looked:
        end_ns = time.thread_time_ns() + 2 * fast_lane.TOO_LONG_NS
        while time.thread_time_ns() < end_ns:
            pass
        return Looked(Prediction(0.5, Stage.FAST), np.zeros(16, np.float32), None)


def test_a_run_that_takes_too_long_closes_the_lane(shipped: Bundle):
    lane = FastLane(is_open=True)
    assert answer(lane, ask_of(shipped, "hello"), Slow()) is not None
    assert answer(lane, ask_of(shipped, "hello"), shipped.fast_head) is None


def test_many_at_once_give_way_to_the_rest_of_the_loop(shipped: Bundle, texts: list[str]):
    async def check() -> int:
        lane, n_turns, asks = FastLane(is_open=True), 0, [ask_of(shipped, text) for text in texts * 20]
        answers = asyncio.gather(*(lane.answer(ask, shipped.fast_head) for ask in asks))
        while not answers.done():
            n_turns += 1
            await asyncio.sleep(0)
        return n_turns

    assert asyncio.run(check()) > 20


def test_only_what_holds_the_loop_for_too_long_asks_it_for_a_turn(shipped: Bundle, monkeypatch: pytest.MonkeyPatch):
    asked: list[object] = []

    async def check() -> None:
        lane, loop = FastLane(is_open=True), asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_soon", asked.append)
        try:
            for longest_ns, n_asked in ((10**12, 0), (0, 1)):
                monkeypatch.setattr(fast_lane, "LONGEST_HOLD_NS", longest_ns)
                lane._held_ns = 0
                assert await lane.answer(ask_of(shipped, "hello"), shipped.fast_head) is not None
                assert len(asked) == n_asked
        finally:
            monkeypatch.undo()

    asyncio.run(check())


class Gated(RouterModel):
    """The whole model, which stands still while its gate is shut."""

    def __init__(self, model: RouterModel, loop: asyncio.AbstractEventLoop) -> None:
        self.featurize, self._model, self._loop = model.featurize, model, loop
        self.n_at_gate, self.gate = 0, asyncio.Event()
        self.gate.set()

    def predict_features(self, features: Features, threshold: float, *, early_exit: bool = True) -> Prediction:
        self.n_at_gate += 1
        asyncio.run_coroutine_threadsafe(self.gate.wait(), self._loop).result(60)
        return self._model.predict_features(features, threshold, early_exit=early_exit)


def test_answers_of_the_first_stage_pass_those_that_wait_for_the_encoder(shipped: Bundle, texts: list[str]):
    stages = {text: shipped.model.predict(Prompt(text), 0.9).stage for text in texts if text}
    slow = next(text for text, stage in stages.items() if stage is Stage.FULL)
    fast = next(text for text, stage in stages.items() if stage is Stage.FAST)

    async def check() -> None:
        model = Gated(shipped.model, asyncio.get_running_loop())
        bundle = replace(shipped, model=model)
        async with server_in_loop(bundle) as (_, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                ROUTE_METHOD,
                request_serializer=pb.RouteRequest.SerializeToString,
                response_deserializer=pb.RouteResponse.FromString,
            )
            model.gate.clear()
            n_before = model.n_at_gate
            waiting = asyncio.ensure_future(call(pb.RouteRequest(text=slow, threshold=0.9), timeout=60))
            await until(lambda: model.n_at_gate > n_before, 60)
            reply = await call(pb.RouteRequest(text=fast, threshold=0.9), timeout=60)
            assert reply.stage == pb.STAGE_FAST
            assert not waiting.done()
            model.gate.set()
            assert (await waiting).stage == pb.STAGE_FULL

    asyncio.run(check())
