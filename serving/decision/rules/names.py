"""Whether the policies and bundles that a rules file names are there, before any request needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.decision.rules.offering import is_named
from turnout.serving.decision.rules.reading import read_rules
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.decision.rules.spec import RuleSpec
from turnout.serving.errors import RulesRefused, UnknownName

Check = Callable[[Rules], None]
"""Raises `RulesRefused` when the rules name a policy or a bundle that is not served."""


def checked_rules(path: Path, check: Check) -> Rules:
    """Read a rules file and check its names; raises `RulesRefused` for either, with the file's name."""
    rules = Rules(read_rules(path))
    try:
        check(rules)
    except RulesRefused as error:
        raise RulesRefused(f"{path}: {error}") from error
    return rules


def check_names(rules: Rules, served: Sequence[Manifest]) -> None:
    """Check a file's policies and bundles against the bundles that are served.

    A policy must be known to every bundle that may have to apply it: that of a rule with a bundle to that bundle,
    any other to all of them, as callers may name any.

    Raises:
        RulesRefused: one is unknown; the message names the key and what there is.
    """
    if problem := next(_problems(rules, served), None):
        raise RulesRefused(problem)


def _problems(rules: Rules, served: Sequence[Manifest]) -> Iterator[str]:
    yield from _policy_problems("policy", rules.spec.policy, served)
    for index, rule in enumerate(rules.spec.rules):
        yield from _rule_problems(f"rules[{index}]", rule, served)


def _rule_problems(here: str, rule: RuleSpec, served: Sequence[Manifest]) -> Iterator[str]:
    answering = [one for one in served if rule.bundle in (None, one.name, one.bundle_id)]
    if not answering:
        known = ", ".join(one.bundle_id for one in served)
        yield f"{here}.bundle ({rule.name!r}): expected one of the bundles served ({known}), got {rule.bundle!r}"
    yield from _policy_problems(f"{here}.policy ({rule.name!r})", rule.policy, answering)
    yield from _rung_problems(here, rule, answering)


def _rung_problems(here: str, rule: RuleSpec, manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        rungs = [(rung.name, rung.model) for rung in manifest.ladder]
        names = ", ".join(name for name, _ in rungs)
        whose = f"of bundle {manifest.bundle_id} ({names})"
        if rule.rung is not None and rule.rung not in (name for name, _ in rungs):
            yield f"{here}.rung ({rule.name!r}): expected a rung {whose}, got {rule.rung!r}"
        for pattern in rule.allow or ():
            if not any(is_named(rung, pattern) for rung in rungs):
                yield f"{here}.allow ({rule.name!r}): expected rungs {whose}, got {pattern!r}"


def _policy_problems(key: str, wanted: str | None, manifests: Sequence[Manifest]) -> Iterator[str]:
    if wanted is None:
        return
    for manifest in manifests:
        names = [policy.name for policy in manifest.policies]
        try:
            manifest.policy(wanted)  # any level of a promise is solved
        except UnknownName:
            yield f"{key}: expected a policy of bundle {manifest.bundle_id} ({', '.join(names)}), got {wanted!r}"
