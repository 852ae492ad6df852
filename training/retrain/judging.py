"""Judging: a challenger that was just learned, beside the champion, on the rows that neither has seen.

Comes in: both, and the test part. Goes out: `Verdict`, for the challenger's manifest.
"""

from __future__ import annotations

import numpy as np

from serving.bundle import Bundle
from serving.languages import script_of
from serving.model import RouterModel
from serving.verdict import Check, Verdict
from training.encoders import EncoderModel
from training.learn import Learned
from training.metrics import Ints
from training.progress import Reporter
from training.retrain.asking import Asked, Side, ask_both
from training.retrain.gate import GateRows, Limits, compare
from training.retrain.pool import Pool

LATENCY_QUANTILE = 0.95


def judge(
    champion: Bundle,
    learned: Learned,
    encoder: EncoderModel,
    pool: Pool,
    test: Ints,
    *,
    policy: str,
    limits: Limits,
    seed: int,
    is_later: bool,
    reporter: Reporter,
) -> Verdict:
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
        reporter: shows the stages.
    """
    name = policy or champion.manifest.default_policy
    rules = learned.manifest.harness_rules
    model = RouterModel(learned.graph, encoder.tokenizer_json, encoder.card.max_tokens, rules)
    sides = (
        Side(champion.model, champion.manifest.policy(name).threshold),
        Side(model, learned.manifest.policy(name).threshold),
    )
    records = [pool.rows[row].row.record for row in test]
    with reporter.stage("Asking champion and challenger", test.size) as advance:
        before, after = ask_both(*sides, [record.prompt for record in records], advance)
    rows = _gate_rows(pool, test)
    with reporter.stage("Comparing"):
        tolerated = limits.at(champion.manifest.policy(name))
        checks = compare(rows, before.answers, after.answers, tolerated, seed=seed)
    checks += [_latency(before, after, limits), _parity(learned, limits)]
    moments = [record.created for record in records if record.created is not None] if is_later else []
    return Verdict(
        champion=champion.manifest.bundle_id,
        policy=name,
        rows=test.size,
        groups=int(np.unique(rows.group).size),
        from_s=min(moments, default=None),
        to_s=max(moments, default=None),
        is_met=all(check.is_met for check in checks),
        is_forced=False,
        checks=checks,
    )


def _gate_rows(pool: Pool, test: Ints) -> GateRows:
    data, records = pool.data, [pool.rows[row].row.record for row in test]
    return GateRows(
        match=data.match[test],
        strong_score=data.strong_score[test],
        weak_score=data.weak_score[test],
        group=data.groups.group[test],
        weight=pool.weight[test],
        slices={
            "task": [record.task or "" for record in records],
            "language": [record.language or script_of(record.prompt.text) for record in records],
        },
    )


def _latency(before: Asked, after: Asked, limits: Limits) -> Check:
    was, now = (float(np.quantile(asked.latency_ms, LATENCY_QUANTILE)) for asked in (before, after))
    return Check(
        name="latency of 95 %, ms",
        is_met=now <= limits.latency_ms,
        figure=now,
        limit=limits.latency_ms,
        champion=was,
        challenger=now,
    )


def _parity(learned: Learned, limits: Limits) -> Check:
    found = float(learned.parity.max_difference)
    return Check(
        name="parity with the Python path",
        is_met=found <= limits.parity,
        figure=found,
        limit=limits.parity,
        challenger=found,
    )
