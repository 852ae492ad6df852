"""The default policy: which of the solved ones a bundle serves unless somebody names another, and why.

Comes in: the policy table. Goes out: a name and its reason for people. Also says what rows can carry: which promises
of `max_worse` so many rows can keep at all, and how many more the next one needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from turnout.serving.bundles.policy import Policy
from turnout.training.errors import DataRefused
from turnout.training.policy.by_task import AT
from turnout.training.policy.policy import DEFAULT_POLICY, LEAST_USE, MAX_WORSE_TARGETS, SOLVED_DELTA


def default_policy(
    policies: Sequence[Policy], wanted: str = "", below: Mapping[str, float] | None = None
) -> tuple[str, str]:
    """Return the name of the default policy, and why it is that one.

    Args:
        policies: as solved.
        wanted: the operator's choice; empty leaves it to the rule: the strictest `max_worse` that is met and sends at
            least `LEAST_USE` of the rows to the weak model; where none does, the met one that sends the most.
        below: of a ladder, by name the share that is answered below the top, which counts in place of the weak model's.

    Raises:
        DataRefused: there is no policy of the wanted name.
    """
    if wanted:
        if wanted not in {policy.name for policy in policies}:
            known = ", ".join(policy.name for policy in policies)
            raise DataRefused(f"--policy {wanted}: there is no such policy; this bundle would have: {known}")
        return wanted, "named by the operator"
    where = "the weak model" if below is None else "rungs below the top"
    use = {policy.name: policy.share_weak for policy in policies} if below is None else below
    promised = [one for one in policies if one.kind == "max_worse" and one.is_met and AT not in one.name]
    met = sorted(promised, key=lambda one: one.target)
    for policy in met:
        if use[policy.name] >= LEAST_USE:
            return policy.name, (
                f"the strictest promise that is met and sends at least {LEAST_USE:.0%} to {where}: "
                f"{use[policy.name]:.1%} of the rows"
            )
    if met:
        most = max(met, key=lambda one: use[one.name])
        return most.name, (
            f"no promise sends {LEAST_USE:.0%} to {where}; of those that are met this sends the most: "
            f"{use[most.name]:.1%} of the rows"
        )
    return DEFAULT_POLICY, "no promise is met on these rows: EVERYTHING GOES TO THE STRONG MODEL until there are more"


def least_rows(target: float) -> int:
    """Return how many groups show a share of at most `target`, in (0, 1), where not one of them is made worse."""
    return math.ceil(math.log(SOLVED_DELTA) / math.log1p(-target))


def carried(n_groups: int) -> str:
    """Return, for people, which promises so many groups of labelled rows can carry, and what the next one needs."""
    able = [target for target in MAX_WORSE_TARGETS if least_rows(target) <= n_groups]
    beyond = [target for target in MAX_WORSE_TARGETS if target not in able]
    names = ", ".join(f"max_worse={target:g}" for target in able) or "no promise"
    said = f"{n_groups} groups of labelled rows can carry {names}"
    if beyond:
        following = max(beyond)
        missing = least_rows(following) - n_groups
        said += f"; max_worse={following:g} needs at least {missing} more"
    return said
