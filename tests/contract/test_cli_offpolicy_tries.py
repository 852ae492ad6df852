"""`replay-policy` and `savings` on a log of tries as servers and callers leave it: real draws, verdicts, Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from tests.checkers import T_ACCEPT, T_STRONG, T_WEAK, checked_folder
from tests.contract.conftest import Turnout
from tests.training.spools import check, compacted, decision, outcome, sealed
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.prices import cost_usd
from turnout.serving.decision.routes import Route
from turnout.serving.decision.rules import Facts, Rules
from turnout.serving.decision.rules.reading import decode_rules
from turnout.serving.router.prompt import Prompt

WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
N_SESSIONS = 1200
WEAK_USD, STRONG_USD = cost_usd(WEAK, 500, 200), cost_usd(STRONG, 500, 200)
COSTS = ExpectedCosts(WEAK_USD, STRONG_USD)


def records() -> tuple[list[Any], dict[str, float]]:
    """Return decisions, verdicts and outcomes, and the truth of the bundle's policy on these requests."""
    rules = Rules(decode_rules(b"[exploration]\nrate = 0.1\nboth = 0.1", "test"))
    rng = np.random.default_rng(8)
    made: list[Any] = []
    truth: dict[str, list[float]] = {"score": [], "strong": [], "usd": [], "tried": [], "spent": []}
    for number in range(N_SESSIONS):
        ease, luck = rng.normal(), rng.normal()
        p_match, p_checked = float(expit(1.5 + 2 * ease)), float(expit(0.8 + ease + 2 * luck))
        chance = expit(np.array([0.3 + ease + 2 * luck, 1.2 + 0.5 * ease]))
        is_tried = T_STRONG <= p_match < T_WEAK
        chosen = Route.STRONG if p_match < T_STRONG else Route.WEAK
        facts = Facts(Prompt("x"), session_id=f"s{number}")
        after = rules.after(facts, rules.before(facts), chosen, p_match, COSTS)
        tried = is_tried and after.route is Route.WEAK
        accepted = p_checked >= T_ACCEPT
        made.append(
            decision(
                f"r{number}",
                session_id=f"s{number}",
                route=after.route,
                action="try" if tried else after.route,
                can_check=True,
                model=WEAK if after.route is Route.WEAK else STRONG,
                other_model=STRONG if after.route is Route.WEAK else WEAK,
                reason=after.reason,
                p_match=p_match,
                threshold=T_WEAK if p_match >= T_STRONG else T_STRONG,
                route_propensity=after.route_propensity,
                wants_both=after.wants_both,
                pair_propensity=after.pair_propensity,
                weak_cost_usd=WEAK_USD,
                strong_cost_usd=STRONG_USD,
            )
        )
        if tried:
            verdict = ("accept", WEAK) if accepted else ("escalate", STRONG)
            judged = {"verdict": verdict[0], "model": verdict[1], "p_match_checked": p_checked, "threshold": T_ACCEPT}
            made.append(check(f"r{number}", session_id=f"s{number}", **judged))
        answering = {after.route} | ({Route.WEAK, Route.STRONG} if after.wants_both else set())
        answering |= {Route.STRONG} if tried and not accepted else set()
        shown = Route.STRONG if tried and not accepted else after.route
        for route in sorted(answering):
            score = float(rng.random() < chance[0 if route is Route.WEAK else 1])
            judged = {"score": score if route is shown or after.wants_both else None}
            made.append(outcome(f"r{number}", tier=route, prompt_tokens=500, completion_tokens=200, **judged))
        stays = p_match >= T_WEAK or (is_tried and accepted)
        truth["score"].append(chance[0 if stays else 1])
        truth["strong"].append(chance[1])
        truth["usd"].append(WEAK_USD * (p_match >= T_STRONG) + STRONG_USD * (not stays))
        truth["tried"].append(is_tried)
        truth["spent"].append(WEAK_USD * (Route.WEAK in answering) + STRONG_USD * (Route.STRONG in answering))
    return made, {name: float(np.mean(values)) for name, values in truth.items()}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, dict[str, float]]:
    """Return a bundle with a second look, a spool, the same log compacted, and the truth."""
    folder = tmp_path_factory.mktemp("tries")
    made, truth = records()
    sealed(folder / "again", made)
    compacted(folder / "again", folder / "logs")
    sealed(folder / "spool", made)
    return checked_folder(folder / "tiny"), folder / "spool", folder / "logs", truth


def replayed(turnout: Turnout, *arguments: object) -> Any:
    ended = turnout("replay-policy", *arguments, "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_a_policy_over_three_actions_is_valued_at_what_it_comes_to(
    turnout: Turnout, logged: tuple[Path, Path, Path, dict[str, float]]
):
    bundle, spool, logs, truth = logged
    found = [replayed(turnout, log, "--bundle", bundle) for log in (logs, spool)]
    assert found[0] == found[1]
    own, _, one = found[0]["policies"]
    assert one["policy"] == read_manifest(bundle).default_policy
    assert one["share_tried"] == own["share_tried"] == pytest.approx(truth["tried"])
    for name in ("ips", "snips", "dr"):
        assert one["score"][name]["low"] < truth["score"] < one["score"][name]["high"]
    lost = one["score_lost"]
    assert lost["low"] < truth["strong"] - truth["score"] < lost["high"]
    assert one["usd_per_1k"]["dr"]["low"] < 1000 * truth["usd"] < one["usd_per_1k"]["dr"]["high"]
    assert one["unknown"] == 0


def test_replay_shows_tries_and_says_what_would_tell_of_other_verdicts(
    turnout: Turnout, logged: tuple[Path, Path, Path, dict[str, float]], tmp_path: Path
):
    bundle, _, logs, _ = logged
    shown = turnout("replay-policy", logs, "--bundle", bundle, "--quiet").out
    assert "tried" in shown
    assert "escalated" in shown
    plain = [decision(str(n), action="try", can_check=True, p_match=0.5, threshold=T_WEAK) for n in range(40)]
    judged = [check(str(n), p_match_checked=0.68, threshold=0.6) for n in range(40)]
    sealed(tmp_path / "spool", [*plain, *judged, *(outcome(str(n)) for n in range(40))])
    shown = turnout("replay-policy", tmp_path / "spool", "--bundle", bundle, "--quiet").out
    assert "nothing is known of 40 requests" in shown


def test_savings_count_discarded_answers_and_name_tries_without_a_verdict(
    turnout: Turnout, logged: tuple[Path, Path, Path, dict[str, float]], tmp_path: Path
):
    _, _, logs, truth = logged
    found = json.loads(turnout("savings", logs, "--quiet", "--json").out)
    assert found["spent_usd"] == pytest.approx(N_SESSIONS * truth["spent"])
    assert found["discarded_usd"] == pytest.approx(found["escalated"] * WEAK_USD)
    assert 0 < found["escalated"] < found["tried"] < N_SESSIONS
    assert (found["unchecked"], found["counted"]) == (0, N_SESSIONS)
    assert found["quality"]["score_lost"]["low"] < found["quality"]["score_lost"]["high"]
    priced = {"weak_cost_usd": WEAK_USD, "strong_cost_usd": STRONG_USD, "other_model": STRONG}
    sealed(tmp_path / "spool", [decision("lone", action="try", can_check=True, **priced)])
    shown = turnout("savings", tmp_path / "spool", "--quiet").out
    assert "1 tries have no verdict: they count as escalated" in shown
    lone = json.loads(turnout("savings", tmp_path / "spool", "--quiet", "--json").out)
    assert lone["spent_usd"] == pytest.approx(WEAK_USD + STRONG_USD)
    assert lone["share_weak"] == 0.0
