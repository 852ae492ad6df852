"""Replay and savings of a ladder: propensities over rungs, rungs between by their own score and price, escalations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.stats

from tests.training.ladder_log import AT, AT_BETWEEN, NAMES, TOKENS, TOP, USD, TriedAt, Truth, ladder_log
from tests.training.spools import compacted, decision, outcome, rows, sealed
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.prices import cost_usd
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.candidates import Scored, candidates, scored_by
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.replay import PolicyReplay, replay
from turnout.training.offpolicy.rows import LoggedRows, logged_rows
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.quality import quality
from turnout.training.offpolicy.savings.savings import Savings, savings

FREE = Machine(0.0, 0.0)
LOGGED = TriedAt(0.3, 0.9, 0.5, 0.8)


def rows_of(folder: Path, records: list[Any]) -> LoggedRows:
    sealed(folder / "spool", records)
    return logged_rows(read_decisions(folder / "spool"))


def scored(rows: LoggedRows, bundle: Path) -> Scored:
    manifest = msgspec.structs.replace(read_manifest(bundle), name="ladder", version="1")
    return scored_by(rows, bundle, manifest, lambda: pytest.fail("nothing is read again"))


def policy(bundle: Path, threshold: float, between: float, tried: TriedAt | None = None) -> Policy:
    known = read_manifest(bundle).policy("")
    checked = known.checked
    if tried is not None:
        changes = {"t_strong": tried.t_strong, "t_weak": tried.t_weak, "t_accept": tried.t_accept}
        checked = msgspec.structs.replace(checked, **changes, t_rungs=(tried.between,))
    return msgspec.structs.replace(known, name="target", threshold=threshold, t_rungs=(between,), checked=checked)


def replayed(rows: LoggedRows, bundle: Path, *given: Policy) -> list[PolicyReplay]:
    of = scored(rows, bundle)
    return replay(of.rows, candidates(of, given)).policies


def within(found: Any, truth: float) -> bool:
    return bool(found.low <= truth <= found.high)


@pytest.fixture(scope="module")
def one_look(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoggedRows, Truth]:
    made, truth = ladder_log(3000, 7)
    return rows_of(tmp_path_factory.mktemp("ladder"), made), truth


@pytest.fixture(scope="module")
def two_looks(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoggedRows, Truth]:
    made, truth = ladder_log(3000, 11, both=0.3, tried=LOGGED)
    return rows_of(tmp_path_factory.mktemp("tries"), made), truth


def test_each_rung_was_asked_as_often_as_its_propensity_says(one_look: tuple[LoggedRows, Truth]):
    rows, _ = one_look
    for rung in range(3):
        n, expected = rows.asked[:, rung].sum(), rows.propensity[:, rung].sum()
        assert n == pytest.approx(expected, abs=4.5 * np.sqrt(2 * expected))  # rows of a session share their draws
        weight = np.divide(1.0, rows.propensity[:, rung], where=rows.asked[:, rung], out=np.zeros(len(rows)))
        assert weight.mean() == pytest.approx(1.0, abs=0.1)


def test_another_policy_is_valued_at_what_each_rung_scores_and_costs(
    one_look: tuple[LoggedRows, Truth], ladder_bundle_folder: Path
):
    rows, truth = one_look
    found = replayed(rows, ladder_bundle_folder, policy(ladder_bundle_folder, 0.6, 0.7))
    logged, strong, one = found
    for said, places in ((logged, truth.places(AT, AT_BETWEEN)), (one, truth.places(0.6, 0.7))):
        shares = np.bincount(places, minlength=3) / len(places)
        assert said.share_rungs == pytest.approx(dict(zip(NAMES, shares, strict=True)))
        assert said.share_weak == pytest.approx(shares[0])
        for estimate in (said.score.ips, said.score.snips, said.score.dr):
            assert within(estimate, truth.score(places))
        assert said.usd_per_1k.dr.value == pytest.approx(1000 * float(np.take(_paid(), places).mean()), rel=0.02)
        lost = truth.score(np.full(len(places), TOP)) - truth.score(places)
        assert lost > 0.02  # a rung between taken for the top's would say nearly nothing
        assert within(said.score_lost, lost)
        assert said.score_lost.high - said.score_lost.low < 0.1
    assert strong.share_rungs == {NAMES[0]: 0.0, NAMES[1]: 0.0, NAMES[2]: 1.0}
    assert within(strong.score.dr, truth.score(np.full(len(truth.p), TOP)))


def _paid() -> list[float]:
    return [cost_usd(name.partition(":")[0], *tokens) for name, tokens in zip(NAMES, TOKENS, strict=True)]


def test_a_plain_threshold_holds_for_every_rung(one_look: tuple[LoggedRows, Truth], ladder_bundle_folder: Path):
    rows, truth = one_look
    plain = msgspec.structs.replace(
        policy(ladder_bundle_folder, 0.7, 0.7), kind="threshold", t_rungs=msgspec.UNSET, checked=None
    )
    one = replayed(rows, ladder_bundle_folder, plain)[2]
    shares = np.bincount(truth.places(0.7, 0.7), minlength=3) / len(truth.p)
    assert list(one.share_rungs.values()) == pytest.approx(shares)


@pytest.mark.parametrize(
    "target",
    [
        TriedAt(0.3, 0.9, 0.5, 0.8),
        TriedAt(0.4, 0.85, 0.35, 0.8),  # looser
        TriedAt(0.3, 0.9, 0.7, 2.0),  # stricter, and what is escalated goes to the top, which pairs show
    ],
)
def test_tries_end_at_the_rung_that_they_are_escalated_to(
    two_looks: tuple[LoggedRows, Truth], ladder_bundle_folder: Path, target: TriedAt
):
    rows, truth = two_looks
    one = replayed(rows, ladder_bundle_folder, policy(ladder_bundle_folder, AT, AT_BETWEEN, target))[2]
    above = np.where(truth.p[:, 1] >= target.between, 1, TOP)
    tried = (truth.p[:, 0] >= target.t_strong) & (truth.p[:, 0] < target.t_weak)
    weak = (truth.p[:, 0] >= target.t_weak) | (tried & (truth.p_checked >= target.t_accept))
    assert one.share_tried == pytest.approx(tried.mean())
    known = _known(truth, target)
    places = np.where(weak, 0, above)[known]
    true = float(truth.chance[known][np.arange(known.sum()), places].mean())
    assert one.rows == int(known.sum())
    assert within(one.score.dr, true)


def _known(truth: Truth, target: TriedAt) -> np.ndarray:
    """Return which rows a log of `LOGGED` can tell of: what a target tries was tried."""
    tried = (truth.p[:, 0] >= target.t_strong) & (truth.p[:, 0] < target.t_weak)
    was_tried = (truth.p[:, 0] >= LOGGED.t_strong) & (truth.p[:, 0] < LOGGED.t_weak)
    return np.asarray(~tried | was_tried)


def test_nothing_is_claimed_of_escalations_to_a_rung_that_nobody_saw(
    two_looks: tuple[LoggedRows, Truth], ladder_bundle_folder: Path
):
    rows, truth = two_looks
    stricter = TriedAt(0.3, 0.9, 0.7, 0.8)  # what the log accepted goes to the rung between: no pair shows that
    one = replayed(rows, ladder_bundle_folder, policy(ladder_bundle_folder, AT, AT_BETWEEN, stricter))[2]
    tried = (truth.p[:, 0] >= 0.3) & (truth.p[:, 0] < 0.9)
    assert one.unknown == int((tried & (truth.p[:, 1] >= 0.8)).sum()) > 0


def test_rows_of_other_ladders_are_left_out_and_counted(
    tmp_path: Path, ladder_bundle_folder: Path, bundle_folder: Path
):
    made, _ = ladder_log(50, 3)
    pair = [decision(f"p{n}", other_model="gpt-4o") for n in range(7)]
    rows = rows_of(tmp_path, [*made, *pair])
    found = scored(rows, ladder_bundle_folder)
    assert (found.elsewhere, len(found.rows), found.rows.top) == (7, len(rows) - 7, TOP)
    manifest = msgspec.structs.replace(read_manifest(bundle_folder), name="tiny", version="1")
    of_pair = scored_by(rows, bundle_folder, manifest, lambda: pytest.fail("nothing is read again"))
    assert (of_pair.elsewhere, len(of_pair.rows), of_pair.rows.top) == (len(rows) - 7, 7, 1)
    with pytest.raises(DataRefused, match="--bundle"):
        scored_by(rows_of(tmp_path / "pair", pair), ladder_bundle_folder, read_manifest(ladder_bundle_folder), list)


def test_a_pair_among_ladders_reads_as_it_does_alone(tmp_path: Path):
    pair = [
        decision("a", other_model="gpt-4o", route_propensity=0.9, weak_cost_usd=1.0, strong_cost_usd=2.0),
        outcome("a", model="gpt-4o-mini", score=0.5),
        decision("b", model="gpt-4o", route="strong", other_model="gpt-4o-mini", wants_both=True, pair_propensity=0.2),
        outcome("b", tier="weak", score=0.25),
    ]
    made, _ = ladder_log(20, 3)
    alone, among = rows_of(tmp_path / "alone", pair), rows_of(tmp_path / "among", [*made, *pair]).of_ladder(())
    for name in ("taken", "chosen", "asked", "propensity", "pair_propensity", "score", "usd", "expected_usd"):
        assert np.array_equal(getattr(alone, name), getattr(among, name), equal_nan=True)
    assert np.array_equal(alone.tries.escalated_to, among.tries.escalated_to)


def test_made_worse_counts_rungs_between_against_the_top(one_look: tuple[LoggedRows, Truth]):
    rows, truth = one_look
    found = quality(rows)
    served = rows.served
    chance = truth.chance
    below = chance[np.arange(len(rows)), served]
    worse = float(((served != TOP) * (1 - below) * chance[:, TOP]).mean())
    lost = float((chance[:, TOP] - below).mean())
    assert found.pairs > 100
    assert found.unpaired == found.unknown == 0
    assert within(found.made_worse, worse)
    only_first = float(((served == 0) * (1 - below) * chance[:, TOP]).mean())
    assert not within(found.made_worse, only_first)  # as it was counted before
    assert within(found.score_lost, lost)


def saved(folder: Path, *records: Any) -> Savings:
    sealed(folder, list(records))
    return savings(read_decisions(folder), FREE)


def at(request_id: str, rung: int, **fields: Any) -> Any:
    given = {
        "route": "strong" if rung else "weak",
        "model": NAMES[rung].partition(":")[0],
        "rung": NAMES[rung],
        "rungs": NAMES,
        "usd_rungs": USD,
        "other_model": "o3",
    }
    return decision(request_id, **given | fields)


def test_a_rung_between_costs_what_its_own_model_costs(tmp_path: Path):
    made = [at(name, rung) for name, rung in (("a", 0), ("b", 1), ("c", 1), ("d", 2))]
    answers = [
        outcome("a", model=NAMES[0], prompt_tokens=500, completion_tokens=200),
        outcome("b", model="gpt-4o", prompt_tokens=500, completion_tokens=200),
        outcome("d", model="o3", rung="o3:high", prompt_tokens=500, completion_tokens=1187),
    ]
    found = saved(tmp_path / "spool", *made, *answers)
    mini, full, top = _paid()
    assert found.spent_usd == pytest.approx(mini + full + USD[1] + top)
    # the top's answer where nobody obtained it: as long, and what the price list expects o3 to think
    high = cost_usd("o3", 500, 600)
    assert found.all_strong_usd == pytest.approx(high + high + USD[2] + top)
    assert found.saved_usd == pytest.approx(found.all_strong_usd - found.spent_usd)
    assert found.saved_usd > 0
    assert found.share_rungs == {NAMES[0]: 0.25, NAMES[1]: 0.5, NAMES[2]: 0.25}
    assert found.length_ratios == {NAMES[0]: None, NAMES[1]: None}
    assert found.share_weak == 0.25


@pytest.mark.parametrize(
    ("rung", "other", "tier", "whose"),
    [
        (1, TOP, "", 1),
        (1, TOP, "weak", 1),
        (1, TOP, "strong", TOP),
        (TOP, 1, "", TOP),
        (TOP, 1, "weak", 1),
        (1, None, "strong", TOP),
        (0, None, "weak", 0),
        (TOP, None, "weak", 0),
    ],
)
def test_an_outcome_that_names_no_model_is_of_the_rung_that_its_tier_says(
    tmp_path: Path, rung: int, other: int | None, tier: str, whose: int
):
    fields = {} if other is None else {"wants_both": True, "other_rung": NAMES[other]}
    sealed(tmp_path / "spool", [at("a", rung, **fields), outcome("a", tier=tier, score=0.25)])
    compacted(tmp_path / "spool", tmp_path / "logs")
    (row,) = rows(tmp_path / "logs")
    assert {name: answer["score"] for name, answer in json.loads(row["responses"]).items()} == {NAMES[whose]: 0.25}


def test_pairs_with_the_top_say_how_much_longer_it_answers_than_each_rung(tmp_path: Path):
    made: list[Any] = []
    drawn = {"take_rungs": (0.0, 1.0, 0.0), "ask_rungs": (0.0, 1.0, 0.5), "both_propensity": 0.5}
    for n in range(30):
        made += [
            at(str(n), 1, wants_both=True, other_rung=NAMES[2], **drawn),
            outcome(str(n), model="gpt-4o", prompt_tokens=500, completion_tokens=100),
            outcome(str(n), model="o3", prompt_tokens=500, completion_tokens=700),
        ]
    made += [at("x", 1), outcome("x", model="gpt-4o", prompt_tokens=9, completion_tokens=2)]
    found = saved(tmp_path / "spool", *made)
    assert found.length_ratios == {NAMES[0]: None, NAMES[1]: 7.0}
    assert found.second_usd == pytest.approx(30 * cost_usd("o3", 500, 700))
    assert found.all_strong_usd == pytest.approx(30 * cost_usd("o3", 500, 700) + cost_usd("o3", 9, 14))


def test_what_is_escalated_is_paid_at_the_rung_that_answered(tmp_path: Path):
    made, truth = ladder_log(200, 5, rate=0.0, both=0.0, tried=LOGGED)
    found = saved(tmp_path / "spool", *made)
    p, paid = truth.p, _paid()
    tried = (p[:, 0] >= 0.3) & (p[:, 0] < 0.9)
    escalated = tried & (truth.p_checked < 0.5)
    served = np.where((p[:, 0] >= 0.3) & ~escalated, 0, np.where(p[:, 1] >= 0.8, 1, TOP))
    assert found.spent_usd == pytest.approx(np.take(paid, served).sum() + paid[0] * escalated.sum())
    assert found.discarded_usd == pytest.approx(paid[0] * escalated.sum())
    assert list(found.share_rungs.values()) == pytest.approx(np.bincount(served, minlength=3) / len(served))


def test_spool_and_parquet_say_the_same(tmp_path: Path):
    made, _ = ladder_log(100, 9, both=0.3, tried=LOGGED)
    sealed(tmp_path / "spool", made)
    of_spool = savings(read_decisions(tmp_path / "spool"), FREE)
    rows = logged_rows(read_decisions(tmp_path / "spool"))
    compacted(tmp_path / "spool", tmp_path / "logs")
    table = read_decisions(tmp_path / "logs")
    again = logged_rows(table)
    assert savings(table, FREE) == of_spool
    by = {name: np.argsort(_keys(one)) for name, one in (("spool", rows), ("logs", again))}
    for name in ("taken", "chosen", "asked", "propensity", "score", "usd", "p_rungs"):
        assert np.array_equal(getattr(rows, name)[by["spool"]], getattr(again, name)[by["logs"]], equal_nan=True)


def _keys(rows: LoggedRows) -> Any:
    return rows.p_match


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path, ladder_bundle_folder: Path):
    n_logs = 100
    target = policy(ladder_bundle_folder, 0.6, 0.7)
    found, truths = [], []
    for seed in range(n_logs):
        made, truth = ladder_log(600, 10_000 + seed)
        found.append(replayed(rows_of(tmp_path / str(seed), made), ladder_bundle_folder, target)[2])
        truths.append((truth.score(truth.places(0.6, 0.7)), truth.score(np.full(len(truth.p), TOP))))
    score, top = np.mean(truths, axis=0)  # of some 90,000 requests
    held = {name: sum(within(getattr(one.score, name), score) for one in found) for name in ("ips", "snips", "dr")}
    held["score lost"] = sum(within(one.score_lost, top - score) for one in found)
    print(held)
    for n in held.values():
        assert scipy.stats.binomtest(n, n_logs, 0.95, alternative="less").pvalue > 0.001
