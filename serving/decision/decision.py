"""From a prompt and a policy to a `Decision`; used by the service, the command line and `predict`.

Guards come before the model: they need no probability, and the strong model is always a safe answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.policy import NEVER, CheckedPolicy, Policy
from turnout.serving.decision.routes import Action, Reason, Route
from turnout.serving.decision.rules.budget import Exploration
from turnout.serving.decision.rules.exploring import After, Drawn
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.decision.rules.rules import Before, Facts, Rules
from turnout.serving.decision.rungs import NO_BAR, Bar, bar_of, ruled_place, rung_for, rungs_of_pair
from turnout.serving.errors import InvalidRequest
from turnout.serving.router.model import Prediction, Stage
from turnout.serving.router.prompt import Prompt

NO_RULES = Rules()


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One routing decision.

    Attributes:
        route: weak for the cheapest rung, strong for all above it.
        model: the model's name, as it is to be put into the `model` field of a request.
        p_match: calibrated probability of a match; None when the model did not run.
        confidence: `p_match` when weak, `1 - p_match` when strong, of a rung between its own p; None when the model did
            not run.
            Below 0.5 is normal for strong under a cautious policy: insurance bought. None too where the reason is
            OUT_OF_DISTRIBUTION: calibration holds for prompts like those of the training, so nothing says how sure
            the route is. `p_match` stays: it is what the model said, and worth logging for the next training.
        threshold: in [0, 1]; `p_match` at or above it goes weak.
        policy: the policy's name, `threshold=...` for an override.
        reason: what decided.
        stage: the head that answered; None when the model did not run.
        rule: name of the rule that applied; empty for none.
        rung: name of the rung, `model` or `model:effort`.
        effort: its reasoning effort; empty for none.
        place: of the rung on the ladder, 0 for the cheapest.
        n_rungs: of the ladder; the last is the top, which all are compared with.
        is_between: whether it is a rung between the cheapest and the top.
        p_rungs, t_rungs: of the rungs between, p of each and what it needs; empty for a pair.
        route_propensity: probability in (0, 1] that a request like this one takes this route; 1 without exploration.
        wants_both: whether the caller is asked to obtain both models' answers; the one of `model` is to be shown.
        pair_propensity: probability in [0, 1] that it is asked; 0 without such exploration.
        exploration: whether the request could be explored, and if not, why.
        is_tried: whether the weak model's answer is to be checked before anybody sees it.
        over_three: whether the rule over three actions decided.
        other: rung whose answer is wanted beside it; None for none, and for a pair.
        drawn: of a ladder that could be explored, how probable each rung was; None for a pair.
    """

    route: Route
    model: str
    p_match: float | None
    confidence: float | None
    threshold: float
    policy: str
    reason: Reason
    stage: Stage | None
    rule: str = ""
    rung: str = ""
    effort: str = ""
    place: int = 0
    n_rungs: int = 2
    is_between: bool = False
    p_rungs: tuple[float, ...] = ()
    t_rungs: tuple[float, ...] = ()
    route_propensity: float = 1.0
    wants_both: bool = False
    pair_propensity: float = 0.0
    exploration: Exploration = Exploration.NONE
    is_tried: bool = False
    over_three: bool = False
    other: Rung | None = None
    drawn: Drawn | None = None

    @property
    def action(self) -> Action:
        """What the caller is to do."""
        return Action.TRY if self.is_tried else Action.WEAK if self.route is Route.WEAK else Action.STRONG


def threshold_policy(threshold: float) -> Policy:
    """Return the policy that a caller's plain threshold stands for.

    Raises:
        InvalidRequest: the threshold is NaN or outside [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise InvalidRequest(f"threshold: expected a number in [0, 1], got {threshold}")
    return Policy(
        name=f"threshold={threshold:g}",
        kind="threshold",
        target=threshold,
        threshold=threshold,
        is_met=True,
        share_weak=float("nan"),
        quality_kept=None,
        share_worse=float("nan"),
    )


def check_content(prompt: Prompt) -> None:
    """Raise `InvalidRequest` when there is nothing to route: no text, no part of any kind, no tool."""
    if prompt.is_nothing:
        raise InvalidRequest("the request has no content: expected text, messages or an OpenAI body with some text")


def rule_of_three(bundle: Bundle, policy: Policy, *, can_check: bool) -> CheckedPolicy | None:
    """Return the thresholds over three actions, where they hold: for callers that check, and only if they were met.

    Where they could not keep the promise, the rule over two tiers holds, with its own. None then, and for everybody
    else: an answer that nobody will check is never routed as if it were checked.
    """
    checked = policy.checked
    is_usable = can_check and checked is not None and checked.is_met and bundle.checker is not None
    return checked if is_usable else None


def action_of(
    policy: Policy, prediction: Prediction, checked: CheckedPolicy | None = None, *, falls_back: bool = True
) -> Action:
    """Return the action that `p_match` and the thresholds give; arguments as in `model_decision`."""
    if checked is None:
        return Action.WEAK if prediction.goes_weak(policy.threshold, falls_back=falls_back) else Action.STRONG
    if not (falls_back and prediction.is_out_of_distribution):
        if prediction.p_match < checked.t_strong:
            return Action.STRONG
        if prediction.p_match >= checked.t_weak:
            return Action.WEAK
    return Action.TRY if checked.t_accept < NEVER else Action.STRONG  # nothing is tried that could not be accepted


def is_strange(bundle: Bundle, facts: Facts, before: Before) -> bool:
    """Return whether a request names a task or tenant of which the bundle has fewer labelled rows than rules ask for.

    A name tells nothing that is not given, that the logs behind the bundle never gave, or for which rules ask nothing.
    """
    task, tenants = facts.task, bundle.manifest.training.tenants
    if before.least_task_rows and task and bundle.tasks and bundle.tasks.get(task, 0) < before.least_task_rows:
        return True
    if not (before.least_tenant_rows and facts.tenant and tenants):
        return False
    return bundle.manifest.training.rows_of_tenant(facts.tenant) < before.least_tenant_rows


def as_stranger(prediction: Prediction) -> Prediction:
    """Return what the model said, of a request that is out of distribution by its name."""
    return msgspec.structs.replace(prediction, is_out_of_distribution=True)


def exit_thresholds(policy: Policy, checked: CheckedPolicy | None) -> tuple[float, float | None]:
    """Return the thresholds near which the fast head may not answer: one, or both that part three actions."""
    if checked is None:
        return policy.threshold, None
    within = [threshold for threshold in (checked.t_weak, checked.t_strong) if 0.0 < threshold <= 1.0]
    return (within[0] if within else 1.0), (within[1] if len(within) > 1 else None)


def decide(bundle: Bundle, prompt: Prompt, policy: Policy, *, early_exit: bool = True) -> Decision:
    """Route one prompt without a rules file; raises what `check_content` and `RouterModel.predict` raise."""
    check_content(prompt)
    before = NO_RULES.before(Facts(prompt))
    ladder = bundle.manifest.ladder
    if before.route is not None:
        return ruled_decision(bundle.manifest.pair, policy, before, ladder)
    if bundle.rung_heads is None:
        prediction = bundle.model.predict(prompt, policy.threshold, early_exit=early_exit)
        return model_decision(bundle.manifest.pair, policy, prediction)
    features = bundle.model.featurize(prompt)
    prediction = bundle.model.predict_features(features, policy.threshold, early_exit=early_exit)
    bar = bar_of(bundle, policy, bundle.rung_heads.p_rungs(features))
    return model_decision(bundle.manifest.pair, policy, prediction, ladder=ladder, bar=bar)


def ruled_decision(
    pair: Pair,
    policy: Policy,
    before: Before,
    ladder: Sequence[Rung] | None = None,
    offered: Offered | None = None,
) -> Decision:
    """Return what was decided before the model, by a rule or a guard, without any probability.

    Arguments as in `model_decision`. Of what is not offered, the nearest rung above takes the place.
    """
    rungs = rungs_of_pair(pair) if ladder is None else ladder
    place, moved = ruled_place(rungs, before, offered)
    return _decision(rungs, policy, place, moved or before.reason or Reason.RULE, None, before.rule)


def model_decision(
    pair: Pair,
    policy: Policy,
    prediction: Prediction,
    rule: str = "",
    *,
    falls_back: bool = True,
    checked: CheckedPolicy | None = None,
    ladder: Sequence[Rung] | None = None,
    bar: Bar = NO_BAR,
    offered: Offered | None = None,
) -> Decision:
    """Return the decision that `p_match` and the policy's thresholds give.

    Args:
        pair: the bundle's.
        policy: whose threshold holds.
        prediction: what the model said.
        rule: name of the rule that applied; empty for none.
        falls_back: whether what is out of distribution goes strong whatever its `p_match` and the policy, which is
            how the policies were solved. Where three actions are open it is tried, and never weak unchecked.
        checked: the thresholds over three actions, where they hold (`rule_of_three`); else None.
        ladder: the rungs, the cheapest first; None for those of the pair.
        bar: over the rungs between.
        offered: the rungs that may and can answer; None for all.
    """
    rungs = rungs_of_pair(pair) if ladder is None else ladder
    is_unlike = falls_back and prediction.is_out_of_distribution
    reason = Reason.OUT_OF_DISTRIBUTION if is_unlike else Reason.MODEL
    action = action_of(policy, prediction, checked, falls_back=falls_back)
    goes_first = action is not Action.STRONG
    if offered is None and bar is NO_BAR:  # a pair, as nearly always: nothing to climb
        place = 0 if goes_first else len(rungs) - 1
    else:
        place, moved = rung_for(rungs, bar, goes_first=goes_first, is_unlike=is_unlike, offered=offered)
        reason = moved or reason
    decision = _decision(rungs, policy, place, reason, prediction, rule, bar)
    if checked is None:
        return decision
    threshold = checked.t_strong if action is Action.STRONG else checked.t_weak
    is_tried = action is Action.TRY and place == 0
    return msgspec.structs.replace(decision, threshold=threshold, is_tried=is_tried, over_three=True)


def settled(decision: Decision, pair: Pair, after: After, ladder: Sequence[Rung] | None = None) -> Decision:
    """Return what becomes of the model's decision, once session and exploration have been heard."""
    if after.reason is decision.reason and after.exploration is Exploration.NONE:
        return decision
    rungs = rungs_of_pair(pair) if ladder is None else ladder
    place = after.place if after.place >= 0 else (0 if after.route is Route.WEAK else len(rungs) - 1)
    rung = rungs[place]
    return msgspec.structs.replace(
        decision,
        route=after.route,
        model=rung.model,
        rung=rung.name,
        effort=rung.effort,
        place=place,
        n_rungs=len(rungs),
        is_between=0 < place < len(rungs) - 1,
        other=rungs[after.other] if after.other >= 0 else None,
        confidence=_confidence(decision.p_match, decision.p_rungs, place, after.reason),
        reason=after.reason,
        route_propensity=after.route_propensity,
        wants_both=after.wants_both,
        pair_propensity=after.pair_propensity,
        exploration=after.exploration,
        is_tried=decision.is_tried and after.route is Route.WEAK,
        drawn=after.drawn,
    )


def _decision(
    ladder: Sequence[Rung],
    policy: Policy,
    place: int,
    reason: Reason,
    prediction: Prediction | None,
    rule: str,
    bar: Bar = NO_BAR,
) -> Decision:
    p_match = None if prediction is None else prediction.p_match
    rung = ladder[place]
    return Decision(  # in its order: by name, each of so many is searched for, and a decision took twice as long
        Route.STRONG if place else Route.WEAK,
        rung.model,
        p_match,
        _confidence(p_match, bar.p_rungs, place, reason),
        policy.threshold,
        policy.name,
        reason,
        None if prediction is None else prediction.stage,
        rule,
        rung.name,
        rung.effort,
        place,
        len(ladder),
        0 < place < len(ladder) - 1,
        bar.p_rungs,
        bar.t_rungs,
    )


def _confidence(p_match: float | None, p_rungs: Sequence[float], place: int, reason: Reason) -> float | None:
    if p_match is None or reason is Reason.OUT_OF_DISTRIBUTION:
        return None
    if place == 0:
        return p_match
    return p_rungs[place - 1] if place <= len(p_rungs) else 1.0 - p_match
