"""The fast head in C says what the graph says, or hands over; where it differs, the graph answers, and that is told."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.native_builds import NAME, need_extension
from tests.running import server_in_loop
from tests.strange_texts import strange_texts
from turnout.serving.bundles.bundle import GRAPH, Bundle, load_bundle, read_file_of
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.cli.doctor.finding import Level
from turnout.serving.cli.doctor.models import check_models
from turnout.serving.errors import ModelFault
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.features import HEAD_CHARS, TAIL_CHARS, Features
from turnout.serving.router.graph_parts import fast_graph, weights_of
from turnout.serving.router.model import FastHead, Prediction
from turnout.serving.router.native import opening
from turnout.serving.router.native.native_head import NativeHead, NotNative
from turnout.serving.router.native.opening import open_native
from turnout.serving.router.prompt import Prompt, clean_text, prompt_from_text
from turnout.serving.service.fast_lane import FastLane
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.model_thread import Ask
from turnout.serving.settings import Sources
from turnout.serving.wire.route import ROUTE_METHOD

THRESHOLDS = (0.0, 0.5, 0.85, 0.9, 0.944, 0.96, 1.0)


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    need_extension()
    return load_bundle(find_bundle(), native=True)


@pytest.fixture(scope="module")
def head(shipped: Bundle) -> FastHead:
    assert shipped.fast_head is not None
    assert shipped.fast_head.path == "native"
    return shipped.fast_head


@pytest.fixture(scope="module")
def native(head: FastHead) -> NativeHead:
    assert head.native is not None
    return head.native


def assert_same(bundle: Bundle, prompt: Prompt, *, must_read: bool = False) -> None:
    """Hold the head in C against the Python path: features, answer, stage and what is out of distribution."""
    head = bundle.fast_head
    assert head is not None
    assert head.native is not None
    features = bundle.model.featurize(prompt)
    for threshold in THRESHOLDS:
        found = head.native.look(prompt, threshold, wants_features=True)
        assert found is not None or not must_read
        if found is None:
            return
        for name in Features.__slots__:
            np.testing.assert_array_equal(getattr(found.features, name), getattr(features, name), err_msg=name)
        said, looked = (
            head.predict_features(features, threshold),
            head.look(prompt, threshold, None, wants_features=False),
        )
        assert looked is not None
        assert (looked.prediction is None) == (said is None)
        if said is not None and looked.prediction is not None:
            assert abs(looked.prediction.p_match - said.p_match) <= 1e-6
            assert looked.prediction.is_out_of_distribution is said.is_out_of_distribution
            assert looked.prediction.goes_weak(threshold) is said.goes_weak(threshold)


def answer_of(bundle: Bundle, prompt: Prompt) -> Prediction | None:
    """Ask the fast lane."""
    ask = Ask(bundle.model, prompt, 0.5, None, time.perf_counter_ns())
    predicted = asyncio.run(FastLane(is_open=True).answer(ask, bundle.fast_head))
    return None if predicted is None else predicted.prediction


def test_golden_prompts_are_read_and_answered_as_the_graph_does(shipped: Bundle):
    for golden in shipped.golden:
        assert_same(shipped, prompt_from_text(golden.prompt), must_read=True)


PLAIN = st.text(st.characters(min_codepoint=0, max_codepoint=0x7F), max_size=300)


@settings(max_examples=300)
@given(text=PLAIN, turns=st.integers(1, 9), extras=st.integers(0, 3), wants_json=st.booleans())
@example(text="step by step by step", turns=1, extras=0, wants_json=False)
@example(text="must_not MUST must-not at  least At Least no more thank", turns=1, extras=0, wants_json=False)
@example(text="(A) x\n\x0b B. y\n\n(c)\nd:\te\n((A) f\nk) g\nAB. h\nA.i", turns=1, extras=0, wants_json=False)
@example(text="a\x0bb\x1cc\x7fd\x00e", turns=1, extras=0, wants_json=False)
@example(text="y" * 100 + " " + "y" * 101, turns=1, extras=0, wants_json=False)
def test_all_of_ascii_is_read(shipped: Bundle, text: str, turns: int, extras: int, *, wants_json: bool):
    has_added = any(token in text for token in shipped.model.featurize.word_pieces.added)
    prompt = Prompt(text, turns, images=extras, tools=extras, wants_json=wants_json)
    assert_same(shipped, prompt, must_read=not has_added)


@settings(max_examples=300)
@given(st.text(max_size=60))
@example("e\u0301\u0327 \u1100\u1161 \uac00\uac01 \u01c5 \xdf \ufb01 \u0130 \u0131 \u017f \u212a")
@example("\u0344\u0345 \u302e\u3099 か\u3099 \uf900 \ufa0e\u0301")
@example("\u200d\u200b\ufeff\u00ad\u2028\u2029\x85\xa0\u3000")
def test_any_text_is_read_as_the_tokenizer_reads_it_or_handed_over(shipped: Bundle, text: str):
    assert_same(shipped, Prompt(clean_text(text)))


@pytest.mark.slow
def test_strings_made_by_chance(shipped: Bundle):
    for text in islice(strange_texts(random.Random(11)), 1_000):
        assert_same(shipped, Prompt(clean_text(text)))


@pytest.mark.parametrize("extra", [-1, 0, 1, 5_000])
def test_longer_than_what_is_read(shipped: Bundle, extra: int):
    n = HEAD_CHARS + TAIL_CHARS + extra
    for unit in ("ferry must ", "x", "あ", "é\n", "\U0001d4b3 ", "가", "\u0301"):
        assert_same(shipped, Prompt((unit * (1 + n // len(unit)))[:n]))


def test_scripts_in_daily_use_are_read_in_c(native: NativeHead):
    texts = (
        "Grüße aus Köln",
        "Où est l'hôtel ?",
        "Привет, мир",
        "\u0393\u03b5\u03b9\u03ac",
        "東京はどこですか",
        "서울",
        "مرحبا",
        "🚆 vs 🚗",
    )
    for text in texts:
        found = next(filter(None, (native.look(Prompt(text), 0.5) for _ in range(4))), None)
        assert found is not None, text


def test_what_is_not_read_is_answered_by_the_graph(shipped: Bundle, head: FastHead, native: NativeHead):
    for text in ("[MASK] me", "\u017fhould", "\U00020000 is beyond", "\u09b6\u09cb", "\u302e"):
        prompt = Prompt(text)
        assert native.look(prompt, 0.5) is None
        said = head.predict_features(shipped.model.featurize(prompt), 0.5)
        assert answer_of(shipped, prompt) == said


def test_a_text_of_many_new_scripts_is_handed_over_until_they_are_learned(shipped: Bundle):
    assert shipped.fast_head is not None
    fresh = NativeHead(weights_of(read_file_of(shipped, GRAPH)), shipped.model.featurize)
    prompt = Prompt("".join(chr(0x4E00 + 256 * block) for block in range(20)))
    answers = [fresh.look(prompt, 0.5) for _ in range(6)]
    assert answers[0] is None
    assert answers[-1] is not None


def test_answers_are_read_for_the_second_look(shipped: Bundle, native: NativeHead):
    assert shipped.checker is not None
    for text in ("Canberra", "", "B", "日本", "x" * 9_000, "[SEP]"):
        buckets, counts = shipped.model.featurize.ngrams(text)
        found = native.ngrams(text)
        if found is None:
            assert text == "[SEP]"
            continue
        np.testing.assert_array_equal(found[0], buckets)
        np.testing.assert_array_equal(found[1], counts)


def test_no_number_is_no_answer(shipped: Bundle, head: FastHead, monkeypatch: pytest.MonkeyPatch):
    weights = weights_of(read_file_of(shipped, GRAPH))
    broken = NativeHead(weights | {"fast_start": np.array(np.nan, np.float32)}, shipped.model.featurize)
    monkeypatch.setattr(head, "native", broken)
    with pytest.raises(ModelFault, match="nan"):
        head.look(Prompt("hello"), 0.5, None, wants_features=False)


def test_the_lane_brings_what_is_watched_and_logged(shipped: Bundle, head: FastHead):
    prompt = Prompt("What is the capital of Australia?", tools=2)
    expected = shipped.model.featurize(prompt)
    for wants_features in (False, True):
        ask = Ask(shipped.model, prompt, 0.0, None, 0, wants_features=wants_features)
        predicted = asyncio.run(FastLane(is_open=True).answer(ask, head))
        assert predicted is not None
        assert predicted.measures is not None
        np.testing.assert_array_equal(predicted.measures, expected.structural)
        assert (predicted.features is not None) is wants_features
    assert predicted.features is not None
    for name in Features.__slots__:
        np.testing.assert_array_equal(getattr(predicted.features, name), getattr(expected, name))


def test_callers_see_no_difference(shipped: Bundle):
    texts = [text for text in islice(strange_texts(random.Random(3)), 60) if clean_text(text).strip()]
    requests = [pb.RouteRequest(text=clean_text(text), threshold=0.9).SerializeToString() for text in texts]

    async def replies(*, native_head: bool) -> list[pb.RouteResponse]:
        sources = Sources(bundles=(shipped.folder,), cache_items=0, native_head=native_head)
        async with server_in_loop(Lifecycle(sources)) as (_, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
            return [await call(raw, timeout=60) for raw in requests]

    one, other = (asyncio.run(replies(native_head=native_head)) for native_head in (True, False))
    assert {pb.STAGE_FAST, pb.STAGE_FULL} <= {reply.stage for reply in one}
    for reply, expected in zip(one, other, strict=True):
        assert abs(reply.p_match - expected.p_match) <= 1e-6
        for field in ("tier", "model", "reason", "stage", "action"):
            assert getattr(reply, field) == getattr(expected, field)


# What keeps it from serving.


def differing(name: str, change: Callable[[Any], Any]) -> Callable[[bytes], dict[str, Any]]:
    """Return what reads the weights of a graph, one of them wrong."""

    def read(graph: bytes) -> dict[str, Any]:
        weights = weights_of(graph)
        return weights | {name: change(weights[name])}

    return read


def wrong_bucket(lexical: Any) -> Any:
    """One class's weight of one word, `the`, is off."""
    changed = lexical.copy()
    changed[((1996 * 2654435769) & 0xFFFFFFFF) >> 14, 0] += 0.05
    return changed


WRONG = {
    "weight": ("fast_lexical", wrong_bucket, "p_match off by"),
    "slope": ("fast_slope", lambda slope: slope * np.float32(1.0001), "p_match off by"),
    "band": ("half_widths", lambda widths: widths * 1.5, "stage"),
    "rare": ("rare_share_limit", lambda limit: limit * 2, "out of distribution"),
    "shape": ("idf", lambda idf: idf[:-1], "can't hold this bundle"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_weight_leaves_the_answers_to_the_graph(
    shipped: Bundle, monkeypatch: pytest.MonkeyPatch, what: str, caplog: pytest.LogCaptureFixture
):
    name, change, says = WRONG[what]
    monkeypatch.setattr(opening, "weights_of", differing(name, change))
    with caplog.at_level(logging.WARNING, "turnout.lifecycle"):
        lifecycle = Lifecycle(Sources(bundles=(find_bundle(),)))
    head = lifecycle.lineup.served[0].bundle.fast_head
    assert head is not None
    assert head.native is None
    assert says in head.path
    (line,) = caplog.messages
    assert head.path in line
    assert native_metric(lifecycle) == 0.0
    prompt = Prompt("What is the capital of Australia?")
    said = head.predict_features(shipped.model.featurize(prompt), 0.5)
    assert answer_of(lifecycle.lineup.served[0].bundle, prompt) == said


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the extension had never been built."""
    monkeypatch.setitem(sys.modules, NAME, None)
    return iter(())


@pytest.mark.usefixtures("removed")
def test_without_the_extension_everything_works_and_says_so(shipped: Bundle, caplog: pytest.LogCaptureFixture):
    lifecycle = Lifecycle(Sources(bundles=(find_bundle(),)))
    bundle = lifecycle.lineup.served[0].bundle
    assert bundle.fast_head is not None
    assert bundle.fast_head.native is None
    assert "not installed" in bundle.fast_head.path
    assert "not installed" in caplog.text
    assert native_metric(lifecycle) == 0.0
    assert bundle.checker is not None
    for golden in shipped.golden:
        prompt = prompt_from_text(golden.prompt)
        one, other = answer_of(bundle, prompt), answer_of(shipped, prompt)
        assert (one is None) == (other is None)
        assert one is None or other is None or abs(one.p_match - other.p_match) <= 1e-6
    (finding,) = (one for one in check_models(None) if one.check == "first stage")
    assert finding.level is Level.WARN
    assert finding.found.startswith("Python: the extension is not installed")
    (finding,) = (one for one in check_models(None, native_head=False) if one.check == "first stage")
    assert finding.level is Level.OK


@pytest.mark.parametrize("is_wanted", [True, False])
def test_it_serves_unless_it_is_turned_off(shipped: Bundle, caplog: pytest.LogCaptureFixture, *, is_wanted: bool):
    lifecycle = Lifecycle(Sources(bundles=(shipped.folder,), native_head=is_wanted))
    head = lifecycle.lineup.served[0].bundle.fast_head
    assert head is not None
    assert (head.native is not None) is is_wanted
    assert native_metric(lifecycle) == float(is_wanted)
    assert not caplog.messages


def test_the_doctor_says_that_it_serves(shipped: Bundle):
    (finding,) = (one for one in check_models(shipped.folder) if one.check == "first stage")
    assert finding.level is Level.OK
    assert finding.found.startswith("native")


def test_a_tokenizer_that_cuts_otherwise_is_left_to_the_library(shipped: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipped.model.featurize.word_pieces, "knows_words", False)
    with pytest.raises(NotNative, match="as BERT does"):
        NativeHead(weights_of(read_file_of(shipped, GRAPH)), shipped.model.featurize)


def test_a_graph_of_another_make_is_left_alone(shipped: Bundle):
    graph = fast_graph(read_file_of(shipped, GRAPH))
    assert graph is not None
    head = FastHead(graph)
    open_native(head, b"\xff no graph", shipped.model.featurize, [])
    assert head.native is None
    assert "can't hold" in head.path


def native_metric(lifecycle: Lifecycle) -> float:
    (family,) = lifecycle.metrics._made["native_head"].collect()
    (sample,) = family.samples
    return float(sample.value)


# The extension itself, called wrongly.


def test_the_extension_refuses_what_does_not_fit(native: NativeHead):
    c_head = native._head
    facts = (-1, 1, 0, False, 0, 0.5, float("nan"), False)
    with pytest.raises(TypeError):
        c_head.look(b"bytes", *facts)
    with pytest.raises(TypeError):
        c_head.look("text")
    with pytest.raises(OverflowError):
        c_head.look("text", 1 << 70, *facts[1:])
    assert c_head.look("x" * (HEAD_CHARS + TAIL_CHARS + 2), *facts) is None
    assert c_head.look("text", -1, 0, *facts[2:]) is None
    with pytest.raises(TypeError):
        c_head.ngrams(None)
    for block, entries in ((0, b""), (512, bytes(1024)), (0, bytes(1025))):
        with pytest.raises(ValueError, match="block"):
            c_head.teach(block, entries)
    weights = (b"",) * 9
    with pytest.raises(ValueError, match="sizes"):
        type(c_head)({b"a": 0}, {}, 0, 100, (1, 2), (90, 30), weights, 0)
    for words in ({b"": 0}, {b"x" * 23: 0}, {b"a": 1 << 15}, {b"a": -1}):
        with pytest.raises(ValueError, match="token"):
            type(c_head)(words, {}, 0, 100, (1, 2), (90, 30), (), 0)
    with pytest.raises(ValueError, match="range"):
        type(c_head)({b"a": 0}, {}, 0, 101, (1, 2), (90, 30), (), 0)
