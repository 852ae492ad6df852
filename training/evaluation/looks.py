"""Both looks in an evaluation: what `evaluation.json` holds of them under `two_looks`.

Made by `training.evaluation.two_looks`, read by `training.report`. A rule lets some requests go to the weak model at
once, has others tried and checked, and sends the rest to the strong model. Shares are of all rows, costs are such that
all strong is 1, discarded answers and self-checks counted.
"""

from __future__ import annotations

import msgspec

from turnout.training.evaluation.figures import Metrics, ReliabilityBin


class LookOutcome(msgspec.Struct, frozen=True):
    """What a rule does over all rows.

    Attributes:
        answered_weak: share whose users see the weak model's answer, checked or not.
        waits_twice: share that waits for both models.
        quality: mean score over the strong model's; None where that is 0.
        worse: share that gets a worse answer than the strong model's.
        worse_of_weak: the same as a share of what the weak model answers; None where it answers nothing.
        cost: mean cost.
        intervals: 95 % over groups, by the names above; empty without bootstraps.
    """

    answered_weak: float
    waits_twice: float
    quality: float | None
    worse: float
    worse_of_weak: float | None
    cost: float
    intervals: dict[str, tuple[float, float] | None] = {}


class Landing(msgspec.Struct, frozen=True):
    """Where one promise lands; None for a way of deciding that can't keep it, or was not solved.

    Attributes:
        policy: its name.
        one_look: decided on the prompt alone.
        two_looks: over three actions.
        always_try: every request tried first, whatever its prompt.
    """

    policy: str
    one_look: LookOutcome | None
    two_looks: LookOutcome | None
    always_try: LookOutcome | None = None


class Path(msgspec.Struct, frozen=True):
    """What a way of deciding does from all strong to as much weak as it can, column by column.

    No label chose the points: they follow from what both looks say and from the costs.

    Attributes:
        cost: mean cost at each point.
        answered_weak, waits_twice, worse: shares, the first rising.
        quality: mean score over the strong model's; None throughout where that is 0.
        quality_low, quality_high: 95 % over groups; None without bootstraps.
        worse_bound: exact binomial upper bound of `worse` over one row a group, at level 1 - `delta`, for a point
            named beforehand.
        t_strong, t_weak, t_accept: thresholds of each point, above 1 for what never happens.
    """

    cost: list[float]
    answered_weak: list[float]
    waits_twice: list[float]
    worse: list[float]
    quality: list[float] | None
    quality_low: list[float] | None
    quality_high: list[float] | None
    worse_bound: list[float]
    t_strong: list[float]
    t_weak: list[float]
    t_accept: list[float]


class SignalKind(msgspec.Struct, frozen=True):
    """The second look on the answers with one kind of signal.

    Attributes:
        name: `none`, `self_check`, `mean_logprob`, `both`, or `any` of these three.
        n: answers.
        metrics: of its p_match.
        intervals: 95 % over groups, keyed as in `flat`.
        reliability: bins of equal mass.
        rests_on: share of the spread of its log-odds that each part makes: `prompt`, `answer`, `signals`; they add up
            to 1, and one that works against the others is below 0. Empty where unknown.
        auroc_of: AUROC of each part alone.
    """

    name: str
    n: int
    match_rate: float
    metrics: Metrics
    intervals: dict[str, tuple[float, float] | None]
    reliability: list[ReliabilityBin]
    rests_on: dict[str, float] = {}
    auroc_of: dict[str, float | None] = {}


class WaitingTimes(msgspec.Struct, frozen=True):
    """How long requests take, on the rows whose log has both models' latencies.

    Attributes:
        policy: whose rules these are.
        n: rows.
        percentiles: which, in [0, 100].
        ms: of each way of deciding: `all_strong`, `one_look`, `two_looks`, `always_try`; milliseconds at each
            percentile.
        added_ms: the same of what two looks add to the strong model's own latency, request by request; below 0 where
            the weak model's answer stands and came sooner.
        n_twice, twice_ms: of the requests that wait for both, what that adds: the weak model's latency.
    """

    policy: str
    n: int
    percentiles: list[int]
    ms: dict[str, list[float]]
    added_ms: list[float]
    n_twice: int
    twice_ms: list[float]


class TwoLooks(msgspec.Struct, frozen=True):
    """What the second look and the rules over three actions are worth.

    Attributes:
        n: answers that the second look has something to say of.
        n_unanswered: rows without an answer of the weak model, tried and escalated by the rules.
        n_unvouched: answers of requests unlike the training data without a signal, which are escalated.
        metrics, intervals: of the second look's p_match over the n answers.
        first: the first look's on the same answers.
        kinds: by kind of signal, the most frequent first.
        paths: `one_look`, `two_looks` and `always_try`.
        landings: of the policies with a promise.
        waiting: under the default policy; None where too few rows have latencies.
        delta: level of the bounds in `paths`.
    """

    n: int
    n_unanswered: int
    n_unvouched: int
    metrics: Metrics
    intervals: dict[str, tuple[float, float] | None]
    first: Metrics
    kinds: list[SignalKind]
    paths: dict[str, Path]
    landings: list[Landing]
    waiting: WaitingTimes | None
    delta: float
