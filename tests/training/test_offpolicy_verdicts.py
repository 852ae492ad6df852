"""Verdicts find their decisions: by id and tenant, by the prompt's digest where there is no id; the latest of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.spools import NOON_S, check, compacted, decision, sealed
from turnout.training.offpolicy.log import read_decisions
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
