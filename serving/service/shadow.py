"""The shadow: a challenger that scores the same traffic beside the champion, and changes nothing.

It runs on a thread of its own, at low priority, behind a short queue: what finds no room is dropped and
counted, so that the champion's callers never wait for it.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.decision import action_of, as_stranger, exit_thresholds, rule_of_three, threshold_policy
from turnout.serving.decision.judging import accept_threshold, look_again, verdict_of
from turnout.serving.decision.routes import Action, Verdict
from turnout.serving.errors import RequestError
from turnout.serving.observe.incidents import report_incident
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.prompt import Prompt

MAX_WAITING = 64
NICENESS = 10


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the champion decided on one prompt: `p_match`, and what the caller was to do.

    Attributes:
        can_check: whether the caller can have answers checked, so that three actions were open.
        falls_back: whether what is out of distribution goes strong, under the rules of the request.
        is_stranger: whether it is so by its task.
    """

    bundle: Bundle
    prompt: Prompt
    policy: str
    threshold: float
    p_match: float
    action: Action
    falls_back: bool = True
    can_check: bool = False
    is_stranger: bool = False


@dataclass(frozen=True, slots=True)
class CheckSighting:
    """What the champion made of one answer: its verdict, and at which policy or threshold of the caller's own.

    The bundle is the challenger's, and has a second look.
    """

    bundle: Bundle
    prompt: Prompt
    answer: Answer
    signals: Signals
    policy: str
    own_threshold: float | None
    verdict: Verdict
    falls_back: bool = True
    is_stranger: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the challenger said of the same prompt: same action or not, and how far `p_match` is off.

    Of a verdict (`is_check`) only whether it is the same: where nothing vouches for an answer there is no `p_match`.
    """

    agrees: bool
    distance: float = 0.0
    is_check: bool = False


class Shadow:
    """Scores what it is shown, later.

    Attributes:
        compared, disagreed, dropped, failed: prompts so far.
    """

    def __init__(self, on_compared: Callable[[Comparison], None] = lambda _: None) -> None:
        """Start the thread; `on_compared` is called on it, for the metrics."""
        self.compared = self.disagreed = self.dropped = self.failed = 0
        self._on_compared = on_compared
        self._waiting: queue.Queue[tuple[Context, Sighting | CheckSighting] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="turnout-shadow", daemon=True)
        self._thread.start()

    def show(self, sighting: Sighting | CheckSighting) -> bool:
        """Take a decision or a verdict to compare; False when it is dropped, since the challenger can't keep up."""
        try:
            self._waiting.put_nowait((copy_context(), sighting))
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Let the thread end; what still waits is dropped."""
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)

    def _run(self) -> None:
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (waiting := self._waiting.get()) is not None:
            context, sighting = waiting
            context.run(self._compare, sighting)  # what is logged names the request

    def _compare(self, sighting: Sighting | CheckSighting) -> None:
        try:
            comparison = compare(sighting) if isinstance(sighting, Sighting) else compare_verdicts(sighting)
        except Exception as error:  # noqa: BLE001  # a fault of the challenger must not end the comparison
            self.failed += 1
            report_incident(error)
            return
        self.compared += 1
        self.disagreed += not comparison.agrees
        self._on_compared(comparison)


def compare_verdicts(sighting: CheckSighting) -> Comparison:
    """Ask the challenger's second look, under its own threshold for the same policy where it has one."""
    policy = _policy_of(sighting.bundle, sighting.policy, 1.0)
    checked = look_again(
        sighting.bundle,
        sighting.prompt,
        sighting.answer,
        sighting.signals,
        falls_back=sighting.falls_back,
        is_stranger=sighting.is_stranger,
    )
    said = verdict_of(checked, accept_threshold(policy, sighting.own_threshold))
    return Comparison(said is sighting.verdict, is_check=True)


def _policy_of(bundle: Bundle, name: str, threshold: float) -> Policy:
    """Return the challenger's policy of that name; where it has none, the threshold that the champion applied."""
    try:
        return bundle.manifest.policy(name)
    except RequestError:
        return threshold_policy(min(1.0, threshold))


def compare(sighting: Sighting) -> Comparison:
    """Ask the challenger, under its own thresholds for the same policy where it has one."""
    policy = _policy_of(sighting.bundle, sighting.policy, sighting.threshold)
    checked = rule_of_three(sighting.bundle, policy, can_check=sighting.can_check)
    said = sighting.bundle.model.predict(sighting.prompt, exit_thresholds(policy, checked)[0])
    if sighting.is_stranger:
        said = as_stranger(said)
    action = action_of(policy, said, checked, falls_back=sighting.falls_back)
    return Comparison(action is sighting.action, abs(said.p_match - sighting.p_match))
