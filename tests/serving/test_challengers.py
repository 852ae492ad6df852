"""The canary answers its share and is taken back when it does worse; the shadow looks on and changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import msgspec
import pytest

from tests.builders import tiny_bundle, tiny_manifest, write_manifest
from tests.gates import BLOCKER, GatedModel, until
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.client import AsyncRouter
from turnout.serving.decision.routes import Action
from turnout.serving.errors import BundleRefused
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.service.canary import MAX_FAULTS, WINDOW, CanaryWatch
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.shadow import MAX_WAITING, Shadow, Sighting
from turnout.serving.settings import Sources

MILLISECOND_NS = 1_000_000


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "champion", version="1")


@pytest.fixture
def challenger(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "challenger", version="2", bias=-2.0)


def test_canary_answers_its_share_and_sessions_stay_with_it(champion: Path, challenger: Path):
    async def check() -> None:
        lifecycle = Lifecycle(Sources(bundles=(champion,), canary=challenger, canary_share=0.25))
        async with server_in_loop(lifecycle) as (_, address), AsyncRouter(address, timeout_s=60) as router:
            first = [(await router.route(text="hello", request_id=str(n))).bundle for n in range(400)]
            again = [(await router.route(text="the word", request_id=str(n))).bundle for n in range(400)]
            assert first == again
            assert 0.18 < first.count("tiny/2") / 400 < 0.32
            assert (await router.route(text="hello", bundle="tiny/1", request_id="3")).bundle == "tiny/1"

    asyncio.run(check())


def test_failing_canary_harms_no_caller_and_is_taken_back(champion: Path, tmp_path: Path):
    broken = tiny_bundle(tmp_path / "broken", version="2", nan_on_digits=True)

    async def check() -> None:
        lifecycle = Lifecycle(Sources(bundles=(champion,), canary=broken, canary_share=1.0))
        async with server_in_loop(lifecycle) as (_, address), AsyncRouter(address, timeout_s=60) as router:
            assert (await router.route(text="no digit")).bundle == "tiny/2"
            routed = [await router.route(text=f"with digit {n}") for n in range(MAX_FAULTS + 2)]
            assert [one.fallback_reason for one in routed] == [None] * len(routed)
            assert {one.bundle for one in routed} == {"tiny/1"}
            assert lifecycle.lineup.canary is None
            assert (await router.route(text="no digit")).bundle == "tiny/1"
            await lifecycle.reload()
            assert lifecycle.lineup.canary is None  # the same bundle does not come back by itself

    asyncio.run(check())


def test_next_canary_gets_its_chance(champion: Path, tmp_path: Path):
    entry = tmp_path / "entry"
    tiny_bundle(entry / "2", version="2", nan_on_digits=True)
    tiny_bundle(entry / "3", version="3")
    (entry / "CURRENT").write_text("2")
    lifecycle = Lifecycle(Sources(bundles=(champion,), canary=entry))
    lifecycle.take_canary_back("a reason")
    assert lifecycle.lineup.canary is None
    (entry / "CURRENT").write_text("3")
    asyncio.run(lifecycle.reload())
    assert lifecycle.lineup.canary is not None


def test_slow_canary_is_found_and_an_equal_one_is_not():
    equal, slow = CanaryWatch(), CanaryWatch()
    for n in range(3 * WINDOW):
        by_canary = n % 2 == 0
        equal.answered(MILLISECOND_NS + n, by_canary=by_canary)
        slow.answered((5 if by_canary else 1) * MILLISECOND_NS, by_canary=by_canary)
    assert equal.verdict is None
    assert slow.verdict is not None
    assert "5.0 times" in slow.verdict


def test_few_requests_say_nothing_of_times():
    watch = CanaryWatch()
    for n in range(2 * WINDOW - 2):
        watch.answered((9 if n % 2 else 1) * MILLISECOND_NS, by_canary=n % 2 == 1)
    assert watch.verdict is None


def test_faults_that_are_far_apart_do_not_end_a_canary():
    watch = CanaryWatch()
    for _ in range(5):
        watch.fault()
        for _ in range(199):
            watch.answered(MILLISECOND_NS, by_canary=True)
    assert watch.verdict is None


def test_shadow_counts_disagreement_and_changes_no_answer(champion: Path, challenger: Path):
    texts = [" ".join(["word"] * n) for n in range(1, 41)]
    policy = "max_worse=0.05"

    async def answers(expected: int, **sources: Path) -> list:
        lifecycle = Lifecycle(Sources(bundles=(champion,), cache_items=0, **sources))
        async with server_in_loop(lifecycle) as (server, address), AsyncRouter(address, timeout_s=60) as router:
            replies = [await router.route(text=text, policy=policy) for text in texts]
            shadow = server.service.answering.challengers.shadow
            await until(lambda: shadow.compared == (len(texts) if sources else 0))
            assert shadow.disagreed == expected
            return [(one.model, one.p_match, one.bundle) for one in replies]

    old, new = load_bundle(champion), load_bundle(challenger)
    threshold = old.manifest.policy(policy).threshold
    routes = [
        [bundle.model.predict(prompt_from_text(text), threshold).p_match >= threshold for text in texts]
        for bundle in (old, new)
    ]
    differ = sum(a != b for a, b in zip(*routes, strict=True))
    assert differ > 0
    assert asyncio.run(answers(0)) == asyncio.run(answers(differ, shadow=challenger))


def test_shadow_that_cannot_keep_up_drops_and_counts(bundle: Bundle):
    gated = GatedModel(bundle.model)
    held = dataclasses.replace(bundle, model=gated)
    shadow = Shadow()

    def sighting(text: str) -> Sighting:
        return Sighting(held, prompt_from_text(text), "", 0.5, 0.9, action=Action.WEAK)

    shadow.show(sighting(BLOCKER))
    gated.at_gate.wait(60)
    assert all(shadow.show(sighting("hello")) for _ in range(MAX_WAITING))
    assert [shadow.show(sighting("hello")) for _ in range(3)] == [False] * 3
    assert shadow.dropped == 3
    gated.gate.set()
    shadow.close()
    shadow._thread.join(60)
    assert not shadow._thread.is_alive()


def test_fault_of_the_shadow_is_counted_and_does_not_end_it(tmp_path: Path):
    broken = load_bundle(tiny_bundle(tmp_path / "broken", nan_on_digits=True))
    shadow = Shadow()
    for text in ("digit 7", "none"):
        shadow.show(Sighting(broken, prompt_from_text(text), "", 0.5, 0.9, action=Action.WEAK))
    shadow._waiting.put(None)
    shadow._thread.join(60)
    assert (shadow.failed, shadow.compared) == (1, 1)


@pytest.mark.parametrize("role", ["canary", "shadow"])
@pytest.mark.parametrize("what", ["pair", "synthetic"])
def test_a_challenger_of_another_kind_is_refused_unless_that_is_meant(tmp_path: Path, role: str, what: str):
    default, other = tiny_bundle(tmp_path / "default"), tiny_bundle(tmp_path / "other")
    changed = {"pair": Pair(strong="other-strong", weak="other-weak")} if what == "pair" else {}
    write_manifest(default, msgspec.structs.replace(tiny_manifest(default), synthetic=False))
    write_manifest(other, msgspec.structs.replace(tiny_manifest(other), synthetic=what == "synthetic", **changed))
    option = {"pair": "allow_other_pair", "synthetic": "allow_synthetic"}[what]
    with pytest.raises(BundleRefused, match=f"--{option.replace('_', '-')}"):
        Lifecycle(Sources(bundles=(default,), **{role: other}))
    Lifecycle(Sources(bundles=(default,), **{role: other}, **{option: True}))
