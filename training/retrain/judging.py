"""Judging: a challenger that was just learned, beside the champion, on the rows that neither has seen.

Comes in: both, and the test part. Goes out: `GateVerdict`, for the challenger's manifest.
"""

from __future__ import annotations

import numpy as np

from turnout.serving.bundles.bundle import GRAPH, Bundle, read_file_of
from turnout.serving.bundles.verdict import Check, GateVerdict
from turnout.serving.router.checker import CheckerModel
from turnout.serving.router.features import Featurizer
from turnout.serving.router.model import RouterModel
from turnout.serving.router.prompt import Prompt, prompt_from_json
from turnout.training.arrays import Ints
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.learn.learn import Learned
from turnout.training.logs.cells import encode
from turnout.training.logs.records import Record
from turnout.training.progress import Reporter
from turnout.training.retrain.asking import Side, TimedAnswers, ask_both
from turnout.training.retrain.gate import GateLimits, GateRows, compare
from turnout.training.retrain.pool import Pool
from turnout.training.retrain.second_look import KEPT, Looker, second_look_checks
from turnout.training.retrain.without_encoder import VectorModel
from turnout.training.sample.sample import make_sample

LATENCY_QUANTILE = 0.95
MAX_TIMED_PROMPTS = 1000
"""Made-up prompts to take the time with where rows hold none: 50 of them lie above the quantile."""


def judge(
    champion: Bundle,
    learned: Learned,
    encoder: EncoderModel,
    pool: Pool,
    test: Ints,
    *,
    policy: str,
    limits: GateLimits,
    seed: int,
    is_later: bool,
    may_lose_second_look: bool,
    reporter: Reporter,
) -> GateVerdict:
    """Ask both and compare what they say.

    Args:
        champion: as it is served.
        learned: the challenger.
        encoder: which its graph holds.
        pool: all rows.
        test: (m,) numbers of those that neither has seen.
        policy: name of one that both have; empty for the champion's default one.
        limits: what is tolerated.
        seed: of the bootstraps.
        is_later: whether the test is later than what the challenger learned from.
        may_lose_second_look: whether the challenger may be without one.
        reporter: shows the stages.
    """
    name = policy or champion.manifest.default_policy
    rules = learned.manifest.harness_rules
    unseen = learned.evaluation.unseen
    model = RouterModel(learned.graph, encoder.tokenizer_json, encoder.card.max_tokens, rules, unseen)
    sides = (
        Side(champion.model, champion.manifest.policy(name).threshold),
        Side(model, learned.manifest.policy(name).threshold),
    )
    records = [pool.rows[row].row.record for row in test]
    prompts = [record.prompt for record in records] if pool.features is None else _made_up_prompts(test.size, seed)
    with reporter.stage("Asking champion and challenger", len(prompts)) as advance:
        before, after = ask_both(*sides, prompts, advance)
    if pool.features is not None:
        features = pool.features.take(test)
        was, now = VectorModel(read_file_of(champion, GRAPH), champion.unseen), VectorModel(learned.graph, unseen)
        before = TimedAnswers(was.answers(features, sides[0].threshold), before.latency_ms)
        after = TimedAnswers(now.answers(features, sides[1].threshold), after.latency_ms)
    rows = _gate_rows(pool, test)
    with reporter.stage("Comparing"):
        tolerated = limits.at(champion.manifest.policy(name))
        checks = compare(rows, before.answers, after.answers, tolerated, seed=seed)
        if learned.checker is not None or not may_lose_second_look:
            both = lookers(champion, learned, model, encoder, name)
            checks += second_look_checks(*both, records, rows, tolerated, seed=seed)
    checks += [latency(before, after, limits), parity(learned, limits)]
    say_if_lost(champion, checks, reporter)
    return verdict_of(champion, name, records, rows, checks, is_later=is_later)


def say_if_lost(champion: Bundle, checks: list[Check], reporter: Reporter) -> None:
    """Say so where the challenger would lose the champion's second look."""
    if any(one.name == KEPT and not one.is_met for one in checks):
        reporter.say(
            f"The challenger would lose the second look that {champion.manifest.bundle_id} has: its logs need the weak "
            "model's answers (decision logs that keep text, gateway logs); --lose-second-look allows it"
        )


def verdict_of(
    champion: Bundle, policy: str, records: list[Record], rows: GateRows, checks: list[Check], *, is_later: bool
) -> GateVerdict:
    """Return the verdict: met where every check is."""
    moments = [record.created for record in records if record.created is not None] if is_later else []
    return GateVerdict(
        champion=champion.manifest.bundle_id,
        policy=policy,
        rows=rows.match.size,
        groups=int(np.unique(rows.group).size),
        from_s=min(moments, default=None),
        to_s=max(moments, default=None),
        is_met=all(check.is_met for check in checks),
        is_forced=False,
        checks=checks,
    )


def lookers(
    champion: Bundle, learned: Learned, model: RouterModel, encoder: EncoderModel, policy: str
) -> tuple[Looker, Looker]:
    """Return both sides with their second looks."""
    checker = None
    if learned.checker is not None:
        rules = learned.manifest.harness_rules
        checker = CheckerModel(
            learned.checker, Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, rules).ngrams
        )
    return (
        Looker(champion.model, champion.checker, champion.manifest.policy(policy)),
        Looker(model, checker, learned.manifest.policy(policy)),
    )


def _made_up_prompts(n_rows: int, seed: int) -> list[Prompt]:
    """Return prompts to take the time with, where the rows hold none."""
    n_prompts = min(n_rows, MAX_TIMED_PROMPTS)
    return [prompt_from_json(encode(row["request"])) for row in make_sample(n_prompts, seed)]


def _gate_rows(pool: Pool, test: Ints) -> GateRows:
    data, records = pool.data, [pool.rows[row].row.record for row in test]
    measures = data.prompt_measures.take(test)
    return GateRows(
        match=data.match[test],
        strong_score=data.strong_score[test],
        weak_score=data.weak_score[test],
        group=data.groups.group[test],
        weight=pool.weight[test],
        slices={
            "task": [record.task or "" for record in records],
            "language": measures.language,
        },
    )


def latency(before: TimedAnswers, after: TimedAnswers, limits: GateLimits) -> Check:
    """Return whether the challenger decides in time."""
    was, now = (float(np.quantile(asked.latency_ms, LATENCY_QUANTILE)) for asked in (before, after))
    return Check(
        name="latency of 95 %, ms",
        is_met=now <= limits.latency_ms,
        figure=now,
        limit=limits.latency_ms,
        champion=was,
        challenger=now,
    )


def parity(learned: Learned, limits: GateLimits) -> Check:
    """Return whether graph and Python path of the challenger agree."""
    found = float(learned.parity.max_difference)
    return Check(
        name="parity with the Python path",
        is_met=found <= limits.parity,
        figure=found,
        limit=limits.parity,
        challenger=found,
    )
