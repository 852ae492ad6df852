"""What the bundles of a trial say of one record: first look, rungs between, second look, each asked for once."""

from __future__ import annotations

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.policy import CheckedPolicy, Policy
from turnout.serving.decision.decision import exit_thresholds
from turnout.serving.decision.judging import accept_threshold, escalation_of, look_again, verdict_of
from turnout.serving.decision.routes import Verdict
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.errors import ModelFault
from turnout.serving.router.checker import Checked
from turnout.serving.router.model import Prediction
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of


class TrialLooks:
    """What the bundles say of one record, each asked for once."""

    def __init__(self, record: Record, *, early_exit: bool) -> None:
        """Take the record, and whether the fast head may answer."""
        self.answer = answer_of(record)
        self._record = record
        self._early_exit = early_exit
        self._first: dict[tuple[str, float, float | None], Prediction | None] = {}
        self._rungs: dict[str, tuple[float, ...] | None] = {}
        self._second: dict[tuple[str, bool, bool], Checked | None] = {}

    def first(self, bundle: Bundle, policy: Policy, checked: CheckedPolicy | None) -> Prediction | None:
        """Return the prediction; None where the model gives no number."""
        threshold, also = exit_thresholds(policy, checked)
        key = bundle.manifest.bundle_id, threshold, also
        if key not in self._first:
            model = bundle.model
            try:
                features = model.featurize(self._record.prompt)
                self._first[key] = model.predict_between(features, threshold, also, early_exit=self._early_exit)
            except ModelFault:
                self._first[key] = None
        return self._first[key]

    def p_rungs(self, bundle: Bundle) -> tuple[float, ...] | None:
        """Return p of the rungs between, none for a pair; None where a head gives no number."""
        if bundle.rung_heads is None:
            return ()
        key = bundle.manifest.bundle_id
        if key not in self._rungs:
            try:
                self._rungs[key] = bundle.rung_heads.p_rungs(bundle.model.featurize(self._record.prompt))
            except ModelFault:
                self._rungs[key] = None
        return self._rungs[key]

    def escalated_to(
        self, bundle: Bundle, policy: Policy, offered: Offered | None, *, falls_back: bool, is_stranger: bool
    ) -> int:
        """Return the place of the rung that answers what is not accepted; the top where a head gives no number."""
        ladder = bundle.manifest.ladder
        if self.p_rungs(bundle) is None:
            return len(ladder) - 1
        prompt, names = self._record.prompt, {"falls_back": falls_back, "is_stranger": is_stranger}
        return escalation_of(bundle, ladder, policy, prompt, offered, **names).place

    def verdict(self, bundle: Bundle, policy: Policy, *, falls_back: bool, is_stranger: bool) -> Verdict | None:
        """Return what becomes of the weak answer; None where the log lacks it.

        A second look that gives no number ends at the strong model.
        """
        if self.answer is None:
            return None
        if self.answer[0].is_nothing:
            return Verdict.ESCALATE
        key = bundle.manifest.bundle_id, falls_back, is_stranger
        if key not in self._second:
            prompt = self._record.prompt
            try:
                found = look_again(bundle, prompt, *self.answer, falls_back=falls_back, is_stranger=is_stranger)
                self._second[key] = found
            except ModelFault:
                self._second[key] = None
        said = self._second[key]
        return Verdict.ESCALATE if said is None else verdict_of(said, accept_threshold(policy))
