"""Rungs between in the C head: the same p as their graph gives, or the graph says it, and that is told."""

from __future__ import annotations

import asyncio
import logging
import random
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.ladders import ladder_of, with_rungs
from tests.native_builds import need_extension
from tests.running import server_in_loop
from tests.strange_texts import strange_texts
from turnout.serving.bundles.bundle import GRAPH, RUNGS, Bundle, load_bundle, read_file_of
from turnout.serving.bundles.registry import find_bundle, models_folder
from turnout.serving.cli.doctor.finding import Level
from turnout.serving.cli.doctor.models import check_models
from turnout.serving.decision.decision import threshold_policy
from turnout.serving.decision.judging import p_rungs_of
from turnout.serving.decision.rungs import sure_bar
from turnout.serving.errors import ModelFault
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.graph_parts import fast_graph, weights_of
from turnout.serving.router.model import FastHead
from turnout.serving.router.native import opening
from turnout.serving.router.native.native_head import NativeHead, NotNative
from turnout.serving.router.native.weights import MAX_RUNGS, read_rung_weights
from turnout.serving.router.prompt import Prompt, clean_text
from turnout.serving.router.rungs import RungHeads
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.settings import Sources
from turnout.serving.wire.route import ROUTE_METHOD


@pytest.fixture(scope="module")
def shipped() -> Path:
    """Return the ladder of three that ships."""
    need_extension()
    return find_bundle(models_folder() / "gpt-4o-mini_gpt-4o_o3")


@pytest.fixture(scope="module")
def ladder(shipped: Path) -> Bundle:
    return load_bundle(shipped, native=True)


@pytest.fixture(scope="module")
def graph(ladder: Bundle) -> bytes:
    return read_file_of(ladder, RUNGS)


def heads_of(ladder: Bundle, graph: bytes) -> tuple[NativeHead, RungHeads]:
    """Return the head in C, with the rungs of a graph, and that graph."""
    native = NativeHead(weights_of(read_file_of(ladder, GRAPH)), ladder.model.featurize)
    native.take_rungs(weights_of(graph))
    return native, RungHeads(graph)


@pytest.mark.parametrize("n_rungs", [1, 2, MAX_RUNGS])
def test_p_of_each_rung_is_that_of_the_graph(ladder: Bundle, graph: bytes, n_rungs: int):
    native, heads = heads_of(ladder, with_rungs(graph, n_rungs))
    n_read = 0
    for text in ("", "Hello", "the " * 70, "w " * 5_000, *islice(strange_texts(random.Random(5)), 300)):
        prompt = Prompt(clean_text(text), turns=2, tools=1)
        for wants_features in (True, False):
            found = native.look(prompt, 0.5, wants_features=wants_features)
            if found is None:
                continue
            n_read += 1
            expected = heads.p_rungs(ladder.model.featurize(prompt))
            assert found.p_rungs == pytest.approx(expected, rel=0, abs=1e-6)
            assert len(found.p_rungs) == n_rungs
    assert n_read > 400


def test_weights_below_the_normal_ones_of_sixteen_bits_count(ladder: Bundle, graph: bytes):
    def tiny(lexical: Any) -> Any:
        return np.where(np.arange(len(lexical))[:, None] % 2, np.float16(6e-8), np.float16(-5e-5))

    graph = with_rungs(graph, 1, lexical=tiny, slope=lambda slope: slope * np.float32(1e4))
    native, heads = heads_of(ladder, graph)
    without, _ = heads_of(ladder, with_rungs(graph, 1, lexical=np.zeros_like))
    prompt = Prompt("What is the capital of Australia?")
    found, none = native.look(prompt, 0.5), without.look(prompt, 0.5)
    assert found is not None
    assert none is not None
    assert found.p_rungs == pytest.approx(heads.p_rungs(ladder.model.featurize(prompt)), rel=0, abs=1e-6)
    assert abs(found.p_rungs[0] - none.p_rungs[0]) > 1e-3


def test_callers_see_no_difference(shipped: Path):
    texts = [text for text in islice(strange_texts(random.Random(3)), 60) if clean_text(text).strip()]
    texts += [f"Prove that {n} divides n to the {n} less n, step by step." for n in (3, 7)]
    requests = [
        pb.RouteRequest(text=clean_text(text), threshold=threshold, per_rung=True).SerializeToString()
        for text in texts
        for threshold in (0.9, 0.97)
    ]

    async def replies(*, native_head: bool) -> list[pb.RouteResponse]:
        sources = Sources(bundles=(shipped,), cache_items=0, native_head=native_head)
        async with server_in_loop(Lifecycle(sources)) as (_, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
            return [await call(raw, timeout=60) for raw in requests]

    one, other = (asyncio.run(replies(native_head=native_head)) for native_head in (True, False))
    assert {pb.STAGE_FAST, pb.STAGE_FULL} <= {reply.stage for reply in one}
    assert {"gpt-4o-mini", "gpt-4o", "o3"} <= {reply.rung for reply in one}
    for reply, expected in zip(one, other, strict=True):
        for field in ("tier", "model", "rung", "reason", "stage", "action"):
            assert getattr(reply, field) == getattr(expected, field)
        for said, meant in zip(reply.p_rungs, expected.p_rungs, strict=True):
            assert said.HasField("p") == meant.HasField("p")
            assert abs(said.p - meant.p) <= 1e-6


def test_in_service_no_word_is_read_again_for_the_rungs(ladder: Bundle, monkeypatch: pytest.MonkeyPatch):
    """Of what the first stage answers, and of what it leaves open, their graph is never asked."""
    assert ladder.fast_head is not None
    prompt = Prompt("Is 91 a prime? Show each step of it.")
    near = ladder.fast_head.first_stage(ladder.model.featurize(prompt), 0.5).p_match

    async def stages() -> list[int]:
        lifecycle = Lifecycle(Sources(bundles=(ladder.folder,), cache_items=0))
        async with server_in_loop(lifecycle) as (_, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
            monkeypatch.setattr(RungHeads, "p_rungs", None)
            requests = [pb.RouteRequest(text=prompt.text, threshold=at) for at in (0.01, near)]
            return [(await call(request.SerializeToString(), timeout=60)).stage for request in requests]

    assert asyncio.run(stages()) == [pb.STAGE_FAST, pb.STAGE_FULL]


def test_what_is_escalated_is_told_in_c_too(ladder: Bundle):
    assert ladder.rung_heads is not None
    for text in ("What is the capital of Australia?", "[MASK] me", "\U00020000"):
        said = p_rungs_of(ladder, ladder.rung_heads, Prompt(text))
        expected = ladder.rung_heads.p_rungs(ladder.model.featurize(Prompt(text)))
        assert said == pytest.approx(expected, rel=0, abs=1e-6)


def test_at_a_threshold_the_graph_decides(ladder: Bundle):
    assert ladder.rung_heads is not None
    prompt = Prompt("What is the capital of Australia?")
    (meant,) = ladder.rung_heads.p_rungs(ladder.model.featurize(prompt))
    for off, is_asked in ((9e-7, True), (-9e-7, True), (2e-6, False), (-2e-6, False)):
        policy = threshold_policy(meant)  # holds for every rung
        bar = sure_bar(ladder, policy, prompt, (meant + off,))
        assert bar.p_rungs == ((meant,) if is_asked else (meant + off,))
        (reached,) = (p >= threshold for p, threshold in zip(bar.p_rungs, bar.t_rungs, strict=True))
        assert reached is (is_asked or off > 0)


def test_no_number_is_no_answer(ladder: Bundle, graph: bytes, monkeypatch: pytest.MonkeyPatch):
    broken, _ = heads_of(ladder, with_rungs(graph, 2, start=lambda start: start * np.float32(np.nan)))
    assert ladder.fast_head is not None
    monkeypatch.setattr(ladder.fast_head, "native", broken)
    with pytest.raises(ModelFault, match="nan"):
        ladder.fast_head.look(Prompt("hello"), 0.5, None, wants_features=False)


# What keeps them from being said in C.


def one_wrong_weight(lexical: Any) -> Any:
    """The weight of one word, `the`, is off."""
    changed = lexical.copy()
    changed[((1996 * 2654435769) & 0xFFFFFFFF) >> 14, 0] += 0.05
    return changed


WRONG = {
    "weight": ({"lexical": one_wrong_weight}, "p of a rung off by"),
    "slope": ({"slope": lambda slope: slope * np.float32(1.001)}, "p of a rung off by"),
    "no number": ({"start": lambda start: start * np.float32(np.nan)}, "p of a rung off by inf"),
    "shape": ({"start": lambda start: start[None]}, "can't hold these rungs"),
    "infinite": ({"lexical": lambda lexical: lexical + np.float16(np.inf)}, "can't hold these rungs"),
    "level": ({"levels": lambda levels: levels * 0 + np.uint8(255), "idf": lambda idf: idf[:9]}, "can't hold these"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_weight_leaves_the_rungs_to_their_graph(
    shipped: Path, graph: bytes, monkeypatch: pytest.MonkeyPatch, what: str, caplog: pytest.LogCaptureFixture
):
    changes, says = WRONG[what]
    read = opening.weights_of
    wrong = read(with_rungs(graph, 1, **changes))
    monkeypatch.setattr(opening, "weights_of", lambda raw: wrong if raw == graph else read(raw))
    with caplog.at_level(logging.WARNING, "turnout.lifecycle"):
        lifecycle = Lifecycle(Sources(bundles=(shipped,)))
    bundle = lifecycle.lineup.served[0].bundle
    assert bundle.rung_heads is not None
    assert bundle.fast_head is not None
    assert says in bundle.rung_heads.path
    assert bundle.fast_head.path == "native"  # the rest is answered in C all the same
    (line,) = caplog.messages
    assert bundle.rung_heads.path in line
    assert native_metric(lifecycle) == 0.0
    looked = bundle.fast_head.look(Prompt("hello"), 0.5, None, wants_features=False)
    assert looked is not None
    assert looked.p_rungs == ()
    (finding,) = (one for one in check_models(shipped) if one.check == "rungs")
    assert finding.level is Level.WARN
    assert says in finding.found


def test_more_rungs_than_it_holds_are_said_by_the_graph(shipped: Path, tmp_path: Path):
    bundle = load_bundle(ladder_of(shipped, tmp_path / "long", MAX_RUNGS + 1), native=True)
    assert bundle.rung_heads is not None
    assert not bundle.is_native
    assert "9 rungs between, at most 8" in bundle.rung_heads.path


def test_without_a_first_stage_in_c_the_rungs_say_why_too(ladder: Bundle, graph: bytes):
    assert ladder.fast_head is not None
    heads, head = RungHeads(graph), FastHead(opening_graph(ladder))
    opening.open_native(head, b"\xff no graph", ladder.model.featurize, [], heads, graph)
    assert head.native is None
    assert heads.path == head.path


def opening_graph(ladder: Bundle) -> bytes:
    """Return the first stage of a bundle as a graph."""
    found = fast_graph(read_file_of(ladder, GRAPH))
    assert found is not None
    return found


@pytest.mark.parametrize("is_wanted", [True, False])
def test_the_doctor_says_by_which_path(shipped: Path, caplog: pytest.LogCaptureFixture, *, is_wanted: bool):
    (finding,) = (one for one in check_models(shipped, native_head=is_wanted) if one.check == "rungs")
    assert finding.level is Level.OK
    assert finding.found.startswith("native" if is_wanted else "Python: --no-native-head")
    lifecycle = Lifecycle(Sources(bundles=(shipped,), native_head=is_wanted))
    assert native_metric(lifecycle) == float(is_wanted)
    assert not caplog.messages


def test_a_pair_has_no_such_line():
    assert not [one for one in check_models(None) if one.check == "rungs"]


def native_metric(lifecycle: Lifecycle) -> float:
    (family,) = lifecycle.metrics._made["native_head"].collect()
    (sample,) = family.samples
    return float(sample.value)


# The extension itself, called wrongly.


def test_the_extension_refuses_rungs_that_do_not_fit(ladder: Bundle, graph: bytes):
    native, _ = heads_of(ladder, graph)
    good = read_rung_weights(weights_of(graph))
    for wrong in ([], None, b"bytes"):
        with pytest.raises((TypeError, SystemError)):
            native._head.take_rungs(wrong)
    with pytest.raises(TypeError):
        native._head.take_rungs((1, 2, 3, 4))
    with pytest.raises(ValueError, match="expected 4"):
        native._head.take_rungs(good[:3])
    for place in range(4):
        for bad in (b"", good[place][:-2], good[place] + b"\0\0\0\0"):
            changed = (*good[:place], bad, *good[place + 1 :])
            if place == 1 and bad.startswith(good[1]):
                continue  # one level more than any bucket names
            with pytest.raises(ValueError, match="belong together"):
                native._head.take_rungs(changed)
    found = native.look(Prompt("hello"), 0.5)
    assert found is not None
    assert len(found.p_rungs) == 1  # what it held before, it holds
    native.drop_rungs()
    found = native.look(Prompt("hello"), 0.5)
    assert found is not None
    assert found.p_rungs == ()
    with pytest.raises(NotNative, match="KeyError"):
        native.take_rungs({})
