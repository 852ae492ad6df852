"""The decision log: decisions from the event loop to the spool, without the loop ever waiting.

    loop: decision -> bounded queue          thread: queue -> digest, redaction, msgpack -> spool (RecordKind.DECISION)

`log` takes about a microsecond on the loop; all the rest is done on a thread of its own, which looks into the
queue ten times a second. A killed process loses at most that and the spool's `FLUSH_S`: less than a second.
`written` counts what is synced and nothing else; once the log is settled, all other decisions are `dropped`.
Where no text is kept, rows that can teach bring what that takes (`turnout.serving.service.lessons`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.serving.decision.routes import MAX_ESTIMATED_TOKENS
from turnout.serving.router.features import SCHEMA_VERSION, Features
from turnout.serving.router.redaction import RULES_VERSION, redact
from turnout.serving.service.keeping import kept_text
from turnout.serving.service.lessons import Lesson, Lessons
from turnout.serving.spool.check import MAX_REASON_CHARS, CheckRecord, encode_check, packed
from turnout.serving.spool.decision import DecisionRecord, LogDecisions, encode_decision
from turnout.serving.spool.digests import prompt_digest
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.writer import CLOSE_S, SpoolWriter

if TYPE_CHECKING:
    from turnout.serving.bundles.bundle import Bundle
    from turnout.serving.bundles.manifest import Manifest
    from turnout.serving.decision.costs import ExpectedCosts
    from turnout.serving.decision.decision import Decision
    from turnout.serving.router.prompt import Prompt
    from turnout.serving.wire.check import CheckCall, Judgement
    from turnout.serving.wire.route import RouteCall

POLL_S = 0.1
"""How often the thread looks: a wake-up for each decision would cost the loop more than the record does."""

MAX_WAITING = 4096
MAX_WAITING_CHARS = 16 << 20
MAX_WAITING_TAUGHT = MAX_WAITING // 2
"""With more waiting, decisions are written without their lesson: better a row that teaches nothing than one lost."""

MAX_LATE_S = 0.3
"""Likewise those that have waited so long: with `POLL_S` and the spool's `FLUSH_S` a killed process loses less than a
second. Under full load the lessons' thread, of low priority, makes some 25 a second: without this limit, 900 calls a
second with `both = 1.0` left decisions of 2.6 s before the kill out of the log."""

WORK_S = 3e-4
BREATH_S = 1e-4
"""After so long at work the thread sleeps: the loop gets the interpreter lock at once, not after a switch of 5 ms. With
a sleep after every 8 records, some 0.1 ms, a decision took 20 us of CPU instead of 15 (`full`, server under load)."""


_log = logging.getLogger("turnout.decisions")


class Decided(msgspec.Struct, frozen=True, gc=False):  # made on the event loop: a third of a dataclass's time
    """A decision on its way to the log, as the event loop has it.

    `bundle` is None where no model was asked; `usd` is the expected cost at each rung.
    """

    decided_s: float
    call: RouteCall
    decision: Decision
    manifest: Manifest
    costs: ExpectedCosts
    tokens: int
    features: Features | None = None
    bundle: Bundle | None = None
    usd: tuple[float | None, ...] = ()

    @property
    def n_chars(self) -> int:
        """Characters that wait with it."""
        return len(self.call.prompt.text)


class CheckedAnswer(msgspec.Struct, frozen=True, gc=False):
    """A verdict on its way to the log: of which request, on which answer, by which bundle."""

    checked_s: float
    call: RouteCall
    check: CheckCall
    judged: Judgement
    bundle_id: str

    @property
    def n_chars(self) -> int:
        """Characters that wait with it."""
        return len(self.call.prompt.text) + len(self.check.answer.text)


class DecisionLog:
    """Takes decisions in on one thread, the event loop's, and writes them from its own.

    Attributes:
        mode: what is kept of prompts.
        offered: decisions handed in so far.
        untaught: decisions that were to bring a lesson, and were written without.
    """

    def __init__(self, spool: SpoolWriter, mode: LogDecisions, key: bytes) -> None:
        """Start the thread; `key` is that of the digests."""
        self.mode = mode
        self.offered = self.untaught = 0
        self._spool = spool
        self._key = key
        self._lessons = Lessons()
        self._waiting: deque[Decided | CheckedAnswer] = deque()
        # Each count is written by one thread alone; their differences say what waits, without a lock.
        self._chars_in = self._chars_out = 0
        self._refused = self._failed = 0
        self._is_settled = False
        self._closing = threading.Event()
        self._teaches_until_s = math.inf
        self._thread = threading.Thread(target=self._run, name="turnout-decisions", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Decisions that are on the disk: counted after the sync of their bytes."""
        return self._spool.counts.offered_records

    @property
    def dropped(self) -> int:
        """Decisions that are lost: no room here or in the spool, not to be encoded, or a write or sync that failed."""
        if self._is_settled:
            return self.offered - self.written
        return self._refused + self._failed + self._spool.counts.dropped

    @property
    def wants_features(self) -> bool:
        """Whether decisions are to bring the features of their prompt."""
        return self.mode is LogDecisions.DIGEST

    def log(self, decided: Decided) -> None:
        """Queue a decision, or drop and count it where there is no room; never waits, never raises."""
        self._queue(decided)

    def log_check(self, checked: CheckedAnswer) -> None:
        """Queue a verdict; as `log`."""
        self._queue(checked)

    def _queue(self, one: Decided | CheckedAnswer) -> None:
        self.offered += 1
        waiting_chars = self._chars_in - self._chars_out
        if len(self._waiting) >= MAX_WAITING or waiting_chars + one.n_chars > MAX_WAITING_CHARS:
            self._refused += 1
            return
        self._chars_in += one.n_chars
        self._waiting.append(one)

    def close(self, within_s: float = CLOSE_S) -> None:
        """Hand all that waits to the spool, within `within_s`, and end the thread; the spool stays open.

        Half of that time lessons are still made; what waits longer is written without, so that no decision is lost.
        """
        self._teaches_until_s = time.monotonic() + 0.5 * within_s
        self._closing.set()
        self._thread.join(within_s)
        self._lessons.close()

    def settle(self) -> None:
        """Say how it ended, once the spool is closed: what is not known to be on the disk by now is dropped."""
        self._is_settled = True
        _log.info(
            "decision log: %d written, %d dropped, %d without their lesson", self.written, self.dropped, self.untaught
        )

    def _run(self) -> None:
        while not self._closing.wait(POLL_S):
            self._work_off()
        self._work_off()

    def _work_off(self) -> None:
        breathes_s = time.monotonic() + WORK_S
        for _ in range(len(self._waiting)):
            decided = self._waiting.popleft()
            self._write(decided)
            self._chars_out += decided.n_chars
            if time.monotonic() >= breathes_s:
                time.sleep(BREATH_S)
                breathes_s = time.monotonic() + WORK_S

    def _write(self, decided: Decided | CheckedAnswer) -> None:
        if isinstance(decided, CheckedAnswer):
            self._write_check(decided)
            return
        try:
            record = record_of(decided, self.mode, self._key, self._lesson(decided))
            payload = encode_decision(record)
        except Exception as error:  # noqa: BLE001  # one odd request must not end the log; its text may quote the prompt
            _log.error("decision log: a decision could not be written: %s", type(error).__name__)
            self._failed += 1
            return
        self._spool.offer(RecordKind.DECISION, payload)  # which counts it, written or dropped

    def _write_check(self, checked: CheckedAnswer) -> None:
        try:
            payload = encode_check(check_record_of(checked, self.mode, self._key))
        except Exception as error:  # noqa: BLE001  # as above
            _log.error("decision log: a verdict could not be written: %s", type(error).__name__)
            self._failed += 1
            return
        self._spool.offer(RecordKind.CHECK, payload)

    def _lesson(self, decided: Decided) -> Lesson | None:
        """Return the lesson of a decision that can teach, where the mode keeps no text to learn from."""
        if self.mode is not LogDecisions.DIGEST or decided.bundle is None or not decided.decision.wants_both:
            return None
        if decided.call.prompt.is_beyond_features:  # nobody may learn from a caption what the file was answered with
            return None
        lesson = None
        try:
            if len(self._waiting) <= MAX_WAITING_TAUGHT and self._has_time_for(decided):
                lesson = self._lessons.of(decided.bundle, decided.call.prompt, decided.features)
        except Exception as error:  # noqa: BLE001  # the decision is worth keeping all the same
            _log.error("decision log: a lesson could not be made: %s", type(error).__name__)
        if lesson is None or not lesson.dense:
            self.untaught += 1
        return lesson

    def _has_time_for(self, decided: Decided) -> bool:
        """Whether a lesson keeps no decision waiting too long; a closing log has its own limit, for all together."""
        if self._closing.is_set():
            return time.monotonic() < self._teaches_until_s
        return time.time() - decided.decided_s <= MAX_LATE_S


def record_of(decided: Decided, mode: LogDecisions, key: bytes, lesson: Lesson | None = None) -> DecisionRecord:
    """Return the record of a decision, with as much of the prompt as the mode keeps."""
    call, decision = decided.call, decided.decision
    features = decided.features if lesson is None else lesson.features
    features = None if call.prompt.is_beyond_features else features
    text, is_left_out = _kept_text(call.prompt, decided.tokens, mode)
    return DecisionRecord(
        decided_s=decided.decided_s,
        kept=mode,
        digest=prompt_digest(call.prompt, key),
        tokens=decided.tokens,
        route=decision.route,
        model=decision.model,
        action=decision.action,
        can_check=call.can_check,
        threshold=decision.threshold,
        policy=decision.policy,
        reason=decision.reason,
        bundle=decided.manifest.bundle_id,
        request_id=call.request_id,
        tenant=call.tenant,
        task=call.task,
        session_id=call.session_id,
        p_match=decision.p_match,
        stage=decision.stage or "",
        rule=decision.rule,
        route_propensity=decision.route_propensity,
        wants_both=decision.wants_both,
        pair_propensity=decision.pair_propensity,
        exploration=decision.exploration,
        other_model=_other_model(decided),
        weak_cost_usd=decided.costs.weak_usd,
        strong_cost_usd=decided.costs.strong_usd,
        text=text,
        is_left_out=is_left_out,
        redaction=RULES_VERSION if mode is LogDecisions.REDACTED else 0,
        turns=call.prompt.turns,
        images=call.prompt.images,
        tools=call.prompt.tools,
        wants_json=call.prompt.wants_json,
        buckets=b"" if features is None else features.buckets.astype("<u4").tobytes(),
        counts=b"" if features is None else features.counts.astype("<u2").tobytes(),
        structural=b"" if features is None else features.structural.astype("<f4").tobytes(),
        feature_schema=0 if features is None else SCHEMA_VERSION,
        harness_rules=decided.manifest.harness_rules if features is not None else 0,
        **_taught(lesson),
        **_ladder(decided),
    )


def _other_model(decided: Decided) -> str:
    """Return the other model of a pair; of a ladder the one whose answer is wanted as well, else an end of it.

    Readers that know pairs alone take what is not `weak` for the strong model: the cheapest rung stands beside it then.
    """
    pair, decision = decided.manifest.pair, decided.decision
    if decision.other is not None:
        return decision.other.model
    if decided.manifest.rungs is msgspec.UNSET:
        return pair.weak if decision.model == pair.strong else pair.strong
    ladder = decided.manifest.ladder
    return (ladder[0] if decision.place else ladder[-1]).model


def _ladder(decided: Decided) -> dict[str, Any]:
    """Return the fields that tell of a ladder; none for a pair, whose model says it."""
    if decided.manifest.rungs is msgspec.UNSET:
        return {}
    decision, names = decided.decision, tuple(rung.name for rung in decided.manifest.rungs)
    drawn = decision.drawn
    return {
        "rung": decision.rung,
        "rungs": names,
        "p_rungs": decision.p_rungs,
        "t_rungs": decision.t_rungs,
        "usd_rungs": decided.usd,
        "other_rung": "" if decision.other is None else decision.other.name,
        "chosen_rung": "" if drawn is None else names[drawn.chosen],
        "take_rungs": () if drawn is None else drawn.take,
        "ask_rungs": () if drawn is None else drawn.ask,
        "both_propensity": 0.0 if drawn is None else drawn.both,
    }


def check_record_of(checked: CheckedAnswer, mode: LogDecisions, key: bytes) -> CheckRecord:
    """Return the record of a verdict, with as much of the answer as the mode keeps."""
    call, check, judged = checked.call, checked.check, checked.judged
    answer, signals = check.answer, check.signals
    text, is_left_out = kept_text(answer.text, mode)
    return CheckRecord(
        checked_s=checked.checked_s,
        kept=mode,
        digest=prompt_digest(call.prompt, key),
        verdict=judged.verdict,
        model=judged.model,
        threshold=judged.threshold,
        policy=judged.policy,
        reason=judged.reason,
        bundle=checked.bundle_id,
        head=judged.head,
        p_match_checked=judged.p_match,
        request_id=call.request_id,
        tenant=call.tenant,
        task=call.task,
        session_id=call.session_id,
        rule=judged.rule,
        accept_cost_usd=judged.accept_usd,
        escalate_cost_usd=judged.escalate_usd,
        signals_used=judged.used,
        signals_ignored=judged.ignored,
        text=text,
        is_left_out=is_left_out,
        redaction=RULES_VERSION if mode is LogDecisions.REDACTED else 0,
        characters=len(answer.text),
        tool_calls=answer.tool_calls,
        is_refusal=answer.is_refusal,
        finish_reason=answer.finish_reason[:MAX_REASON_CHARS],
        token_logprobs=packed(signals.token_logprobs),
        top_margins=packed(signals.top_margins),
        mean_logprob=signals.mean_logprob,
        self_check=signals.self_check,
        prompt_tokens=check.prompt_tokens,
        completion_tokens=check.completion_tokens,
        latency_ms=check.latency_ms,
        rung=judged.rung if judged.rung != judged.model else "",
    )


def _taught(lesson: Lesson | None) -> dict[str, Any]:
    """Return the fields of a record that a lesson fills; none where there is no vector to learn from."""
    if lesson is None or not lesson.dense:
        return {}
    names = (field.name for field in dataclasses.fields(lesson) if field.name != "features")
    return {name: getattr(lesson, name) for name in names}


def _kept_text(prompt: Prompt, tokens: int, mode: LogDecisions) -> tuple[str | None, bool]:
    """Return what is kept of a text, and whether it was left out: too long, or the caption of what is not kept.

    Longer ones go to the strong model unseen by the router, and no training uses them.
    """
    text = prompt.text
    if mode is LogDecisions.DIGEST:
        return None, False
    if tokens > MAX_ESTIMATED_TOKENS or prompt.is_beyond_features:
        return None, True
    return (redact(text) if mode is LogDecisions.REDACTED else text), False
