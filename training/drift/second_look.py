"""Drift of the second look: verdicts of a log held against what the bundle was measured on, and against earlier ones.

Comes in: the folder that `turnout logs compact` wrote. Goes out: `DriftMeasure`s, put into a `DriftReport`: shares of
tries and of escalations beside those of the policy, tries without a verdict, signals that come no more, and how
p_match, signals and lengths of checked answers are spread.

A signal that a vendor stops sending is drift even where training had few of it: each third of the log is held against
the ones before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq

from turnout.serving.bundles.baseline import bins_of
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.limits import MIN_ROWS, NORMAL, SHARE_FLOOR, DriftReading, psi_reading
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import CheckedPolicy
from turnout.serving.decision.routes import Action, Verdict
from turnout.serving.errors import UnknownName
from turnout.serving.router.answer import Signals
from turnout.serving.router.answer_features import SIGNALS, signals_of
from turnout.training.arrays import Floats
from turnout.training.drift.compare import NO_BASELINE, DriftMeasure, DriftReport
from turnout.training.drift.live import LiveRow, Span
from turnout.training.logs.stored_files import LogFile

_COLUMNS = (
    "created", "bundle", "policy", "verdict", "p_match_checked", "signals_used", "answer_characters",
    "weak_token_logprobs", "weak_mean_logprob", "weak_self_check",
)  # fmt: skip
PARTS = 3


@dataclass(frozen=True, slots=True)
class LiveCheck:
    """One verdict; NaN for what is unknown."""

    created_s: float
    policy: str
    is_escalated: bool
    p_match: float
    used: frozenset[str]
    log_characters: float
    signals: Floats


def read_checks(paths: Sequence[LogFile], bundle: Bundle, span: Span) -> list[LiveCheck]:
    """Return the verdicts of a bundle in a span, in the order of their time."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            rows = pq.ParquetFile(file).read(columns=list(_COLUMNS)).to_pylist()
        mine = (row for row in rows if row["bundle"] == bundle.manifest.bundle_id and span.holds(row["created"]))
        found += [_check(row) for row in mine]
    return sorted(found, key=lambda one: one.created_s)


def _check(row: dict[str, Any]) -> LiveCheck:
    tokens = row["weak_token_logprobs"]
    came = Signals(None if tokens is None else tuple(tokens), row["weak_mean_logprob"], row["weak_self_check"])
    return LiveCheck(
        created_s=row["created"],
        policy=row["policy"],
        is_escalated=row["verdict"] == Verdict.ESCALATE,
        p_match=math.nan if row["p_match_checked"] is None else row["p_match_checked"],
        used=frozenset(row["signals_used"] or ()),
        log_characters=math.log1p(row["answer_characters"] or 0),
        signals=signals_of(came),
    )


def with_second_look(
    report: DriftReport, bundle: Bundle, rows: Sequence[LiveRow], checks: Sequence[LiveCheck]
) -> DriftReport:
    """Return the report with what the verdicts say; as it is where the bundle has no second look."""
    if bundle.checker is None:
        return report
    unknown = dict(report.unknown)
    measures = _shares(bundle.manifest, rows, checks, unknown)
    if len(checks) < MIN_ROWS:
        unknown["verdicts"] = f"{len(checks)} verdicts, at least {MIN_ROWS} are needed"
    else:
        measures += _gone(bundle.manifest, checks) + _spreads(bundle.manifest, checks, unknown)
    both = sorted([*report.measures, *measures], key=lambda one: -one.value / one.limit)
    return msgspec.structs.replace(report, measures=both, unknown=unknown)


def _shares(
    manifest: Manifest, rows: Sequence[LiveRow], checks: Sequence[LiveCheck], unknown: dict[str, str]
) -> list[DriftMeasure]:
    """Return how far tries, escalations and missing verdicts are from what the policies had."""
    can = [(row, rule) for row in rows if row.can_check and (rule := _rule(manifest, row.policy)) is not None]
    judged = [(one, rule) for one in checks if (rule := _rule(manifest, one.policy)) is not None and rule.share_tried]
    found = []
    if len(can) >= MIN_ROWS:
        tried = sum(row.action == Action.TRY for row, _ in can)
        expected = float(np.mean([rule.share_tried for _, rule in can]))
        found.append(_off("tried", tried, len(can), expected, _measured_on(manifest)))
        n_answered = len(checks)
        found.append(_off("unchecked", max(0, tried - n_answered), max(1, tried), 0.0, None))
    else:
        unknown["tried"] = f"{len(can)} requests whose caller checks, at least {MIN_ROWS} are needed"
    if len(judged) >= MIN_ROWS:
        expected = float(np.mean([min(1.0, rule.share_escalated / rule.share_tried) for _, rule in judged]))
        n = sum(one.is_escalated for one, _ in judged)
        found.append(_off("escalated", n, len(judged), expected, _measured_on(manifest)))
    return found


def _rule(manifest: Manifest, name: str) -> CheckedPolicy | None:
    try:
        rule = manifest.policy(name).checked
    except UnknownName:
        return None
    return rule if rule is not None and rule.is_met else None


def _measured_on(manifest: Manifest) -> int | None:
    return None if manifest.second_look is None else max(1, manifest.second_look.n)


def _off(name: str, count: int, n: int, expected: float, n_expected: int | None) -> DriftMeasure:
    """Return how far a share is from what is expected, with what chance allows."""
    return _measure(DriftReading(name, abs(count / n - expected), _limit(count / n, n, expected, n_expected)))


def _limit(share: float, n: int, other: float, n_other: int | None) -> float:
    pooled = (share * n + other * (n_other or n)) / (n + (n_other or n))
    chance = NORMAL * math.sqrt(pooled * (1 - pooled) * (1 / n + (1 / n_other if n_other else 0.0)))
    return max(SHARE_FLOOR, chance)


def _gone(manifest: Manifest, checks: Sequence[LiveCheck]) -> list[DriftMeasure]:
    """Return for each kind of signal by how much the share of answers that count it fell, over its limit the most.

    Held against the parts of the log before, and against training: where that had it for most answers, a log that has
    none from its beginning on is no better.
    """
    found = []
    taught = manifest.second_look
    n_taught = 0 if taught is None else taught.n_tried
    for name in SIGNALS:
        has = np.array([name in one.used for one in checks], dtype=np.float64)
        falls = [_fall(has[:start], has[start:end]) for start, end in _parts(has.size)]
        trained = sum(next((one.n for one in taught.spreads if one.name == name), [])) if taught is not None else 0
        if n_taught:
            share = trained / n_taught
            falls.append((share - float(has.mean()), _limit(float(has.mean()), has.size, share, n_taught)))
        if has.any() or trained:
            value, limit = max(falls, key=lambda fall: fall[0] / fall[1])
            found.append(_measure(DriftReading(f"{name}_gone", max(0.0, value), limit)))
    return found


def _parts(n: int) -> list[tuple[int, int]]:
    """Return begin and end of each part of the log but the first."""
    ends = [n * part // PARTS for part in range(1, PARTS + 1)]
    return list(itertools.pairwise(ends))


def _fall(before: Floats, then: Floats) -> tuple[float, float]:
    was, now = float(before.mean()), float(then.mean())
    return was - now, _limit(now, then.size, was, before.size)


def _spreads(manifest: Manifest, checks: Sequence[LiveCheck], unknown: dict[str, str]) -> list[DriftMeasure]:
    if manifest.second_look is None or not manifest.second_look.spreads:
        unknown["p_match_checked, log_characters, signals"] = NO_BASELINE
        return []
    signals = np.array([one.signals for one in checks])
    values = {
        "p_match_checked": np.array([one.p_match for one in checks]),
        "log_characters": np.array([one.log_characters for one in checks]),
        **dict(zip(SIGNALS, signals.T, strict=True)),
    }
    found = []
    for spread in manifest.second_look.spreads:
        known = values[spread.name][~np.isnan(values[spread.name])]
        if known.size < MIN_ROWS:
            unknown[spread.name] = f"{known.size} verdicts with it, at least {MIN_ROWS} are needed"
            continue
        bins = bins_of(spread.name, spread.edges, spread.n)
        counts = np.bincount(bins.codes(known), minlength=len(bins.n)).tolist()
        shares = [[one / sum(all_of) for one in all_of] for all_of in (bins.n, counts)]
        read = _measure(psi_reading(spread.name, bins.n, counts))
        found.append(msgspec.structs.replace(read, cuts=bins.cuts.tolist(), expected=shares[0], found=shares[1]))
    return found


def _measure(reading: DriftReading) -> DriftMeasure:
    return DriftMeasure(reading.measure, reading.value, reading.limit, reading.is_beyond)
