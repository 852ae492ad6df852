"""A rules file decides on calls over a real socket, is taken over while it answers, and is told in the reply."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.running import lifecycle_of, route, server_in_loop, server_process
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.decision.prices import cost_usd
from turnout.serving.errors import RulesRefused
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import ServerSettings
from turnout.serving.wire.route import ROUTE_METHOD

RULES = """
salt = "test"
[[rules]]
name = "legal stays strong"
tasks = ["legal*"]
route = "strong"
[[rules]]
name = "chat is cheap"
tasks = ["chat"]
route = "weak"
[[rules]]
name = "a fifth of support"
tenants = ["support"]
rollout_percent = 20
threshold = 0.01
[[rules]]
name = "explored"
tenants = ["lab"]
exploration = 0.25
threshold = 0.01
[session]
stay_strong = true
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


@asynccontextmanager
async def routing(bundle: Bundle, rules: Path, **settings: Any) -> AsyncIterator[Any]:
    async with (
        server_in_loop(bundle, rules=rules, **settings) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = channel.unary_unary(
            ROUTE_METHOD,
            request_serializer=pb.RouteRequest.SerializeToString,
            response_deserializer=pb.RouteResponse.FromString,
        )

        async def ask(**fields: Any) -> Any:
            return await stub(pb.RouteRequest(**{"text": "hello the word"} | fields), timeout=60)

        yield ask


def test_forced_routes_are_told_with_their_rule_and_without_a_probability(bundle: Bundle, rules: Path):
    async def check() -> None:
        async with routing(bundle, rules) as ask:
            legal, chat, other = await ask(task="legal-eu"), await ask(task="chat"), await ask(task="other")
            assert [(one.tier, one.reason, one.rule) for one in (legal, chat)] == [
                (pb.TIER_STRONG, pb.REASON_RULE, "legal stays strong"),
                (pb.TIER_WEAK, pb.REASON_RULE, "chat is cheap"),
            ]
            assert (chat.model, chat.HasField("p_match"), chat.route_propensity) == ("gpt-4o-mini", False, 1.0)
            assert (other.reason, other.rule) == (pb.REASON_MODEL, "")

    asyncio.run(check())


def test_rollout_lets_the_model_decide_on_its_share_and_the_same_sessions_again(bundle: Bundle, rules: Path):
    async def check() -> None:
        async with routing(bundle, rules) as ask:
            twice = [[(await ask(tenant="support", session_id=str(n))).reason for n in range(200)] for _ in range(2)]
            assert twice[0] == twice[1]
            reasons = Counter(twice[0])
            assert reasons.keys() == {pb.REASON_MODEL, pb.REASON_ROLLOUT}
            assert 20 < reasons[pb.REASON_MODEL] < 65

    asyncio.run(check())


def test_exploration_moves_its_share_and_states_the_propensity(bundle: Bundle, rules: Path):
    async def check() -> None:
        async with routing(bundle, rules) as ask:
            replies = [await ask(tenant="lab", request_id=str(n)) for n in range(300)]
            explored = [one for one in replies if one.reason == pb.REASON_EXPLORATION]
            assert 45 < len(explored) < 110
            assert {(one.tier, one.route_propensity) for one in explored} == {(pb.TIER_STRONG, 0.25)}
            assert {one.route_propensity for one in replies if one.reason == pb.REASON_MODEL} == {0.75}
            assert all(one.confidence == pytest.approx(1 - one.p_match) for one in explored)

    asyncio.run(check())


def test_session_that_was_strong_stays_and_costs_count_its_cache(bundle: Bundle, rules: Path):
    text = "word " * 400

    async def check() -> None:
        async with routing(bundle, rules) as ask:
            cold = await ask(text=text, threshold=0.0)
            warm = await ask(
                text=text, threshold=0.0, previous_tier=pb.TIER_STRONG, cached_tokens=500, expected_output_tokens=100
            )
            assert (cold.tier, cold.reason) == (pb.TIER_WEAK, pb.REASON_MODEL)
            assert (warm.tier, warm.reason, warm.model) == (pb.TIER_STRONG, pb.REASON_SESSION, "gpt-4o")
            assert cold.strong_cost_usd == pytest.approx(cost_usd("gpt-4o", 500, 200))
            assert warm.strong_cost_usd == pytest.approx(cost_usd("gpt-4o", 500, 100, 500))
            assert warm.weak_cost_usd == pytest.approx(cost_usd("gpt-4o-mini", 500, 100))

    asyncio.run(check())


def test_callers_own_threshold_goes_before_that_of_a_rule(bundle: Bundle, rules: Path):
    async def check() -> None:
        async with routing(bundle, rules) as ask:
            assert (await ask(tenant="lab", threshold=0.5)).threshold == 0.5
            assert (await ask(tenant="lab")).threshold == 0.01

    asyncio.run(check())


def test_client_sends_what_rules_go_by_and_reads_what_they_did(bundle: Bundle, rules: Path):
    async def check() -> None:
        async with (
            server_in_loop(bundle, rules=rules) as (_, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            legal = await router.route(text="hello", task="legal")
            assert (legal.model, legal.rule, legal.reason, legal.p_match) == (
                "gpt-4o",
                "legal stays strong",
                "RULE",
                None,
            )
            stayed = await router.route(text="hello", threshold=0.0, previous_tier="strong", cached_tokens=5)
            assert (stayed.tier, stayed.reason, stayed.route_propensity) == ("strong", "SESSION", 1.0)
            explained = await router.route(text="Hello there. The word.", explain=True, expected_output_tokens=1000)
            assert [(part.start, part.end) for part in explained.parts] == [(0, 13), (13, 22)]
            assert explained.weak_cost_usd == pytest.approx(cost_usd("gpt-4o-mini", 6, 1000))

    asyncio.run(check())


def test_negative_counts_are_refused(bundle: Bundle, rules: Path):
    async def check() -> None:
        async with routing(bundle, rules) as ask:
            for field in ("cached_tokens", "expected_output_tokens"):
                with pytest.raises(grpc.aio.AioRpcError, match="expected 0 or more"):
                    await ask(**{field: -1})

    asyncio.run(check())


def test_hangup_takes_changed_rules_over_and_no_bad_ones(bundle_folder: Path, rules: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "log", "--rules", rules) as server:
        assert route(server.address, text="hello", task="chat").rule == "chat is cheap"
        rules.write_text("salt = 7")
        server.process.send_signal(signal.SIGHUP)
        _wait_for("rules refused", server.log)
        assert route(server.address, text="hello", task="chat").rule == "chat is cheap"
        rules.write_text("")
        server.process.send_signal(signal.SIGHUP)
        _wait_for("rules taken over", server.log)
        assert route(server.address, text="hello", task="chat").reason == pb.REASON_MODEL


def test_rules_that_name_what_is_not_served_end_the_start(bundle: Bundle, tmp_path: Path):
    file = tmp_path / "rules.toml"
    file.write_text('policy = "max_worse=0.9"')
    with pytest.raises(RulesRefused, match=r"max_worse=0\.9"):
        RouterServer(lifecycle_of(bundle), ServerSettings(rules=file))


def _wait_for(text: str, log: Path) -> None:
    until_s = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(0.02)
