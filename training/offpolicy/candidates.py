"""Candidates: where a bundle's policies would have sent the requests of a log.

Comes in: logged rows, the bundle, names of policies. Goes out: the rows that the bundle has a p_match for, and a
`Candidate` a policy. Requests that this very bundle decided on are taken at the p_match that it logged; those of other
bundles are scored anew, where the log kept their prompts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from turnout.serving.bundles.bundle import NEVER, Manifest, Policy, load_bundle
from turnout.serving.decision.decision import threshold_policy
from turnout.serving.errors import ModelFault, UnknownName
from turnout.serving.router.prompt import Prompt
from turnout.training.arrays import Bools, Floats
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.replay import Candidate
from turnout.training.offpolicy.rows import LoggedRows

OWN_THRESHOLD = "threshold="


@dataclass(frozen=True, slots=True)
class Scored:
    """The rows that a bundle can be replayed on.

    Attributes:
        rows: those with a p_match, and those that a rule decided.
        goes_strong: (n,) whether the bundle finds a row out of distribution.
        rescored: rows scored anew, as another bundle had decided on them.
        unscored: rows left out, for want of their prompt.
    """

    rows: LoggedRows
    goes_strong: Bools
    rescored: int
    unscored: int


def named_policies(manifest: Manifest, names: Sequence[str]) -> list[Policy]:
    """Return policies of a bundle by name, `threshold=0.9` for a plain threshold; its default one for no names.

    Raises:
        UnknownName: the bundle has no such policy.
        InvalidRequest: a threshold outside of [0, 1].
    """
    return [_named(manifest, name) for name in names or [manifest.default_policy]]


def _named(manifest: Manifest, name: str) -> Policy:
    if not name.startswith(OWN_THRESHOLD):
        return manifest.policy(name)
    try:
        return threshold_policy(float(name.removeprefix(OWN_THRESHOLD)))
    except ValueError:
        raise UnknownName(f"policy: expected a number in [0, 1] behind {OWN_THRESHOLD}, got {name!r}") from None


def candidates(scored: Scored, policies: Sequence[Policy]) -> list[Candidate]:
    """Return where each policy would have sent the rows, and what it would have accepted of those it tries."""
    return [_candidate(scored, policy) for policy in policies]


def _candidate(scored: Scored, policy: Policy) -> Candidate:
    rows = scored.rows
    p_match = np.nan_to_num(rows.p_match)
    takes_weak = (p_match >= policy.threshold) & ~scored.goes_strong
    checked = policy.checked
    if checked is None or not checked.is_met or not rows.tries.can_check.any():
        return Candidate(policy.name, policy.threshold, np.where(rows.is_ruled, rows.is_weak, takes_weak))
    goes_weak = (p_match >= checked.t_weak) & ~scored.goes_strong
    is_tried = ~goes_weak & ((p_match >= checked.t_strong) | scored.goes_strong) & (checked.t_accept < NEVER)
    is_open = rows.tries.can_check & ~rows.is_ruled
    takes_weak = np.where(rows.tries.can_check, goes_weak | is_tried, takes_weak)
    return Candidate(
        policy.name,
        policy.threshold,
        np.where(rows.is_ruled, rows.is_weak, takes_weak),
        is_tried & is_open,
        np.nan_to_num(rows.tries.p_checked, nan=-1.0) >= checked.t_accept,
        checked.t_accept,
    )


def scored_by(
    rows: LoggedRows, folder: Path, manifest: Manifest, prompts: Callable[[], pa.Table], *, early_exit: bool = True
) -> Scored:
    """Return the rows with what a bundle says of them.

    Args:
        rows: of the log.
        folder: of the bundle, which is opened only where other bundles decided.
        manifest: the bundle's.
        prompts: reads the log's table again, with its texts.
        early_exit: whether the fast head may answer.

    Raises:
        DataRefused: no row is left.
    """
    foreign = ~rows.is_ruled & (rows.bundle != manifest.bundle_id)
    p_match = np.where(foreign, np.nan, rows.p_match)
    goes_strong = rows.is_unfamiliar & ~foreign
    if foreign.any():
        _rescore(rows, foreign, folder, prompts(), p_match, goes_strong, early_exit=early_exit)
    usable = rows.is_ruled | ~np.isnan(p_match)
    if not usable.any():
        raise DataRefused(
            f"no decision of the log is by {manifest.bundle_id}, and no prompt was kept to ask it again "
            "(--log-decisions full); name the bundle that decided with --bundle"
        )
    tries = dataclasses.replace(rows.tries, chose_try=rows.tries.chose_try & ~foreign)  # judged by another second look
    left = dataclasses.replace(rows, p_match=p_match, tries=tries).only(usable)
    return Scored(left, goes_strong[usable], int((foreign & usable).sum()), int((~usable).sum()))


def _rescore(
    rows: LoggedRows,
    foreign: Bools,
    folder: Path,
    table: pa.Table,
    p_match: Floats,
    goes_strong: Bools,
    *,
    early_exit: bool,
) -> None:
    """Fill `p_match` and `goes_strong` of foreign rows whose prompt was kept.

    The threshold that places the exit band is the bundle's default: it moves an answer by what the two heads differ.
    """
    kept = np.flatnonzero(foreign)
    names = ("prompt", "prompt_turns", "prompt_images", "prompt_tools", "prompt_wants_json")
    found = table.select(names).take(pa.array(rows.table_row[kept])).to_pylist()
    texts = [(row, one) for row, one in zip(kept, found, strict=True) if one["prompt"] is not None]
    if not texts:
        return
    bundle = load_bundle(folder)
    threshold = bundle.manifest.policy("").threshold
    for row, one in texts:
        prompt = Prompt(
            one["prompt"],
            turns=one["prompt_turns"] or 1,
            images=one["prompt_images"] or 0,
            tools=one["prompt_tools"] or 0,
            wants_json=bool(one["prompt_wants_json"]),
        )
        try:
            prediction = bundle.model.predict(prompt, threshold, early_exit=early_exit)
        except ModelFault:
            continue
        p_match[row], goes_strong[row] = prediction.p_match, prediction.is_out_of_distribution
