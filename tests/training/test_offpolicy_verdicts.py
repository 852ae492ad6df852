"""Verdicts find their decisions: by id and tenant, by the prompt's digest where there is no id; the latest of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import tiny_bundle
from tests.checkers import checked_folder
from tests.training.spools import NOON_S, check, compacted, decision, outcome, sealed
from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.decision.judging import look_again
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.prompt import Prompt
from turnout.serving.spool.check import packed
from turnout.training.offpolicy.candidates import Scored, candidates, named_policies, scored_by
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.replay import replay
from turnout.training.offpolicy.rows import logged_rows
from turnout.training.offpolicy.savings.spend import spend_of


def verdicts(folder: Path, *records: Any) -> list[str | None]:
    sealed(folder, records)
    return read_decisions(folder)["verdict"].to_pylist()


def at(second: float, **fields: Any) -> Any:
    return decision("", decided_s=NOON_S + second, action="try", **fields)


def said(second: float, verdict: str, **fields: Any) -> Any:
    return check("", checked_s=NOON_S + second, verdict=verdict, **fields)


def test_a_verdict_is_that_of_its_request_and_tenant(tmp_path: Path):
    ours, theirs = decision("a", tenant="x"), decision("a", tenant="y")
    assert verdicts(tmp_path, ours, theirs, check("a", tenant="y", verdict="escalate")) == [None, "escalate"]


def test_of_two_verdicts_the_later_one_counts(tmp_path: Path):
    late = check("a", verdict="escalate", checked_s=NOON_S + 99)
    assert verdicts(tmp_path, decision("a"), late, check("a", verdict="accept")) == ["escalate"]


def test_without_an_id_a_verdict_is_that_of_the_last_such_prompt_before_it(tmp_path: Path):
    records = [at(0), at(10), at(20, digest=b"e" * 16), said(15, "accept"), said(30, "escalate", digest=b"e" * 16)]
    assert verdicts(tmp_path, *records) == [None, "accept", "escalate"]


def test_two_verdicts_on_one_prompt_go_to_two_requests(tmp_path: Path):
    assert verdicts(tmp_path, at(0), at(10), said(15, "accept"), said(16, "escalate")) == ["escalate", "accept"]


def test_a_verdict_before_its_request_is_nobodys(tmp_path: Path):
    assert verdicts(tmp_path, at(10), said(5, "accept")) == [None]


def test_spool_and_store_join_alike_and_a_single_file_has_none(tmp_path: Path):
    records = [decision("a", action="try", can_check=True), check("a"), decision("b")]
    sealed(tmp_path / "again", records)
    compacted(tmp_path / "again", tmp_path / "logs")
    sealed(tmp_path / "spool", records)
    tables = [read_decisions(tmp_path / name) for name in ("spool", "logs")]
    assert tables[0].select(["id", "verdict", "p_match_checked"]) == tables[1].select(
        ["id", "verdict", "p_match_checked"]
    )
    (alone,) = (tmp_path / "logs" / "decisions").glob("*/*.parquet")
    assert read_decisions(alone)["verdict"].to_pylist() == [None, None]


def test_tokens_of_the_check_stand_in_where_nobody_reported_the_weak_answer(tmp_path: Path):
    routed = decision("a", action="try", can_check=True, other_model="gpt-4o", weak_cost_usd=9.0, strong_cost_usd=9.0)
    sealed(tmp_path, [routed, check("a", prompt_tokens=1000, completion_tokens=100, self_check=-0.1)])
    found = spend_of(read_decisions(tmp_path))
    weak = (1000 * 0.15 + 100 * 0.6) / 1e6
    assert found.spent.tolist() == pytest.approx([weak + (1140 * 0.15 + 0.6) / 1e6])
    assert found.self_check.tolist() == pytest.approx([(1140 * 0.15 + 0.6) / 1e6])
    assert found.all_strong.tolist() == pytest.approx([(1000 * 2.5 + 100 * 10) / 1e6])


def test_what_a_draw_moved_from_a_try_is_known_by_the_threshold_that_it_missed(tmp_path: Path):
    moved = {"route": "strong", "model": "gpt-4o", "reason": "EXPLORATION", "route_propensity": 0.1, "can_check": True}
    missed, reached = decision("a", p_match=0.5, threshold=0.9, **moved), decision("b", p_match=0.95, **moved)
    sealed(tmp_path, [missed, reached, decision("c", action="try", can_check=True, p_match=0.5)])
    rows = logged_rows(read_decisions(tmp_path))
    assert rows.tries.chose_try.tolist() == [True, False, True]
    assert rows.tries.was_tried.tolist() == [False, False, True]
    assert rows.propensity_of_try.tolist() == pytest.approx([0.9, 0.9, 1.0])


SURE, UNSURE = packed([-0.01, -0.02]), packed([-2.0, -3.0])


def scored(folder: Path, bundle: Path, *records: Any) -> Scored:
    """Return what a bundle says of a spool's decisions."""
    sealed(folder / "spool", records)
    log = folder / "spool"
    rows = logged_rows(read_decisions(log))
    return scored_by(rows, bundle, read_manifest(bundle), lambda: read_decisions(log, with_texts=True))


def tried(request_id: str, bundle: str = "old/1", **fields: Any) -> Any:
    return decision(request_id, bundle=bundle, action="try", can_check=True, text="hello there", **fields)


def test_answers_that_another_bundle_checked_are_shown_to_this_ones_second_look(tmp_path: Path):
    bundle = checked_folder(tmp_path / "tiny")
    found = scored(
        tmp_path,
        bundle,
        *(tried(name) for name in "abcd"),
        tried("e", bundle="tiny/1"),
        check("a", bundle="old/1", verdict="escalate", token_logprobs=SURE),
        check("b", bundle="old/1", verdict="accept", token_logprobs=UNSURE),
        check("c", bundle="old/1", text=None, kept="digest"),
        check("d", bundle="old/1", text=" ", token_logprobs=SURE),
        check("e", bundle="tiny/1", p_match_checked=0.66, text=None, kept="digest"),
    )
    loaded = load_bundle(bundle)
    expected = [
        look_again(loaded, Prompt("hello there"), Answer(f"The answer to {name}."), Signals(tokens)).p_match
        for name, tokens in (("a", (-0.01, -0.02)), ("b", (-2.0, -3.0)))
    ]
    assert found.p_checked[:2].tolist() == pytest.approx(expected)
    assert found.is_read.tolist() == [True, True, False, True, True]
    assert found.is_own.tolist() == [False, False, False, False, True]
    assert np.isnan(found.p_checked[[2, 3]]).all()
    assert found.p_checked[4] == 0.66
    assert (found.rescored, found.rechecked, found.unread) == (4, 3, 1)
    (one,) = candidates(found, named_policies(loaded.manifest, []))
    assert one.verdicts is not None
    assert one.verdicts.accepts.tolist() == [True, False, False, False, False]
    assert one.tries is not None
    assert one.tries.all()


def test_a_bundle_without_a_second_look_reads_no_answer(tmp_path: Path):
    bundle = tiny_bundle(tmp_path / "tiny")
    found = scored(tmp_path, bundle, tried("a"), check("a", bundle="old/1", token_logprobs=SURE))
    assert (found.rescored, found.rechecked) == (1, 0)


def test_replay_values_another_second_look_and_says_what_it_could_not_read(tmp_path: Path):
    bundle = checked_folder(tmp_path / "tiny")
    records = []
    for number in range(60):
        name = str(number)
        records.append(tried(name, p_match=0.5, wants_both=True, pair_propensity=1.0, other_model="gpt-4o"))
        tokens = SURE if number % 3 else UNSURE
        records.append(check(name, bundle="old/1", verdict="accept", token_logprobs=tokens))
        records += [outcome(name, tier="weak", score=0.5), outcome(name, tier="strong", model="gpt-4o", score=1.0)]
    found = scored(tmp_path, bundle, *records)
    one = replay(found.rows, candidates(found, named_policies(read_manifest(bundle), []))).policies[2]
    assert one.share_escalated == pytest.approx(1 / 3)
    assert one.unknown == 0
    assert one.score is not None
    assert one.score.ips is not None
    assert one.score.ips.value == pytest.approx(2 / 3 * 0.5 + 1 / 3)
