"""Promises by task over all rungs of a ladder: each task has a path of its own, traced and tested on its rows.

Comes in: `LadderRows` and the task of each row. Goes out: a policy for each task that can carry the promise, as
`training.policy.by_task` makes them of a pair: which tasks take part, and at what level, is decided there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.training.policy.by_task import AT, ByTask, able_tasks, task_of
from turnout.training.policy.ladder import LadderRows
from turnout.training.policy.ladder_path import trace
from turnout.training.policy.ladder_solve import PROMISES, described_check, promise
from turnout.training.policy.policy import DELTA


def ladder_by_task(rows: LadderRows, task: NDArray[np.str_], promised: str, seed: int) -> ByTask:
    """Solve a promise for each task, for callers of one look.

    Args:
        rows: with an outcome of every rung.
        task: (n,) names; rows without one take no part.
        promised: such as `max_worse=0.02`.
        seed: of the draws.

    Raises:
        DataRefused: it is no such promise, or no row names a task.
    """
    able = able_tasks(rows.group, task, promised)
    policies = []
    for name in able.names:
        ours = rows.take(np.flatnonzero(task == name))
        solved = promise(ours, trace(ours), "max_worse", able.target, seed, able.level)
        policies.append(msgspec.structs.replace(solved, name=f"{promised}{AT}{name}"))
    return ByTask(policies, able.left_out, able.level)


def with_second_look_of_tasks(
    policies: Sequence[Policy], rows: LadderRows, task: NDArray[np.str_], seed: int, level: float
) -> list[Policy]:
    """Return the policies; those of a task with their rules over three actions, traced and tested on its rows."""

    def solved(policy: Policy) -> Policy:
        ours = rows.take(np.flatnonzero(task == task_of(policy))) if AT in policy.name else None
        if ours is None or not ours.group.size:
            return policy
        climb, bound = PROMISES[policy.kind](ours, trace(ours), policy.target, seed, level)
        return msgspec.structs.replace(policy, checked=described_check(ours, climb, bound, DELTA))

    return [solved(policy) for policy in policies]
