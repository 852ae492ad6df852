"""Live rows: what a log says of recent traffic, as arrays that are held against the baseline.

Comes in: compacted decision logs, or any log that `turnout label` reads. Goes out: `LiveRows`.

Of a decision the recorded `p_match` counts, which the caller got, and the recorded measures; where only the text was
kept, measures are taken from it. Rows of another kind of log are sent through the bundle's model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.routes import Action, Reason
from turnout.serving.observe.drift.calibration import match_from
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.serving.router.prompt import Prompt
from turnout.training.errors import DataRefused
from turnout.training.labels import label_records
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record
from turnout.training.logs.sources import find_logs
from turnout.training.logs.stored_files import LogFile

DECISION_COLUMN = "prompt_digest"
"""Only compacted decisions have it."""

DECISIONS, CHECKS = "decisions", "checks"
"""Folders of decisions and of verdicts in a store of compacted logs."""

_COLUMNS = (
    "id", "created", "task", "session_id", "prompt", "prompt_turns", "prompt_images", "prompt_tools",
    "prompt_wants_json", "p_match", "reason", "bundle", "structural", "feature_schema", "responses", "preference",
    "policy", "action", "can_check", "wants_both", "rung", "rungs", "p_rungs", "other_rung",
)  # fmt: skip


class _Answer(msgspec.Struct, frozen=True):
    score: float | None = None


@dataclass(frozen=True)
class Span:
    """From when to when, in seconds since 1970; None for open ends. Rows without a time are in every open span."""

    since_s: float | None = None
    until_s: float | None = None

    def holds(self, created_s: float | None) -> bool:
        """Whether a row of that time is meant."""
        if created_s is None:
            return self.since_s is None and self.until_s is None
        return (self.since_s is None or created_s >= self.since_s) and (
            self.until_s is None or created_s < self.until_s
        )


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One request; what is not known is None. Rows of one `session` belong together.

    `policy`, `action` and `can_check` are those of decisions alone. `of_rungs` has each rung between that was compared
    with the top: its name, its p, and whether it was not worse.
    """

    created_s: float | None
    task: str
    session: str
    p_match: float
    is_out_of_distribution: bool
    structural: NDArray[np.float32] | None
    match: int | None
    prompt: Prompt | None
    policy: str = ""
    action: str = ""
    can_check: bool = False
    of_rungs: tuple[tuple[str, float, int], ...] = ()


@dataclass
class LiveRows:
    """Rows in the order of their time, and how many were left out.

    Attributes:
        rows: those that are compared.
        n_outside: of another time.
        n_other_bundles: decided by another bundle.
        n_without_model: decided without the model, by a rule or a guard.
        n_unreadable: rows in quarantine.
    """

    rows: list[LiveRow] = field(default_factory=list)
    n_outside: int = 0
    n_other_bundles: int = 0
    n_without_model: int = 0
    n_unreadable: int = 0


def read_live(paths: Sequence[LogFile], bundle: Bundle, reading: Reading, span: Span) -> LiveRows:
    """Read logs; decision logs are known by their columns.

    Raises:
        DataRefused: a file can't be read, or no row is left to compare.
    """
    found = LiveRows()
    others = []
    for path in paths:
        if _is_decision_log(path):
            _add_decisions(found, path, bundle, span)
        else:
            others.append(path)
    if others:
        _add_log(found, others, bundle, reading, span)
    if not found.rows:
        raise DataRefused(
            f"no row to compare with {bundle.manifest.bundle_id}: {found.n_other_bundles} decided by other bundles, "
            f"{found.n_without_model} without the model, {found.n_outside} of another time, "
            f"{found.n_unreadable} unreadable"
        )
    found.rows.sort(key=lambda row: row.created_s or 0.0)
    return found


def named_files(named: Sequence[str]) -> list[LogFile]:
    """Return the files that the arguments name; of a folder that `turnout logs compact` wrote, those of decisions.

    Raises:
        DataRefused: one names no file.
    """
    found: list[LogFile] = []
    for one in named:
        decisions = Path(one) / DECISIONS
        found += find_logs([f"{decisions}/day=*/*.parquet" if decisions.is_dir() else one])
    return found


def named_checks(named: Sequence[str]) -> list[LogFile]:
    """Return the files of verdicts in the folders among the arguments that `turnout logs compact` wrote."""
    folders = [Path(one) / CHECKS for one in named]
    return [path for folder in folders if folder.is_dir() for path in find_logs([f"{folder}/day=*/*.parquet"])]


def _is_decision_log(path: LogFile) -> bool:
    if not path.name.endswith(".parquet"):
        return False
    try:
        with path.open("rb") as file:
            return DECISION_COLUMN in pq.read_schema(file).names
    except (OSError, pa.ArrowException) as error:
        raise DataRefused(f"{path}: not a readable Parquet file: {error}") from error


def _add_decisions(found: LiveRows, path: LogFile, bundle: Bundle, span: Span) -> None:
    with path.open("rb") as file:
        table = pq.ParquetFile(file).read(columns=list(_COLUMNS))
    for row in table.to_pylist():
        if not span.holds(row["created"]):
            found.n_outside += 1
        elif row["bundle"] != bundle.manifest.bundle_id:
            found.n_other_bundles += 1
        elif row["p_match"] is None:
            found.n_without_model += 1
        else:
            found.rows.append(_decided(row, bundle))


def _decided(row: dict[str, Any], bundle: Bundle) -> LiveRow:
    # Both answers of a request that was tried are there because the second look doubted the first: no fair sample.
    is_fair = row.get("action") != Action.TRY or bool(row.get("wants_both"))
    margin = bundle.manifest.match_margin
    prompt = None if row["prompt"] is None else _prompt(row)
    return LiveRow(
        created_s=row["created"],
        task=row["task"] or "",
        session=row["session_id"] or row["id"] or "",
        p_match=row["p_match"],
        is_out_of_distribution=row["reason"] == Reason.OUT_OF_DISTRIBUTION,
        structural=_structural(row, prompt, bundle),
        match=match_from(_preference(row), _scores(row["responses"], bundle), margin) if is_fair else None,
        prompt=prompt,
        policy=row["policy"],
        action=row.get("action") or "",
        can_check=bool(row.get("can_check")),
        of_rungs=_of_rungs(row, bundle) if is_fair else (),
    )


def _preference(row: dict[str, Any], lower: str | None = None) -> str:
    """Return a person's; of a ladder where it is between a rung, the first for None, and the top."""
    names = row.get("rungs")
    if names and {row["rung"], row["other_rung"]} != {lower or names[0], names[-1]}:
        return ""
    return row["preference"] or ""


def _of_rungs(row: dict[str, Any], bundle: Bundle) -> tuple[tuple[str, float, int], ...]:
    names, p_rungs = row.get("rungs"), row.get("p_rungs")
    if not names or not p_rungs:
        return ()
    answers = msgspec.json.decode(row["responses"] or b"{}", type=dict[str, _Answer])
    score = {name: one.score for name, one in answers.items() if one.score is not None}
    found = []
    for name, p in zip(names[1:-1], p_rungs, strict=True):
        known = {tier: score[one] for tier, one in (("weak", name), ("strong", names[-1])) if one in score}
        match = match_from(_preference(row, name), known, bundle.manifest.match_margin)
        if match is not None:
            found.append((name, p, match))
    return tuple(found)


def _prompt(row: dict[str, Any]) -> Prompt:
    return Prompt(
        text=row["prompt"],
        turns=row["prompt_turns"],
        images=row["prompt_images"],
        tools=row["prompt_tools"],
        wants_json=row["prompt_wants_json"],
    )


def _structural(row: dict[str, Any], prompt: Prompt | None, bundle: Bundle) -> NDArray[np.float32] | None:
    if row["structural"] and row["feature_schema"] == SCHEMA_VERSION == bundle.manifest.feature_schema:
        return np.array(row["structural"], np.float32)
    return None if prompt is None else bundle.model.featurize(prompt).structural


def _scores(responses: str | None, bundle: Bundle) -> dict[str, float]:
    """Return the scores of both models by tier, as far as outcomes told them."""
    if not responses:
        return {}
    pair = {"strong": bundle.manifest.pair.strong, "weak": bundle.manifest.pair.weak}
    answers = msgspec.json.decode(responses, type=dict[str, _Answer])
    return {
        tier: answer.score
        for tier, model in pair.items()
        for name, answer in answers.items()
        if answer.score is not None and is_model(name, model)
    }


def _add_log(found: LiveRows, paths: Sequence[LogFile], bundle: Bundle, reading: Reading, span: Span) -> None:
    manifest = bundle.manifest
    read = read_records(paths, manifest.pair, reading).joined(reading.join)
    found.n_unreadable += len(read.quarantine)
    records = [record for record in read.records if span.holds(record.created)]
    found.n_outside += len(read.records) - len(records)
    labelled = label_records(records, margin=manifest.match_margin).labelled
    match = {row.record.place: row.label.match for row in labelled}
    found.rows.extend(_predicted(records, bundle, match))


def _predicted(records: Sequence[Record], bundle: Bundle, match: dict[Any, int]) -> Iterable[LiveRow]:
    threshold = bundle.manifest.policy("").threshold

    def predict(record: Record) -> LiveRow:
        features = bundle.model.featurize(record.prompt)
        said = bundle.model.predict_features(features, threshold)
        return LiveRow(
            created_s=record.created,
            task=record.task or "",
            session=record.session_id or record.group_id or "/".join(map(str, record.place)),
            p_match=said.p_match,
            is_out_of_distribution=said.is_out_of_distribution,
            structural=features.structural,
            match=match.get(record.place),
            prompt=record.prompt,
        )

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(predict, records)
