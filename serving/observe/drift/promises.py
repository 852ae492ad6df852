"""Live check of promises: pairs that come back, bounds of the share made worse, and thresholds that tighten.

    decision, both answers wanted -> Pledge (-> its Check)   outcome -> count   every 10 s: count <-> files of the spool
    counts of all workers -> bounds (gauges) and step of the ladder

Only pairs that exploration asked for tell what was made worse: of other weak answers nobody knows what the strong
model would have said. They are weighted by the probability of having been asked for, so that their mean is that of
the traffic; which of them are judged is taken as chance. A month of UTC is one bound: it begins anew with each, and
when the rules change their smallest `both`. Of a session the first pair counts, since all of it share a draw.

What counts is what the caller got: weak answers that went unchecked, and tries that the second look accepted. A policy
with a rule over three actions is watched twice, under its name and, for callers that check, under that and `+check`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.tightening import LADDER, rung_steps, steps_of, tightened, tightened_check
from turnout.serving.observe.drift.betting import bounds, weight_place
from turnout.serving.observe.drift.keeping import SeenPairs, step_to_keep
from turnout.serving.observe.drift.pairs import Pledge, Tally
from turnout.serving.observe.incidents import report_incident
from turnout.serving.spool.tallies import Tallies, TallyRow

EXCHANGE_S = 10.0
RECENT_DAYS = 7
DAY_S = 86_400

MAX_POLICIES = 16
"""Of a bundle, those over three actions among them; others are not watched."""
OVER_THREE = "+check"
"""After the name of a policy: its promise to callers that have answers checked."""
MAX_TASKS = 20
"""Of a policy, each a label of metrics; all others are one."""
MAX_TASK_CHARS = 40
OTHER_TASKS, ALL_TASKS = "(others)", "*"
MAX_SESSIONS = 8192

ENOUGH_EVENTS = 4.0
"""Pairs times level in a whole month, below which nothing is steered by them: two events are chance."""

DEFAULT_DELTA = 0.1
_log = logging.getLogger("turnout.promises")
Name = tuple[str, str]
"""Bundle and policy."""


class PromiseGauges(Protocol):
    """Where bounds are shown; `turnout.serving.observe.metrics.ServerMetrics` is one."""

    def promise_bounds(self, bundle: str, policy: str, task: str, pairs: int, between: tuple[float, float]) -> None:
        """Show the pairs of this month, and between which shares that lie which are made worse."""

    def promise_kept(self, bundle: str, policy: str, level: float, step: int) -> None:
        """Show what is promised, and at which step of the ladder it is served."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A promise that is watched: its level, its delta, its ladder, and what training measured at each step.

    Of a ladder of models `t_rungs` is what the rungs between need at each step; empty for a pair.
    """

    level: float
    delta: float
    thresholds: tuple[float, ...]
    expected: tuple[float, ...]
    t_rungs: tuple[tuple[float, ...], ...] = ()

    def strict(self, policy: Policy, step: int) -> Policy:
        """Return the policy at a step, over two tiers or rungs."""
        return tightened(policy, self.thresholds[step], self.t_rungs[step] if self.t_rungs else None)


class Promises:
    """What one worker counts, and what all have counted; but for `exchange_files`, for the thread of the event loop."""

    def __init__(
        self,
        gauges: PromiseGauges,
        spool: Path | None,
        *,
        tightens: bool,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Begin with nothing counted.

        Args:
            gauges: where bounds are shown.
            spool: folder of the spool, in which workers meet; None watches nothing, since no outcome comes.
            tightens: whether thresholds are to follow.
            clock: seconds since 1970.
            draw: uniform in [0, 1), for the rounding of weights.
        """
        self._gauges, self._tightens, self._clock, self._draw = gauges, tightens, clock, draw
        self._tallies = None if spool is None else Tallies(spool)
        self._own: Counter[tuple[int, str, str, str, float, int, int, int]] = Counter()
        self._has_news = False
        self._watched: dict[Name, _Watched] = {}
        self._steps: dict[Name, int] = {}
        self._tasks: dict[Name, set[str]] = defaultdict(set)
        self._shown: dict[Name, set[str]] = defaultdict(set)
        self._last: dict[tuple[Name, str], bytes] = {}
        self._sessions: OrderedDict[int, None] = OrderedDict()

    def policy(self, manifest: Manifest, policy: Policy) -> Policy:
        """Return the policy at the steps of its ladders that are served now: as it is, unless thresholds tighten."""
        if not self._tightens:
            return policy
        found, name = policy, (manifest.bundle_id, policy.name)
        if step := self._steps.get(name, 0):
            found = self._watched[name].strict(found, step)
        name = manifest.bundle_id, policy.name + OVER_THREE
        if step := self._steps.get(name, 0):
            found = tightened_check(found, self._watched[name].thresholds[step])
        return found

    def step(self, manifest: Manifest, policy: Policy) -> int:
        """Return the step that a promise over two tiers or rungs is served at now."""
        return self._steps.get((manifest.bundle_id, policy.name), 0) if self._tightens else 0

    def thresholds(self, manifest: Manifest, policy: Policy, *, over_three: bool = False) -> tuple[float, ...]:
        """Return the ladder of a policy, as solved, that is watched: the second look's, where it is over three.

        Empty for one that promises nothing or is one too many, and for that of a ladder of models over three actions:
        what is escalated to a rung between is compared with the top by nobody.
        """
        name = manifest.bundle_id, policy.name + OVER_THREE * over_three
        is_ladder = manifest.rungs is not msgspec.UNSET
        if self._tallies is None or (is_ladder and over_three):
            return ()
        if name not in self._watched:
            if sum(bundle == manifest.bundle_id for bundle, _ in self._watched) >= MAX_POLICIES:
                return ()
            steps, expected = steps_of(manifest, policy, over_three=over_three)
            if not steps:
                return ()
            delta = DEFAULT_DELTA if policy.delta is None else policy.delta
            t_rungs = rung_steps(manifest, policy) if is_ladder else ()
            self._watched[name] = _Watched(policy.target, delta, steps, expected, t_rungs)
        return self._watched[name].thresholds

    def _is_first_of(self, session: int) -> bool:
        """Return whether no pair of the session was counted yet, and remember it; True without a session."""
        if not session:
            return True
        if session in self._sessions:
            return False
        self._sessions[session] = None
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return True

    def judged(self, pledge: Pledge, match: int) -> None:
        """Count a pair of which it is known now whether the weak answer matched; not one that waits for its check."""
        if pledge.waits_for or (pledge.bundle, pledge.policy) not in self._watched:
            return
        if not self._is_first_of(pledge.session):
            return
        place = weight_place(pledge.propensity, pledge.least, self._draw())
        if place is None:
            return
        depth, worse = (0, 0) if match else (pledge.depth, int(pledge.is_weak))
        depth = depth if pledge.step < 0 else pledge.step
        task = self._task(pledge)
        day = int(self._clock() // DAY_S)
        self._own[day, pledge.bundle, pledge.policy, task, pledge.least, place, depth, worse] += 1
        self._has_news = True

    def _task(self, pledge: Pledge) -> str:
        known = self._tasks[pledge.bundle, pledge.policy]
        if pledge.task in known:
            return pledge.task
        is_name = 0 < len(pledge.task) <= MAX_TASK_CHARS and pledge.task.isprintable()
        if not is_name or pledge.task in (OTHER_TASKS, ALL_TASKS) or len(known) >= MAX_TASKS:
            return OTHER_TASKS
        known.add(pledge.task)
        return pledge.task

    async def watch(self, least: Callable[[], float], served: Callable[[], Iterable[Manifest]]) -> None:
        """Exchange counts with the other workers until cancelled, and once more then.

        Args:
            least: gives the smallest `both` of the rules in force; 0 where nothing is explored.
            served: gives the bundles in service.
        """
        try:
            while True:
                await asyncio.sleep(EXCHANGE_S)
                try:
                    self.settle(await asyncio.to_thread(self.exchange), least(), served())
                except Exception as error:  # noqa: BLE001  # thresholds stay as they are; the next round tries again
                    report_incident(error)
        finally:
            self.exchange()

    def exchange(self) -> list[TallyRow]:
        """Write what this worker counted, and return what all did. Without a usable disk it goes by its own counts."""
        first, has_news, self._has_news = self._first_day(), self._has_news, False
        own = [TallyRow(*key, n) for key, n in dict(self._own).items() if key[0] >= first]  # a copy: the loop counts on
        if self._tallies is None:
            return own
        try:
            if has_news:
                self._tallies.write(own)
            return own + self._tallies.read_others(lambda row: row.day >= first)
        except OSError as error:
            self._has_news = True
            _log.error("promises: the counts of this worker go alone: %s", error.strerror or error)
            return own

    def settle(self, rows: Iterable[TallyRow], least: float, served: Iterable[Manifest]) -> None:
        """Show the bounds of all promises, and take the step of each."""
        first = self._first_day()
        for key in [key for key in self._own if key[0] < first]:
            del self._own[key]
        by_name: dict[Name, list[TallyRow]] = defaultdict(list)
        for row in rows:
            if row.least == least:
                by_name[row.bundle, row.policy].append(row)
        manifests = {manifest.bundle_id: manifest for manifest in served}
        for bundle, policy in by_name.keys() - self._watched.keys():
            if bundle in manifests:  # another worker's, or of before this one's start
                self._watch_named(manifests[bundle], policy)
        for name in [name for name in self._watched if name[0] not in manifests]:
            self._let_go(name)
        for name, watched in self._watched.items():
            self._settle(name, watched, by_name[name])

    def _watch_named(self, manifest: Manifest, policy: str) -> None:
        try:
            name = policy.removesuffix(OVER_THREE)
            self.thresholds(manifest, manifest.policy(name), over_three=name != policy)
        except Exception:  # noqa: BLE001  # a name out of a file, that this bundle does not know
            _log.warning("promises: %s has no policy of a name that was counted", manifest.bundle_id)

    def _settle(self, name: Name, watched: _Watched, rows: list[TallyRow]) -> None:
        month_began = self._month()[0]
        month = [row for row in rows if row.day >= month_began]
        whole = Tally.of(month)
        self._show(name, ALL_TASKS, whole, watched.delta)
        self._show_tasks(name, month, watched.delta)
        step = self._step(watched, rows, month, whole) if self._tightens else 0
        if step != self._steps.get(name, 0):
            say = _log.warning if step else _log.info
            say("promises: %s %s is served at step %d of %d", *name, step, len(watched.thresholds) - 1)
        self._steps[name] = step
        self._gauges.promise_kept(*name, watched.level, step)

    def _step(self, watched: _Watched, rows: list[TallyRow], month: list[TallyRow], whole: Tally) -> int:
        if not month:
            return 0
        today = self._clock() / DAY_S
        began, ends = min(row.day for row in month), self._month()[1]
        left = (ends - today) / max(today - began, EXCHANGE_S / DAY_S)
        if whole.n * (1.0 + left) * watched.level < ENOUGH_EVENTS:
            return 0
        last_days = Tally.of(row for row in rows if row.day > today - RECENT_DAYS)
        if watched.t_rungs:
            seen = last_days.seen_in_force(watched.expected)
            return step_to_keep(watched.level, watched.expected, whole.seen_served(), seen, left)
        recent = last_days.seen_by_step()
        if len(watched.thresholds) < len(LADDER):  # as served, or nothing
            recent = SeenPairs(recent.n, (recent.worse[0], 0.0), (recent.squares[0], 0.0))
        return step_to_keep(watched.level, watched.expected, whole.seen_served(), recent, left)

    def _show_tasks(self, name: Name, month: list[TallyRow], delta: float) -> None:
        by_task: dict[str, list[TallyRow]] = defaultdict(list)
        shown = self._shown[name]
        sizes: Counter[str] = Counter()
        for row in month:
            sizes[row.task] += row.n
        for task, _ in sizes.most_common():
            if len(shown) <= MAX_TASKS and task != OTHER_TASKS:
                shown.add(task)
        for row in month:
            by_task[row.task if row.task in shown else OTHER_TASKS].append(row)
        for task in shown | by_task.keys():
            self._show(name, task, Tally.of(by_task[task]), delta)

    def _show(self, name: Name, task: str, tally: Tally, delta: float) -> None:
        """Show bounds, where they are others than before: they take 0.2 ms of the event loop."""
        counted = tally.counts.tobytes()
        if self._last.get((name, task)) != counted:
            self._last[name, task] = counted
            self._gauges.promise_bounds(*name, task, tally.n, bounds(*tally.served, delta))

    def _let_go(self, name: Name) -> None:
        """Show nothing of a bundle that is not served any more: a series never goes away."""
        watched = self._watched.pop(name)
        self._steps.pop(name, None)
        for task in {ALL_TASKS} | self._shown.pop(name, set()):
            self._last.pop((name, task), None)
            self._gauges.promise_bounds(*name, task, 0, (0.0, 1.0))
        self._gauges.promise_kept(*name, watched.level, 0)

    def _month(self) -> tuple[int, int]:
        """Return the first day of this month and of the next, in days since 1970."""
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC).date()
        first = now.replace(day=1)
        following = (first + dt.timedelta(days=32)).replace(day=1)
        epoch = dt.date(1970, 1, 1)
        return (first - epoch).days, (following - epoch).days

    def _first_day(self) -> int:
        return min(self._month()[0], int(self._clock() // DAY_S) - RECENT_DAYS)
