"""Live check of promises over three actions: what counts is what the caller got, and tightening moves `t_accept`."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import BUNDLE_ID, tiny_bundle
from tests.checkers import T_ACCEPT, T_STRONG, checked_policy, with_second_look
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.policy import NEVER, Policy
from turnout.serving.client import AnswerItem, AsyncRouter
from turnout.serving.decision.tightening import LADDER, checked_ladder, checked_measured, tightened, tightened_check
from turnout.serving.observe.drift.pairs import Pledge
from turnout.serving.observe.drift.promises import OVER_THREE

POLICY = "max_worse=0.05"
LOGPROB_LIKELY, LOGPROB_UNLIKELY = [-0.001] * 3, [-2.0] * 3
"""The second look says 0.95 of an answer with the first, and 0 with the second."""
NEAR_THE_END_OF_A_MONTH = 20_600.5 * 86_400  # 2026-05-27, noon: how strict a step has to be depends on the days left


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that solved its promise at 0.05 and two stricter ones, over three actions each."""
    plain = load_bundle(tiny_bundle(tmp_path_factory.mktemp("promises") / "tiny", plus_is_unfamiliar=True))
    checked = with_second_look(plain)

    def solved(target: float, **changes: Any) -> Policy:
        name = f"max_worse={target:g}"
        own = msgspec.structs.replace(checked.manifest.policies[0], name=name, kind="max_worse", target=target)
        return msgspec.structs.replace(own, is_met=True, checked=checked_policy(share_worse=target, **changes))

    policies = [solved(0.05), solved(0.02, t_accept=0.8), solved(0.01, t_accept=0.99)]
    manifest = msgspec.structs.replace(checked.manifest, policies=policies, default_policy=POLICY)
    return dataclasses.replace(checked, manifest=manifest)


def test_ladder_takes_what_the_bundle_solved_for_stricter_promises(bundle: Bundle):
    policy = bundle.manifest.policy(POLICY)
    assert LADDER[3] * 0.05 == pytest.approx(0.02)
    assert checked_ladder(bundle.manifest.policies, policy) == (T_ACCEPT, 0.8, 0.8, 0.8, 0.99, NEVER, NEVER)
    assert checked_measured(bundle.manifest.policies, policy) == (0.05, 0.02, 0.02, 0.02, 0.01, 0.0, 0.0)
    strictest = bundle.manifest.policy("max_worse=0.01")
    assert checked_ladder(bundle.manifest.policies, strictest) == (0.99, *[NEVER] * 6)


def test_ladder_is_empty_where_nothing_is_promised(bundle: Bundle):
    policy = bundle.manifest.policy(POLICY)
    not_met = msgspec.structs.replace(policy, checked=checked_policy(is_met=False))
    others = [not_met, msgspec.structs.replace(policy, checked=None), msgspec.structs.replace(policy, kind="threshold")]
    assert [checked_ladder(bundle.manifest.policies, one) for one in others] == [(), (), ()]


def test_either_ladder_leaves_the_thresholds_of_the_other(bundle: Bundle):
    policy = bundle.manifest.policy(POLICY)
    assert tightened(policy, 0.9).checked == policy.checked
    stricter = tightened_check(policy, 0.8)
    assert (stricter.threshold, stricter.checked.t_strong) == (policy.threshold, T_STRONG)
    assert (stricter.checked.t_weak, stricter.checked.t_accept) == (NEVER, 0.8)


@pytest.mark.parametrize(("p_match", "is_accepted", "depth"), [(0.9, True, 4), (0.75, True, 1), (0.1, False, 0)])
def test_check_tells_which_steps_would_have_accepted(p_match: float, is_accepted: bool, depth: int):
    steps = (0.7, 0.8, 0.8, 0.85, 0.99, NEVER, NEVER)
    tried = Pledge(BUNDLE_ID, POLICY, "", 0, is_weak=True, propensity=0.1, least=0.1, waits_for=steps)
    checked = tried.checked(p_match, is_accepted=is_accepted)
    assert (checked.depth, checked.is_weak, checked.waits_for) == (depth, is_accepted, ())
    assert tried.checked(None, is_accepted=False).depth == 0


def lived(bundle: Bundle, folder: Path, ask: Any) -> Any:
    rules = folder / "rules.toml"
    rules.write_text("[exploration]\nboth = 1.0\n")

    async def run() -> Any:
        settings = {"spool": folder / "spool", "rules": rules, "tighten": True}
        async with (
            server_in_loop(bundle, **settings) as (server, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            server.service.promises._clock = lambda: NEAR_THE_END_OF_A_MONTH
            server.service.drift.sample([bundle])
            return await ask(server.service, router)

    return asyncio.run(run())


async def tried(router: AsyncRouter, number: str, tokens: list[float] | None, preference: str = "strong") -> Any:
    """Route, check the answer where there is one, and report which model's answer was better."""
    request = {"text": "hello", "can_check": True, "request_id": number, "task": "code"}
    routed = await router.route(**request)
    judged = None
    if tokens is not None:
        judged = await router.check(AnswerItem(text="Paris.", token_logprobs=tokens), routed, **request)
    await router.report_outcome(number, timeout_s=60, preference=preference)
    return routed, judged


def settled(service: Any, bundle: Bundle) -> dict[str, float | None]:
    service.promises.settle(service.promises.exchange(), 1.0, [bundle.manifest])
    labels = {"bundle": BUNDLE_ID, "policy": POLICY + OVER_THREE}
    value = service.metrics.registry.get_sample_value
    every = labels | {"task": "*"}
    return {
        "pairs": value("turnout_promise_pairs", every),
        "lower": value("turnout_promise_worse_lower_ratio", every),
        "upper": value("turnout_promise_worse_upper_ratio", every),
        "step": value("turnout_promise_step", labels),
    }


def test_accepted_tries_count_escalated_ones_do_not_and_unchecked_ones_tell_nothing(bundle: Bundle, tmp_path: Path):
    async def ask(service: Any, router: AsyncRouter) -> tuple[Any, Any, Any]:
        for number in range(40):
            await tried(router, f"escalated {number}", LOGPROB_UNLIKELY)
            await tried(router, f"unchecked {number}", None)
        escalated = settled(service, bundle)
        for number in range(40):
            await tried(router, f"accepted {number}", LOGPROB_LIKELY)
        accepted = settled(service, bundle)
        one_look = await router.route(text="hello", request_id="one look")
        return escalated, accepted, one_look

    escalated, accepted, one_look = lived(bundle, tmp_path, ask)
    assert escalated["pairs"] == 40
    assert escalated["upper"] < 0.2
    assert escalated["step"] == 0
    assert accepted["pairs"] == 80
    assert accepted["lower"] > 0.3
    assert one_look.threshold == bundle.manifest.policy(POLICY).threshold  # its promise is another


def test_tightening_moves_what_an_answer_has_to_reach(bundle: Bundle, tmp_path: Path):
    async def ask(service: Any, router: AsyncRouter) -> tuple[Any, ...]:
        before = await tried(router, "before", LOGPROB_LIKELY, "weak")
        for number in range(100):
            await tried(router, f"{number}", LOGPROB_LIKELY)
        told = settled(service, bundle)
        after = await tried(router, "after", None)
        return before, told, after

    (routed, judged), told, (later, _) = lived(bundle, tmp_path, ask)
    assert (routed.action, judged.verdict, judged.threshold) == ("try", "accept", T_ACCEPT)
    assert told["step"] > 0
    assert later.action == "strong"  # a hundred accepted answers, all of them worse: none may be accepted any more


def test_a_step_between_escalates_what_it_does_not_accept(bundle: Bundle, tmp_path: Path):
    async def ask(service: Any, router: AsyncRouter) -> Any:
        for number in range(100):
            await tried(router, f"{number}", LOGPROB_UNLIKELY, "weak")
        service.promises._steps[BUNDLE_ID, POLICY + OVER_THREE] = 4
        return await tried(router, "asked", LOGPROB_LIKELY)

    routed, judged = lived(bundle, tmp_path, ask)
    assert routed.action == "try"
    assert 0.8 < judged.p_match < 0.99 == judged.threshold
    assert judged.verdict == "escalate"
