"""What one worker notes of its traffic for the drift metrics.

    event loop: decision -> bounded list        once a second: list -> windows        every 10 s: windows -> gauges

A decision costs the loop an append and, where outcomes are taken in, an entry of a bounded memory by request
id, so that a later outcome finds its `p_match`. What the gauges say is put together over all workers when they
are read (`serving.observe.drift.derived`): callers keep to their connections, so that one worker alone sees some of
them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.baseline import Baseline
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.ladder import rung_of
from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.routes import Route
from turnout.serving.observe.drift.calibration import match_from
from turnout.serving.observe.drift.pairs import Pledge
from turnout.serving.observe.drift.window import OutcomeWindow, RequestWindow
from turnout.serving.router.model import Prediction
from turnout.serving.spool.outcome import Outcome

MAX_WAITING = 256
"""Requests a second and bundle that are looked at; more are passed over. They fill a window in four seconds."""

MAX_KNOWN = 8192
"""Decisions whose outcome is waited for; some 250 bytes each."""

SAMPLES_BETWEEN = 10


class DriftGauges(Protocol):
    """Where windows are shown; `turnout.serving.observe.metrics.ServerMetrics` is one."""

    def drift_baseline(self, bundle_id: str, baseline: Baseline) -> None:
        """Show what is expected."""

    def drift_window(self, bundle_id: str, baseline: Baseline, counts: Sequence[Sequence[float]]) -> None:
        """Show the requests in each bin."""

    def drift_outcomes(self, bundle_id: str, sums: Sequence[Sequence[float]]) -> None:
        """Show (15, 6) sums over outcomes."""

    def drift_rung_outcomes(self, bundle_id: str, rung: str, sums: Sequence[Sequence[float]]) -> None:
        """Show the same of a rung between."""


@dataclass(frozen=True, slots=True)
class Lower:
    """The rung that a request's two answers compare with the top.

    Attributes:
        name: its own.
        p: that it is not worse; None where the model did not run.
        is_taken: whether its answer is the one to show.
    """

    name: str
    p: float | None
    is_taken: bool = True


@dataclass(slots=True)
class _Known:
    """A decision whose outcome may come; `lower` is the rung that it compares with the top, None for a pair's."""

    bundle_id: str
    p_match: float
    route: Route
    pledge: Pledge | None = None
    scores: dict[str, float] | None = None
    lower: Lower | None = None


@dataclass(slots=True)
class _Watched:
    """One bundle: what waits to be looked at, and its windows; `requests` is None without a baseline."""

    requests: RequestWindow | None
    margin: float
    pair: Pair
    outcomes: OutcomeWindow = field(default_factory=OutcomeWindow)
    of_rungs: dict[str, OutcomeWindow] = field(default_factory=dict)
    waiting: list[tuple[float, NDArray[np.float32], bool]] = field(default_factory=list)
    has_news: bool = False

    def add(self, known: _Known, match: int) -> None:
        """Take in whether a decision's prediction came true: of the first rung, or of the one that was compared."""
        lower = known.lower
        if lower is None or lower.name == self.pair.weak:
            self.outcomes.add(known.p_match, match)
        elif lower.p is not None:
            self.of_rungs.setdefault(lower.name, OutcomeWindow()).add(lower.p, match)


class DriftWatch:
    """The windows of one worker; for one thread, that of the event loop."""

    def __init__(
        self,
        gauges: DriftGauges,
        *,
        awaits_outcomes: bool,
        on_pair: Callable[[Pledge, int], None] = lambda *_: None,
    ) -> None:
        """Take where to show them, whether the server takes in outcomes, and what is told of each judged pair."""
        self._on_pair = on_pair
        self._gauges = gauges
        self._awaits_outcomes = awaits_outcomes
        self._watched: dict[str, _Watched] = {}
        self._known: OrderedDict[int, _Known] = OrderedDict()  # a plain dict finds its oldest entry in 8 us, not 0.1
        self._n_samples = 0

    def decided(
        self,
        bundle: Bundle,
        route: Route,
        request_id: str,
        prediction: Prediction,
        pledge: Pledge | None = None,
        lower: Lower | None = None,
    ) -> None:
        """Remember a decision of the model and the tier taken, so that its outcome finds what was said and promised.

        Args:
            bundle: that decided.
            route: the tier taken.
            request_id: by which its outcome will come.
            prediction: what the model said.
            pledge: what the answers of both will say of a promise; None for nothing.
            lower: of a ladder, the rung whose answer is wanted beside the top's; None for a pair.
        """
        if not (self._awaits_outcomes and request_id):
            return
        self._known[hash(request_id)] = _Known(
            bundle.manifest.bundle_id, prediction.p_match, route, pledge, lower=lower
        )
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def checked(self, request_id: str, p_match: float | None, *, is_accepted: bool) -> None:
        """Note what the second look said of a tried request, where this worker made the decision."""
        known = self._known.get(hash(request_id)) if request_id else None
        if known is not None and known.pledge is not None and known.pledge.waits_for:
            known.pledge = known.pledge.checked(p_match, is_accepted=is_accepted)

    def predicted(self, bundle: Bundle, prediction: Prediction, structural: NDArray[np.float32]) -> None:
        """Note what the model said of a prompt; a prompt answered from the cache is not a new one.

        Repetitions are left out, as they would break the law that the limits come from: independent rows.
        """
        watched = self._of(bundle)
        if watched.requests is not None and len(watched.waiting) < MAX_WAITING:
            watched.waiting.append((prediction.p_match, structural, prediction.is_out_of_distribution))

    def reported(self, outcome: Outcome) -> None:
        """Note an outcome, where this worker made the decision and the match is known now."""
        known = self._known.get(hash(outcome.request_id))
        watched = None if known is None else self._watched.get(known.bundle_id)
        if known is None or watched is None:
            return
        known.scores = known.scores or {}
        tier = _tier_of(outcome, watched.pair, known.route, known.lower)
        if outcome.score is not None and tier:
            known.scores[tier] = outcome.score
        match = match_from(outcome.preference, known.scores, watched.margin)
        if match is None:
            return
        del self._known[hash(outcome.request_id)]
        watched.add(known, match)
        if known.pledge is not None:
            self._on_pair(known.pledge, match)
        watched.has_news = True

    def sample(self, served: Iterable[Bundle]) -> None:
        """Move what waits into the windows, and now and then show them; bundles not served any more are let go.

        Called once a second; takes some 0.3 ms where requests wait.
        """
        bundles = {bundle.manifest.bundle_id: bundle for bundle in served}
        for bundle_id in self._watched.keys() - bundles.keys():
            self._let_go(bundle_id, self._watched.pop(bundle_id))
        for bundle in bundles.values():
            watched = self._of(bundle)
            if watched.requests is not None and watched.waiting:
                watched.requests.add(_rows(watched.waiting))
                watched.waiting.clear()
                watched.has_news = True
        if self._n_samples % SAMPLES_BETWEEN == 0:
            self.show()
        self._n_samples += 1

    def show(self) -> None:
        """Set the gauges of all windows that have changed."""
        for bundle_id, watched in self._watched.items():
            if not watched.has_news:
                continue
            watched.has_news = False
            if watched.requests is not None:
                self._gauges.drift_window(bundle_id, watched.requests.baseline, watched.requests.counts())
            self._gauges.drift_outcomes(bundle_id, watched.outcomes.sums())
            for rung, outcomes in watched.of_rungs.items():
                self._gauges.drift_rung_outcomes(bundle_id, rung, outcomes.sums())

    def _of(self, bundle: Bundle) -> _Watched:
        bundle_id, baseline = bundle.manifest.bundle_id, bundle.baseline
        watched = self._watched.get(bundle_id)
        if watched is None:
            window = None if baseline is None else RequestWindow(baseline)
            watched = _Watched(window, bundle.manifest.match_margin, bundle.manifest.pair)
            self._watched[bundle_id] = watched
            if baseline is not None:
                self._gauges.drift_baseline(bundle_id, baseline)
        return watched

    def _let_go(self, bundle_id: str, watched: _Watched) -> None:
        """Show empty windows: a series never goes away."""
        if watched.requests is not None:
            baseline = watched.requests.baseline
            self._gauges.drift_window(bundle_id, baseline, RequestWindow(baseline).counts())
        self._gauges.drift_outcomes(bundle_id, OutcomeWindow().sums())
        for rung in watched.of_rungs:
            self._gauges.drift_rung_outcomes(bundle_id, rung, OutcomeWindow().sums())


def _tier_of(outcome: Outcome, pair: Pair, route: Route, lower: Lower | None = None) -> str:
    """Return whose answer an outcome is of: as the model is named, else as the tier is, else the routed one.

    Of a ladder the weak side is the rung that is compared with the top.

    Empty where it names a model outside the pair alone. Compaction reads it likewise (`training.compaction.joining`).
    """
    if outcome.model:
        for tier, name in ((Route.WEAK, lower.name if lower else pair.weak), (Route.STRONG, pair.strong)):
            if is_model(outcome.model, rung_of(name).model) and outcome.rung in ("", name):
                return tier
        return outcome.tier
    return outcome.tier or (Route.WEAK if lower is not None and lower.is_taken else route)


def _rows(waiting: list[tuple[float, NDArray[np.float32], bool]]) -> NDArray[np.float64]:
    """Return (r, measures) values in the order of `Baseline.bins`."""
    p_match, structural, is_unlike = zip(*waiting, strict=True)
    return np.column_stack((p_match, np.array(structural, np.float64), np.array(is_unlike, np.float64)))
