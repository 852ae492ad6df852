"""Retraining of a ladder: a challenger with all rungs of the champion, and the gate over what their policies answer.

Comes in: the champion, logs and kept rows. Goes out: `Learnt`. The rows compared on are new to both and hold an outcome
of every rung, so that the score of whatever answers is known; the gate is that of pairs. The score of a row is that of
the rung that answers it; each rung between has log loss and calibration of its own p beside the first's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.verdict import Check, GateVerdict
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.serving.router.model import RouterModel
from turnout.serving.router.rungs import RungHeads
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.dataset.ladder import LadderRead
from turnout.training.dataset.splits import Part, group_records
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused, TooFewYet
from turnout.training.learn.learn import Learned, learn
from turnout.training.learn.predict import seen_rows
from turnout.training.learn.rungs_between import refuse_too_few
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import refuse_too_little
from turnout.training.logs.stored_files import LogFile
from turnout.training.policy.ladder import first_reached
from turnout.training.progress import Reporter
from turnout.training.retrain.asking import Side, TimedAnswers, ask_both
from turnout.training.retrain.division import Division, divide
from turnout.training.retrain.gate import GateLimits, GateRows, ServedAnswers, compare
from turnout.training.retrain.judging import latency, lookers, parity, say_if_lost, verdict_of
from turnout.training.retrain.kept import LadderOrigin
from turnout.training.retrain.kept_ladder import write_kept_ladder
from turnout.training.retrain.pool_ladder import LadderPool, pool_ladder
from turnout.training.retrain.second_look import second_look_checks
from turnout.training.retrain.settings import RetrainSettings

OF_RUNG = ("log loss", "calibration error above chance")
"""Checks that each rung between has of its own; what it answers counts in the quality of the policy."""


@dataclass(frozen=True)
class Learnt:
    """A challenger beside its champion.

    Attributes:
        learned: the challenger.
        verdict: of the gate.
        n_new, n_old: labelled rows of the logs and of the store.
        keep: writes the rows into the store that it is given.
    """

    learned: Learned
    verdict: GateVerdict
    n_new: int
    n_old: int
    keep: Callable[[Path], None]


def learn_ladder_again(
    champion: Bundle,
    paths: Sequence[LogFile],
    kept: Path | None,
    encoder: EncoderModel,
    settings: RetrainSettings,
    trained_as: TrainSettings,
    digest: str,
    reporter: Reporter,
) -> Learnt:
    """Learn a challenger with the champion's rungs from old rows and new, and hold it against the champion.

    Args:
        champion: as it is served.
        paths: the logs.
        kept: the store; None for none.
        encoder: the challenger's.
        settings: what the operator chose.
        trained_as: how the challenger is trained, but for its rungs.
        digest: of the files, for its manifest.
        reporter: shows the stages.

    Raises:
        TooFewYet: too few rows that hold every rung and that the champion has not seen.
        DataRefused: a rung has too few rows to learn from.
    """
    names = tuple(rung.name for rung in champion.manifest.ladder)
    origin = LadderOrigin(names, champion.manifest.match_margin)
    pool = pool_ladder(paths, kept, origin, settings.reading, settings.aging, reporter, settings.model_scores)
    division = _divided(champion, pool, names, settings)
    taught = pool.read.take(np.flatnonzero(np.isin(division.part, (int(Part.FIT), int(Part.POLICY)))))
    refuse_too_little(taught.pair)
    refuse_too_few(taught, names)
    part = np.full(len(taught.pair.rows), int(Part.FIT))
    trained_as = replace(trained_as, models=names)
    learned = learn(taught.pair, part, encoder, trained_as, digest, reporter, ladder=taught)
    verdict = _judged(champion, learned, encoder, pool, _test(pool, division), settings, reporter, division)
    n_old = len(pool.rows) - pool.n_new
    return Learnt(learned, verdict, pool.n_new, n_old, lambda path: write_kept_ladder(path, pool.rows, origin))


def _divided(champion: Bundle, pool: LadderPool, names: tuple[str, ...], settings: RetrainSettings) -> Division:
    created = np.array([np.nan if one.created is None else one.created for one in pool.read.records])
    is_known = known_rows(champion, pool)
    division = divide(pool.read.group, created, is_known, test_share=settings.test_share, seed=settings.seed)
    n_test = _test(pool, division).size
    if n_test < settings.min_test_rows:
        raise TooFewYet(
            f"{int((~is_known).sum())} labelled rows that are new, of which {n_test} hold an outcome of every rung and "
            f"can be compared on; expected at least {settings.min_test_rows}; log more requests with all of "
            f"{', '.join(names)}, or lower --min-test-rows"
        )
    return division


def _test(pool: LadderPool, division: Division) -> Ints:
    """Return the numbers of the rows to compare on."""
    complete = pool.read.complete
    return np.asarray(complete[division.part[complete] == Part.TEST])


def known_rows(champion: Bundle, pool: LadderPool) -> Bools:
    """Return (n,) which rows the champion may have learned from; it knows texts as its own harness rules left them."""
    is_known = pool.is_old | seen_rows(champion, pool.read)
    rules = champion.manifest.harness_rules
    if rules != LATEST_HARNESS_RULES:
        groups = group_records(pool.read.records, rules)
        is_known |= seen_rows(champion, replace(pool.read, groups=groups))
    return is_known


def _judged(
    champion: Bundle,
    learned: Learned,
    encoder: EncoderModel,
    pool: LadderPool,
    test: Ints,
    settings: RetrainSettings,
    reporter: Reporter,
    division: Division,
) -> GateVerdict:
    """Ask both and compare what they say, and what the policy in service makes of it."""
    name = settings.policy or champion.manifest.default_policy
    policies = champion.manifest.policy(name), learned.manifest.policy(name)
    rules, unseen = learned.manifest.harness_rules, learned.evaluation.unseen
    model = RouterModel(learned.graph, encoder.tokenizer_json, encoder.card.max_tokens, rules, unseen)
    if learned.rungs is None or champion.rung_heads is None:
        raise DataRefused(f"{champion.folder}: holds no heads of rungs between; train the ladder anew")
    sides = (
        Side(champion.model, policies[0].threshold, champion.rung_heads),
        Side(model, policies[1].threshold, RungHeads(learned.rungs)),
    )
    read, limits = pool.read, settings.limits.at(policies[0])
    records = [read.requests[row].paired(0, read.match.shape[1]) for row in test.tolist()]
    with reporter.stage("Asking champion and challenger", test.size) as advance:
        asked = ask_both(*sides, [record.prompt for record in records], advance)
    rows = _gate_rows(pool, test, 0)
    score = read.score[test]
    with reporter.stage("Comparing"):
        before, after = (
            replace(one.answers, score=_answered(one, policy, score))
            for one, policy in zip(asked, policies, strict=True)
        )
        checks = compare(rows, before, after, limits, seed=settings.seed)
        for rung in range(1, read.match.shape[1]):
            checks += _rung_checks(pool, test, rung, asked, policies, champion.manifest.ladder[rung].name, settings)
        if learned.checker is not None or not settings.may_lose_second_look:
            was, now = (
                replace(side, beyond=_beyond(one, _t_rungs(side.policy, is_checked=side.tries), score))
                for side, one in zip(lookers(champion, learned, model, encoder, name), asked, strict=True)
            )
            checks += second_look_checks(was, now, records, rows, limits, seed=settings.seed)
    checks += [latency(*asked, settings.limits), parity(learned, settings.limits)]
    say_if_lost(champion, checks, reporter)
    return verdict_of(champion, name, records, rows, checks, is_later=division.is_later)


def _rung_checks(
    pool: LadderPool,
    test: Ints,
    rung: int,
    asked: tuple[TimedAnswers, TimedAnswers],
    policies: tuple[Policy, Policy],
    name: str,
    settings: RetrainSettings,
) -> list[Check]:
    """Return log loss and calibration of a rung between.

    Its log loss may rise by as much as the interval of the first rung's may: what a worse p of one rung does to the
    answers counts in the quality of the policy, and the sign of a mean is refused by chance half of the time.
    """
    before, after = (_answers_of(one, policy, rung) for one, policy in zip(asked, policies, strict=True))
    limits = settings.limits.at(policies[0])
    checks = compare(_gate_rows(pool, test, rung), before, after, limits, seed=settings.seed)
    found = [one for one in checks if one.name in OF_RUNG]
    return [
        msgspec.structs.replace(one, name=f"{name}: {one.name}", is_met=one.is_met or _is_small(one, limits))
        for one in found
    ]


def _answers_of(asked: TimedAnswers, policy: Policy, rung: int) -> ServedAnswers:
    """Return what one side says of a rung between."""
    assert asked.p_rungs is not None
    p = asked.p_rungs[:, rung - 1]
    return ServedAnswers(p, p >= _t_rungs(policy, is_checked=False)[rung - 1])


def _is_small(check: Check, limits: GateLimits) -> bool:
    return check.name == OF_RUNG[0] and check.figure is not None and check.figure <= limits.log_loss


def _t_rungs(policy: Policy, *, is_checked: bool) -> tuple[float, ...]:
    """Return the thresholds of the rungs between, of callers that check or that do not."""
    found = policy.checked.t_rungs if is_checked and policy.checked is not None else policy.t_rungs
    assert found is not msgspec.UNSET
    return found


def _answered(asked: TimedAnswers, policy: Policy, score: Floats) -> Floats:
    """Return (n,) the score of what answers with one look."""
    beyond = _beyond(asked, _t_rungs(policy, is_checked=False), score)
    return np.where(asked.answers.goes_weak, score[:, 0], beyond)


def _beyond(asked: TimedAnswers, t_rungs: tuple[float, ...], score: Floats) -> Floats:
    """Return (n,) the score of what answers where the first rung does not."""
    assert asked.p_rungs is not None
    assert asked.is_unlike is not None
    rung = first_reached(asked.p_rungs, asked.is_unlike, t_rungs)
    return np.asarray(score[np.arange(rung.size), rung], dtype=np.float64)


def _gate_rows(pool: LadderPool, test: Ints, rung: int) -> GateRows:
    read: LadderRead = pool.read
    at = np.searchsorted(read.in_pair, test)  # rows with all labels have rung 0's
    records = [read.requests[row].record for row in test.tolist()]
    return GateRows(
        match=read.match[test, rung],
        strong_score=read.score[test, -1],
        weak_score=read.score[test, rung],
        group=read.group[test],
        weight=pool.weight[test],
        slices={
            "task": [record.task or "" for record in records],
            "language": read.pair.prompt_measures.take(at).language,
        },
    )
