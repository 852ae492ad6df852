"""`replay-policy` and `savings` on a log as servers and callers leave it: draws of real rules, a spool, Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from tests.contract.conftest import Turnout
from tests.training.spools import compacted, decision, outcome, sealed
from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules import Facts, Rules
from turnout.serving.decision.rules.reading import decode_rules
from turnout.serving.router.prompt import Prompt

LOGGED_AT, POLICY, THRESHOLD = 0.75, "max_worse=0.05", 0.5
"""Thresholds of the tiny bundle's policies."""

N_SESSIONS = 1500
MODELS = {Route.WEAK: "gpt-4o-mini", Route.STRONG: "gpt-4o"}
COSTS = ExpectedCosts(cost := 0.000195, 50 / 3 * cost)
"""Of 500 and 200 tokens."""


def records(bundle: str = "tiny/1", text: str | None = None) -> tuple[list[Any], dict[str, float]]:
    """Return decisions and outcomes, and the true mean scores of the policy and of all-strong on these requests."""
    rules = Rules(decode_rules(b"[exploration]\nrate = 0.1\nboth = 0.05", "test"))
    rng = np.random.default_rng(8)
    made: list[Any] = []
    truth: dict[str, list[float]] = {"policy": [], "strong": [], "weak": []}
    for session in range(N_SESSIONS):
        mood = rng.normal()
        for turn in range(1 + rng.poisson(0.5)):
            ease = 0.5 * mood + rng.normal()
            p_match, chance = float(expit(1 + ease)), expit(np.array([0.3 + ease, 1.2 + 0.5 * ease]))
            request_id, facts = f"{session}-{turn}", Facts(Prompt("x"), session_id=f"s{session}")
            chosen = Route.WEAK if p_match >= LOGGED_AT else Route.STRONG
            after = rules.after(facts, rules.before(facts), chosen, p_match, COSTS)
            made.append(
                decision(
                    request_id,
                    session_id=f"s{session}",
                    route=after.route,
                    model=MODELS[after.route],
                    other_model=MODELS[after.route.other],
                    reason=after.reason,
                    p_match=p_match,
                    bundle=bundle,
                    text=text,
                    kept="digest" if text is None else "full",
                    route_propensity=after.route_propensity,
                    wants_both=after.wants_both,
                    pair_propensity=after.pair_propensity,
                    exploration=after.exploration,
                    weak_cost_usd=COSTS.weak_usd,
                    strong_cost_usd=COSTS.strong_usd,
                )
            )
            for route in Route if after.wants_both else (after.route,):
                right = float(rng.random() < chance[0 if route is Route.WEAK else 1])
                tokens = {"prompt_tokens": 500, "completion_tokens": 200}
                made.append(outcome(request_id, tier=route, score=right, **tokens))
            truth["policy"].append(chance[0 if p_match >= THRESHOLD else 1])
            truth["strong"].append(chance[1])
            truth["weak"].append(float(p_match >= THRESHOLD))
    return made, {name: float(np.mean(values)) for name, values in truth.items()}


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, float]]:
    """Return a spool, the same log compacted, and the truth."""
    folder = tmp_path_factory.mktemp("offpolicy")
    made, truth = records()
    sealed(folder / "again", made)
    compacted(folder / "again", folder / "logs")
    sealed(folder / "spool", made)
    return folder / "spool", folder / "logs", truth


def replayed(turnout: Turnout, *arguments: object) -> Any:
    ended = turnout("replay-policy", *arguments, "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_replay_of_another_policy_finds_what_it_would_have_cost_and_lost(
    turnout: Turnout, spooled: tuple[Path, Path, dict[str, float]], bundle_folder: Path
):
    _, logs, truth = spooled
    found = replayed(turnout, logs, "--bundle", bundle_folder, "--policy", POLICY, "--policy", "threshold=0.9")
    assert [one["policy"] for one in found["policies"]] == ["as logged", "all strong", POLICY, "threshold=0.9"]
    one = found["policies"][2]
    assert (one["threshold"], one["share_weak"]) == (THRESHOLD, pytest.approx(truth["weak"]))
    for name in ("ips", "snips", "dr"):
        assert one["score"][name]["low"] < truth["policy"] < one["score"][name]["high"]
    lost = one["score_lost"]
    assert lost["low"] < truth["strong"] - truth["policy"] < lost["high"]
    usd = 1000 * (truth["weak"] * COSTS.weak_usd + (1 - truth["weak"]) * COSTS.strong_usd)
    assert one["usd_per_1k"]["dr"]["value"] == pytest.approx(usd)
    assert (found["sessions"], found["without_overlap"], found["unscored"]) == (N_SESSIONS, 0, 0)


def test_spool_and_parquet_say_the_same(
    turnout: Turnout, spooled: tuple[Path, Path, dict[str, float]], bundle_folder: Path
):
    spool, logs, _ = spooled
    found = [replayed(turnout, log, "--bundle", bundle_folder) for log in (spool, logs)]
    assert found[0] == found[1]


def test_replay_is_told_as_a_table_with_what_it_does_not_know(turnout: Turnout, tmp_path: Path, bundle_folder: Path):
    plain = [decision(str(n), p_match=0.6 + 0.3 * (n % 2), route="weak" if n % 2 else "strong") for n in range(40)]
    sealed(tmp_path / "spool", [*plain, *(outcome(str(n)) for n in range(40))])
    ended = turnout("replay-policy", tmp_path / "spool", "--bundle", bundle_folder, "--policy", POLICY, "--quiet")
    assert ended.code == 0
    assert "40 requests in 40 sessions" in ended.out
    assert "without overlap: 40 of 40" in ended.out
    assert f"{POLICY}: nothing is known of 20 requests" in ended.out


def test_requests_of_another_bundle_are_scored_anew_where_their_prompt_was_kept(
    turnout: Turnout, tmp_path: Path, bundle_folder: Path
):
    own = [decision(str(n), bundle="other/7", text="hello the word", p_match=0.1) for n in range(5)]
    lost = [decision(f"d{n}", bundle="other/7", text=None, kept="digest") for n in range(3)]
    sealed(tmp_path / "spool", [*own, *lost, *(outcome(str(n)) for n in range(5))])
    found = replayed(turnout, tmp_path / "spool", "--bundle", bundle_folder)
    assert (found["rescored"], found["unscored"], found["rows"]) == (5, 3, 5)
    assert found["policies"][2]["share_weak"] == 1.0  # the tiny bundle says 0.9 of a short prompt
    unlike = {"reason": "OUT_OF_DISTRIBUTION", "route": "strong", "model": "gpt-4o", "p_match": 0.99}
    mine, theirs = decision("m", **unlike), decision("t", bundle="other/7", text="hello", **unlike)
    sealed(tmp_path / "unlike", [mine, theirs])
    found = replayed(turnout, tmp_path / "unlike", "--bundle", bundle_folder)
    assert found["policies"][2]["share_weak"] == 0.5  # out of distribution is what the bundle itself finds so
    sealed(tmp_path / "none", lost)
    refused = turnout("replay-policy", tmp_path / "none", "--bundle", bundle_folder, "--quiet")
    assert refused.code == 1
    assert "no decision of the log is by tiny/1" in refused.err


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("max_worse=7", "unknown policy; bundle tiny/1 has:"),
        ("threshold=x", "expected a number in [0, 1]"),
        ("threshold=2", "threshold: expected a number in [0, 1]"),
    ],
)
def test_unknown_policies_are_refused(
    turnout: Turnout,
    spooled: tuple[Path, Path, dict[str, float]],
    bundle_folder: Path,
    policy: str,
    says: str,
):
    ended = turnout("replay-policy", spooled[0], "--bundle", bundle_folder, "--policy", policy, "--quiet")
    assert (ended.code, says in ended.err) == (2, True), ended.err


def test_what_is_no_decision_log_is_refused(turnout: Turnout, tmp_path: Path, log: Path):
    for path, says in ((tmp_path, "no decision log; expected the folder"), (log, "not a readable Parquet file")):
        for command in ("replay-policy", "savings"):
            ended = turnout(command, path, "--quiet")
            assert (ended.code, says in ended.err) == (1, True), ended.err


def test_one_request_without_a_price_leaves_no_cost_and_is_named(turnout: Turnout, bundle_folder: Path, tmp_path: Path):
    priced = {"weak_cost_usd": 1e-4, "strong_cost_usd": 1e-3}
    sealed(tmp_path, [decision("a", **priced), decision("b", **priced), decision("c"), outcome("a")])
    ended = turnout("replay-policy", tmp_path, "--bundle", bundle_folder, "--quiet")
    assert (ended.code, "no costs: 1 of 3 requests" in ended.out) == (0, True), ended.err


def test_savings_are_net_of_second_answers_and_of_the_router(
    turnout: Turnout, spooled: tuple[Path, Path, dict[str, float]]
):
    _, logs, truth = spooled
    ended = turnout("savings", logs, "--from", "2026-11-21", "--to", "2026-11-21", "--quiet", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["counted"], found["unpriced"], found["first"]) == (found["requests"], 0, "2026-11-21")
    assert found["all_strong_usd"] == pytest.approx(found["requests"] * 0.00325)
    assert found["router_usd"] == pytest.approx(found["requests"] * 0.003 * 0.0408 / 3600)
    assert found["second_usd"] > 0
    net = found["all_strong_usd"] - found["spent_usd"] - found["router_usd"]
    assert found["saved_usd"] == pytest.approx(net)
    assert found["quality"]["score_lost"]["low"] < found["quality"]["score_lost"]["high"] < truth["strong"]
    shown = turnout("savings", logs, "--usd-per-core-hour", "3600", "--quiet").out
    assert "3 ms of CPU a decision at USD 3600 a core-hour" in shown
    assert "both models answered" in shown


def test_days_without_a_decision_are_refused_with_those_there_are(
    turnout: Turnout, spooled: tuple[Path, Path, dict[str, float]]
):
    ended = turnout("savings", spooled[1], "--to", "2020-01-01", "--quiet")
    assert (ended.code, "the log has 2026-11-21 to 2026-11-21" in ended.err) == (1, True)


def test_explored_reasons_of_this_log_are_there(spooled: tuple[Path, Path, dict[str, float]]):
    """Else the tests above would show nothing."""
    from turnout.training.offpolicy.log import read_decisions

    reasons = set(read_decisions(spooled[1])["reason"].to_pylist())
    assert reasons == {Reason.MODEL, Reason.EXPLORATION}
