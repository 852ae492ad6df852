"""Candidates: where a bundle's policies would have sent the requests of a log.

Comes in: logged rows, the bundle, names of policies. Goes out: the rows that the bundle has a p_match for, and a
`Candidate` a policy. Requests that this very bundle decided on are taken at the p_match that it logged; those of other
bundles are scored anew, where the log kept their prompts. So are checked answers, by the bundle's own second look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import NEVER, Policy
from turnout.serving.decision.decision import threshold_policy
from turnout.serving.decision.judging import look_again
from turnout.serving.errors import ModelFault, UnknownName
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.checker import CheckHead
from turnout.serving.router.prompt import Prompt
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.observed import Verdicts
from turnout.training.offpolicy.replay import Candidate
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.verdicts import ANSWERS

OWN_THRESHOLD = "threshold="
ROWS_AT_ONCE = 4096
"""Whose texts are held as Python objects at a time."""
TEXTS = (
    *("prompt", "prompt_turns", "prompt_images", "prompt_tools", "prompt_wants_json"),
    *ANSWERS.names,
    "self_check",
)


@dataclass(frozen=True, slots=True)
class Scored:
    """The rows that a bundle can be replayed on.

    Attributes:
        rows: those with a p_match, and those that a rule decided.
        goes_strong: (n,) whether the bundle finds a row out of distribution.
        p_checked: (n,) what its second look says of the answers that were checked; NaN where nothing vouches for one.
        is_read: (n,) whether that has read the answer.
        is_own: (n,) whether it gave the log's verdict, or would have.
        unscored: rows left out, for want of their prompt.
        rescored: rows scored anew, as another bundle had decided on them.
        elsewhere: rows left out, of other ladders or of a pair where the bundle has a ladder.
    """

    rows: LoggedRows
    goes_strong: Bools
    p_checked: Floats
    is_read: Bools
    is_own: Bools
    rescored: int
    unscored: int
    elsewhere: int = 0

    @property
    def rechecked(self) -> int:
        """Answers that another second look had checked, and this one did again."""
        return int((self.is_read & ~self.is_own).sum())

    @property
    def unread(self) -> int:
        """Answers that another second look had checked, and this one could not read."""
        return int((self.rows.tries.is_checked & ~self.is_read).sum())


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
    above = _above(scored, policy, policy.t_rungs)
    takes_weak = (p_match >= policy.threshold) & ~scored.goes_strong
    checked = policy.checked
    if checked is None or not checked.is_met or not rows.tries.can_check.any():
        takes_weak = np.where(rows.is_ruled, rows.is_weak, takes_weak)
        return Candidate(policy.name, policy.threshold, takes_weak, above=_unless_ruled(rows, above))
    goes_weak = (p_match >= checked.t_weak) & ~scored.goes_strong
    is_tried = ~goes_weak & ((p_match >= checked.t_strong) | scored.goes_strong) & (checked.t_accept < NEVER)
    is_open = rows.tries.can_check & ~rows.is_ruled
    takes_weak = np.where(rows.tries.can_check, goes_weak | is_tried, takes_weak)
    accepts = np.nan_to_num(scored.p_checked, nan=-1.0) >= checked.t_accept
    escalates_to = _above(scored, policy, checked.t_rungs)
    return Candidate(
        policy.name,
        policy.threshold,
        np.where(rows.is_ruled, rows.is_weak, takes_weak),
        is_tried & is_open,
        Verdicts(accepts, checked.t_accept, scored.is_read, scored.is_own, escalates_to),
        _unless_ruled(rows, np.where(rows.tries.can_check, escalates_to, above)),
    )


def _above(scored: Scored, policy: Policy, t_rungs: tuple[float, ...] | msgspec.UnsetType) -> Ints:
    """(n,) column of what a policy sends past the weak model: the first rung between that it allows, else the top."""
    rows = scored.rows
    p = np.nan_to_num(rows.p_rungs, nan=-1.0)
    if t_rungs is msgspec.UNSET:
        t_rungs = (policy.threshold if policy.kind == "threshold" else NEVER,) * p.shape[1]
    allowed = (p >= np.array(t_rungs, dtype=np.float64)) & ~scored.goes_strong[:, None]
    return np.where(allowed.any(axis=1), allowed.argmax(axis=1) + 1, rows.top) if p.shape[1] else _all_to_top(rows)


def _all_to_top(rows: LoggedRows) -> Ints:
    return np.full(len(rows), rows.top)


def _unless_ruled(rows: LoggedRows, above: Ints) -> Ints:
    return np.where(rows.is_ruled, np.maximum(rows.taken, 1), above)


def scored_by(
    rows: LoggedRows, folder: Path, manifest: Manifest, texts: Callable[[], pa.Table], *, early_exit: bool = True
) -> Scored:
    """Return the rows with what a bundle says of them.

    Args:
        rows: of the log; those of other ladders are left out.
        folder: of the bundle, which is opened only where other bundles decided or checked.
        manifest: the bundle's.
        texts: reads the log's table again, with its texts.
        early_exit: whether the fast head may answer.

    Raises:
        DataRefused: no row is left.
    """
    n_all, names = len(rows), () if manifest.rungs is msgspec.UNSET else [rung.name for rung in manifest.rungs]
    rows = rows.of_ladder(names)
    if not len(rows):
        wanted = "ladder" if names else "pair"
        raise DataRefused(
            f"no decision of the log is of the {wanted} of {manifest.bundle_id}; name the bundle that decided with "
            "--bundle"
        )
    foreign = ~rows.is_ruled & (rows.bundle != manifest.bundle_id)
    looker = np.where(rows.tries.is_checked, rows.tries.judged_by, rows.bundle)
    is_own = np.asarray(looker == manifest.bundle_id)
    is_read = rows.tries.is_checked & is_own
    p_checked = np.where(is_read, rows.tries.p_checked, np.nan)
    p_match = np.where(foreign, np.nan, rows.p_match)
    p_rungs = np.where(foreign[:, None], np.nan, rows.p_rungs)
    goes_strong = rows.is_unfamiliar & ~foreign
    if (foreign | (rows.tries.is_checked & ~is_own)).any():
        asking = _Asking(load_bundle(folder), rows, texts(), early_exit=early_exit)
        asking.rescore(foreign, p_match, p_rungs, goes_strong)
        asking.recheck(rows.tries.is_checked & ~is_own, p_checked, is_read)
    usable = rows.is_ruled | ~np.isnan(p_match)
    if not usable.any():
        raise DataRefused(
            f"no decision of the log is by {manifest.bundle_id}, and no prompt was kept to ask it again "
            "(--log-decisions full); name the bundle that decided with --bundle"
        )
    left = dataclasses.replace(rows, p_match=p_match, p_rungs=p_rungs).only(usable)
    looks = goes_strong[usable], p_checked[usable], is_read[usable], is_own[usable]
    return Scored(left, *looks, int((foreign & usable).sum()), int((~usable).sum()), n_all - len(rows))


class _Asking:
    """Asks a bundle of prompts and answers that a log kept."""

    def __init__(self, bundle: Bundle, rows: LoggedRows, table: pa.Table, *, early_exit: bool) -> None:
        self._bundle = bundle
        self._rows = rows
        self._table = table
        self._early_exit = early_exit

    def rescore(self, which: Bools, p_match: Floats, p_rungs: Floats, goes_strong: Bools) -> None:
        """Fill `p_match`, `p_rungs` and `goes_strong` of rows whose prompt was kept.

        The threshold that places the exit band is the bundle's default: it moves an answer by what the heads differ.
        """
        threshold = self._bundle.manifest.policy("").threshold
        for row, one in self._texts(which):
            try:
                features = self._bundle.model.featurize(_prompt(one))
                prediction = self._bundle.model.predict_features(features, threshold, early_exit=self._early_exit)
                if self._bundle.rung_heads is not None:
                    p_rungs[row] = self._bundle.rung_heads.p_rungs(features)
            except ModelFault:
                continue
            p_match[row], goes_strong[row] = prediction.p_match, prediction.is_out_of_distribution

    def recheck(self, which: Bools, p_checked: Floats, is_read: Bools) -> None:
        """Fill `p_checked` and `is_read` of rows whose checked answer was kept, beside its prompt."""
        if self._bundle.checker is None:
            return
        for row, one in self._texts(which):
            if one["weak_response"] is None:
                continue
            answer, signals = _answer(one)
            try:
                found = None if answer.is_nothing else look_again(self._bundle, _prompt(one), answer, signals)
            except ModelFault:  # the server fails, and its caller uses the strong model
                found = None
            is_read[row] = True
            p_checked[row] = np.nan if found is None or found.head is CheckHead.NONE else found.p_match

    def _texts(self, which: Bools) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the rows whose prompt was kept, with their texts."""
        for start in range(0, len(which), ROWS_AT_ONCE):
            places = start + np.flatnonzero(which[start : start + ROWS_AT_ONCE])
            table = self._table.select(TEXTS).take(pa.array(self._rows.table_row[places]))
            for row, one in zip(places.tolist(), table.to_pylist(), strict=True):
                if one["prompt"] is not None:
                    yield row, one


def _prompt(one: dict[str, Any]) -> Prompt:
    return Prompt(
        one["prompt"],
        turns=one["prompt_turns"] or 1,
        images=one["prompt_images"] or 0,
        tools=one["prompt_tools"] or 0,
        wants_json=bool(one["prompt_wants_json"]),
    )


def _answer(one: dict[str, Any]) -> tuple[Answer, Signals]:
    tokens, margins = one["weak_token_logprobs"], one["weak_top_margins"]
    answer = Answer(
        one["weak_response"],
        tool_calls=one["weak_tool_calls"] or 0,
        is_refusal=bool(one["weak_is_refusal"]),
        finish_reason=one["weak_finish_reason"] or "",
    )
    return answer, Signals(
        None if tokens is None else tuple(tokens),
        one["weak_mean_logprob"],
        one["self_check"],
        None if margins is None else tuple(margins),
    )
