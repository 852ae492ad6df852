"""Promises by task: one promise, solved for each task on its own rows, so that it holds task by task.

Comes in: the policy part, and the task of each row. Goes out: a policy for each task that can carry the promise, named
`max_worse=0.02@translation`; a rules file gives it to the requests of that task. A promise about all requests may be
kept by making one task pay for the others; these can't.

All of them hold together with probability 1 - `DELTA`: with T tasks each is solved at `SOLVED_DELTA` / T (Bonferroni).
Which tasks take part follows from how many groups they have, and no outcome chose them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.training.arrays import Ints
from turnout.training.errors import DataRefused
from turnout.training.fit.router import FittedRouter, HeadLogOdds
from turnout.training.policy.policy import (
    SOLVED_DELTA,
    PolicyRows,
    candidates,
    max_worse,
    one_row_a_group,
)

AT = "@"
"""Between a promise and its task in the name of a policy."""


@dataclass(frozen=True)
class ByTask:
    """What was solved task by task.

    Attributes:
        policies: one for each task that takes part, the largest first.
        left_out: names of the tasks with too few groups, which stay under the promise about all requests.
        level: probability of an error that each was solved at.
    """

    policies: list[Policy]
    left_out: list[str]
    level: float


def task_of(policy: Policy) -> str:
    """Return the task that a policy is for; empty for one about all requests."""
    return policy.name.partition(AT)[2]


def solve_by_task(router: FittedRouter, rows: PolicyRows, task: NDArray[np.str_], promise: str, seed: int) -> ByTask:
    """Solve a promise for each task.

    Args:
        router: what routes.
        rows: the policy part.
        task: (n,) names; rows without one take no part.
        promise: such as `max_worse=0.02`.
        seed: of the draws.

    Raises:
        DataRefused: it is no such promise, or no row names a task.
    """
    able = able_tasks(rows.group, task, promise)
    policies = []
    for name in able.names:
        ours = _take(rows, np.flatnonzero(task == name))
        draws = one_row_a_group(ours.group, seed)
        solved = max_worse(router, ours, candidates(router, ours), draws, able.target, able.level)
        policies.append(msgspec.structs.replace(solved, name=f"{promise}{AT}{name}"))
    return ByTask(policies, able.left_out, able.level)


@dataclass(frozen=True)
class AbleTasks:
    """Which tasks can carry a promise, the largest first, which can't, and the level that each is solved at."""

    names: list[str]
    left_out: list[str]
    target: float
    level: float


def able_tasks(group: Ints, task: NDArray[np.str_], promise: str) -> AbleTasks:
    """Return the tasks that take part.

    Args:
        group: (n,) of the rows.
        task: (n,) names; rows without one take no part.
        promise: such as `max_worse=0.02`.

    Raises:
        DataRefused: it is no such promise, or no row names a task.
    """
    target = _target(promise)
    groups = {str(name): np.unique(group[task == name]).size for name in np.unique(task) if name}
    if not groups:
        raise DataRefused(f"--by-task {promise}: no row names its task; name the column with --column task=...")
    by_size = sorted(groups, key=lambda name: (-groups[name], name))
    n_tasks = _able([groups[name] for name in by_size], target)
    return AbleTasks(by_size[:n_tasks], by_size[n_tasks:], target, SOLVED_DELTA / max(1, n_tasks))


def said_of(found: ByTask, promise: str) -> str:
    """Return what was solved task by task, for people."""
    met = [task_of(policy) for policy in found.policies if policy.is_met]
    not_met = [*(task_of(policy) for policy in found.policies if not policy.is_met), *found.left_out]
    said = f"{promise} task by task, each at {found.level:.2g}: " + (", ".join(met) or "none")
    return said + (f"; can't be shown, strong under it: {', '.join(not_met)}" if not_met else "")


def _target(promise: str) -> float:
    kind, _, number = promise.partition("=")
    try:
        target = float(number)
    except ValueError:
        target = math.nan
    if kind != "max_worse" or not 0.0 < target < 1.0:
        raise DataRefused(f"--by-task {promise}: expected max_worse=SHARE with a share between 0 and 1")
    return target


def _able(sizes: list[int], target: float) -> int:
    """Return how many of the tasks, by falling numbers of groups, could show the target where none is made worse."""
    able = 0
    for number, size in enumerate(sizes, start=1):
        if size >= math.log(SOLVED_DELTA / number) / math.log1p(-target):
            able = number
    return able


def _take(rows: PolicyRows, some: NDArray[np.int64]) -> PolicyRows:
    unlike = rows.is_out_of_distribution
    return replace(
        rows,
        heads=HeadLogOdds(rows.heads.fast[some], rows.heads.full[some]),
        match=rows.match[some],
        strong_score=rows.strong_score[some],
        weak_score=rows.weak_score[some],
        group=rows.group[some],
        costs=rows.costs and rows.costs.take(some),
        is_out_of_distribution=None if unlike is None else unlike[some],
    )
