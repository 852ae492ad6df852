"""Predict with a bundle, as it would be served: the graph, one prompt at a time.

Comes in: a bundle and logs or prompts. Goes out: one prediction a row (Parquet).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import SEEN_GROUPS, Bundle
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.decision import (
    NO_RULES,
    action_of,
    check_content,
    model_decision,
    rule_of_three,
    ruled_decision,
)
from turnout.serving.decision.judging import accept_threshold, look_again, verdict_of
from turnout.serving.decision.routes import Reason, Route, Verdict
from turnout.serving.decision.rules.rules import Facts
from turnout.serving.errors import InvalidRequest
from turnout.serving.router.checker import CheckHead
from turnout.serving.router.model import Prediction
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.ladder import LadderRead
from turnout.training.errors import DataRefused
from turnout.training.files import write_parquet
from turnout.training.logs.quarantine import Rejected
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of
from turnout.training.progress import Reporter

Item = TypeVar("Item")
Result = TypeVar("Result")

DIGEST_BYTES = 8
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("p_match", pa.float64()),
        ("route", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("p_match_checked", pa.float64()),
        ("action", pa.string()),
        ("verdict", pa.string()),
        ("p_rungs", pa.list_(pa.float64())),
        ("rung", pa.string()),
    ]
)
"""`p_rungs`, p of each rung between, and `rung`, which answers with one look, only of ladders. The three before them
only of bundles with a second look: the `action` of a caller that checks, and of rows with the weak model's answer what
the second look says of it."""


@dataclass(frozen=True, slots=True)
class PredictedRow:
    """One line of the predictions; `p_match` and `stage` are None only with reason INVALID.

    `action` is None where the bundle has no second look, `p_match_checked` and `verdict` also where the row has no
    answer of the weak model; `p_match_checked` alone where nothing vouches for it.
    """

    id: str | None
    source: str | None
    p_match: float | None
    route: Route
    stage: str | None
    reason: Reason
    p_match_checked: float | None = None
    action: str | None = None
    verdict: str | None = None
    p_rungs: tuple[float, ...] | None = None
    rung: str | None = None


def predict_rows(
    bundle: Bundle, rows: Sequence[Record | Rejected], policy: Policy, *, early_exit: bool, reporter: Reporter
) -> list[PredictedRow]:
    """Return one prediction a row, in order; the model runs even where a guard decides."""

    def predict_one(row: Record | Rejected) -> PredictedRow:
        if isinstance(row, Rejected):
            return PredictedRow(row.id, None, None, Route.STRONG, None, Reason.INVALID)
        try:
            check_content(row.prompt)
        except InvalidRequest:
            return PredictedRow(row.id, row.source, None, Route.STRONG, None, Reason.INVALID)
        prediction = bundle.model.predict(row.prompt, policy.threshold, early_exit=early_exit)
        pair, before = bundle.manifest.pair, NO_RULES.before(Facts(row.prompt))
        decision = ruled_decision(pair, policy, before) if before.route else model_decision(pair, policy, prediction)
        return PredictedRow(
            row.id,
            row.source,
            prediction.p_match,
            decision.route,
            prediction.stage,
            decision.reason,
            *_second_look(bundle, row, policy, prediction, rules=bool(before.route)),
            *_rungs(bundle, row, policy, decision.route, decision.reason),
        )

    with reporter.stage("Predicting", len(rows)) as advance:
        return list(in_threads(predict_one, rows, advance))


def _rungs(
    bundle: Bundle, row: Record, policy: Policy, route: Route, reason: Reason
) -> tuple[tuple[float, ...] | None, str | None]:
    """Return p of the rungs between, and which rung answers with one look; None twice for a pair.

    What the first rung does not get goes to the first between whose p reaches the policy's, and to the top where none
    does or where something else than the model decides.
    """
    if bundle.rung_heads is None:
        return None, None
    p_rungs = bundle.rung_heads.p_rungs(bundle.model.featurize(row.prompt))
    first, *between, top = bundle.manifest.ladder
    if route is Route.WEAK:
        return p_rungs, first.name
    wanted = () if policy.t_rungs is msgspec.UNSET or reason is not Reason.MODEL else policy.t_rungs
    reached = (one.name for one, p, t in zip(between, p_rungs, wanted, strict=False) if p >= t)
    return p_rungs, next(reached, top.name)


def _second_look(
    bundle: Bundle, row: Record, policy: Policy, prediction: Prediction, *, rules: bool
) -> tuple[float | None, str | None, str | None]:
    """Return p_match of the second look, the action of a caller that checks, and the verdict."""
    if bundle.checker is None:
        return None, None, None
    checked = rule_of_three(bundle, policy, can_check=True)
    action = str(Route.STRONG) if rules else str(action_of(policy, prediction, checked)).lower()
    answer = answer_of(row)
    if answer is None:
        return None, action, None
    if answer[0].is_nothing:
        return None, action, str(Verdict.ESCALATE)
    found = look_again(bundle, row.prompt, *answer)
    p_match = None if found.head is CheckHead.NONE else found.p_match
    return p_match, action, str(verdict_of(found, accept_threshold(policy))).lower()


def write_predictions(path: Path, rows: Sequence[PredictedRow]) -> None:
    """Write the predictions as Parquet; `source` only where a row has one."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    columns["route"] = [str(row.route) for row in rows]
    columns["reason"] = [str(row.reason) for row in rows]
    if not any(columns["source"]):
        del columns["source"]
    if not any(columns["action"]):
        del columns["p_match_checked"], columns["action"], columns["verdict"]
    if not any(columns["rung"]):
        del columns["p_rungs"], columns["rung"]
    schema = pa.schema([field for field in SCHEMA if field.name in columns])
    write_parquet(path, pa.table(columns, schema=schema))


def seen_rows(bundle: Bundle, data: Dataset | LadderRead) -> NDArray[np.bool_]:
    """Return (n,) whether a row's group holds a row that the bundle was trained on.

    Raises:
        DataRefused: the rows are known by digests of another salt than the bundle's.
    """
    raw = (bundle.folder / SEEN_GROUPS).read_bytes()
    known = {raw[start : start + DIGEST_BYTES] for start in range(0, len(raw), DIGEST_BYTES)}
    salt, groups = bundle.manifest.training.group_salt, data.groups
    if groups.salt not in (None, salt):
        raise DataRefused(
            f"{bundle.folder}: its digests of the rows it has seen have another salt than those of the rows, so that "
            "nobody can tell which these are; name the bundle that logged them, or one retrained from it"
        )
    rows = np.arange(groups.group.size)
    is_known = np.array([not known.isdisjoint(groups.digests(rows[row : row + 1], salt)) for row in rows], dtype=bool)
    seen_groups = np.unique(groups.group[is_known])
    return np.isin(groups.group, seen_groups)


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], advance: Callable[[int], None]
) -> Iterator[Result]:
    """Yield what a function makes of items, in order, on all cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for result in pool.map(function, items):
            advance(1)
            yield result
