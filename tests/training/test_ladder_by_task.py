"""Promises by task over all rungs hold together, and rest on the rows of their task alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.test_ladder_policy import draw
from turnout.serving.bundles.policy import NEVER
from turnout.training.errors import DataRefused
from turnout.training.policy.by_task import said_of, task_of
from turnout.training.policy.default import default_policy
from turnout.training.policy.ladder import LadderRows
from turnout.training.policy.ladder_by_task import ladder_by_task, with_second_look_of_tasks
from turnout.training.policy.ladder_path import trace
from turnout.training.policy.ladder_solve import climb_of, climb_of_check, solve_table, with_second_look
from turnout.training.policy.policy import SOLVED_DELTA

TASKS = np.array(["law", "law", "law", "code", "code", "chat"])
LEVEL = 0.08


def tasks_of(rows: LadderRows, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(TASKS, rows.group.size)


@pytest.mark.slow
def test_promises_by_task_hold_together():
    population = draw(60_000, 999)
    whole, broken, below = tasks_of(population, 999), 0, []
    for seed in range(24):
        rows = draw(1500, seed)
        found = ladder_by_task(rows, tasks_of(rows, seed), f"max_worse={LEVEL}", seed)
        assert [task_of(policy) for policy in found.policies] == ["law", "code", "chat"]
        assert found.level == pytest.approx(SOLVED_DELTA / 3)
        climbs = {task_of(policy): climb_of(policy) for policy in found.policies if policy.is_met}
        broken += any(climb.worse(population)[whole == task].mean() > LEVEL for task, climb in climbs.items())
        below += [(climb.climbed(population).rung < population.top).mean() for climb in climbs.values()]
    assert broken <= 6  # of 24 at 0.1: more has a chance of 1 in 100
    assert len(below) > 40
    assert np.mean(below) > 0.2


def test_a_task_has_a_path_of_its_own_rows():
    rows = draw(3000, 2)
    task = tasks_of(rows, 2)
    found = ladder_by_task(rows, task, f"max_worse={LEVEL}", 0)
    flipped = replace(rows, match=np.where((task == "law")[:, None], 1 - rows.match, rows.match))
    again = ladder_by_task(flipped, task, f"max_worse={LEVEL}", 0)
    by_name, others = ({task_of(one): one for one in some.policies} for some in (found, again))
    assert by_name["code"] == others["code"]
    assert by_name["law"] != others["law"]
    ours = task == "code"
    assert by_name["code"].share_worse == pytest.approx(climb_of(by_name["code"]).worse(rows)[ours].mean())
    assert by_name["code"].t_rungs[0] < NEVER
    assert said_of(found, "max_worse=0.08").startswith("max_worse=0.08 task by task")


def test_second_look_of_a_task_is_solved_on_its_rows_and_the_others_stay():
    rows = draw(3000, 3, looks=2)
    task = tasks_of(rows, 3)
    found = ladder_by_task(rows, task, f"max_worse={LEVEL}", 0)
    table = with_second_look([*solve_table(rows, trace(rows), 0), *found.policies], rows, trace(rows), 0)
    assert all(policy.checked is None for policy in table if "@" in policy.name)
    done = with_second_look_of_tasks(table, rows, task, 0, found.level)
    assert [one for one in done if "@" not in one.name] == [one for one in table if "@" not in one.name]
    assert "@" not in default_policy(done)[0]
    for policy in done:
        if "@" not in policy.name or not policy.checked.is_met:
            continue
        climb, ours = climb_of_check(policy.checked), task == task_of(policy)
        assert policy.checked.share_worse == pytest.approx(climb.worse(rows)[ours].mean())
        assert policy.checked.share_worse_bound <= LEVEL


def test_what_cannot_be_solved_by_task_is_said():
    rows = draw(600, 4)
    with pytest.raises(DataRefused, match="--column task="):
        ladder_by_task(rows, np.full(600, ""), "max_worse=0.08", 0)
    with pytest.raises(DataRefused, match="expected max_worse=SHARE"):
        ladder_by_task(rows, tasks_of(rows, 4), "min_quality=0.9", 0)
    task = np.where(np.arange(600) < 10, "rare", "law")
    found = ladder_by_task(rows, task, "max_worse=0.08", 0)
    assert found.left_out == ["rare"]
    assert "can't be shown, strong under it" in said_of(found, "max_worse=0.08")
