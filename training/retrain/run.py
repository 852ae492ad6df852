"""Retrain: new logs and the champion in, a challenger out, in service when it has proved to be no worse.

    labels, kept rows -> pool -> division -> learn -> judge -> publish -> promote -> keep

Killed at any moment, `CURRENT` names a whole bundle: the challenger is published under its final name before the
pointer is replaced, and the pointer is replaced at once. Rows are kept last, so that after a run that was killed
they are new again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import Bundle, load_bundle, sign_bundle
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.verdict import GateVerdict
from turnout.training.bundle.reopen import check_encoder
from turnout.training.dataset.dataset import digest_files
from turnout.training.dataset.digests.making import Making
from turnout.training.dataset.splits import Part, group_records
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused, TooFewYet
from turnout.training.files import alone
from turnout.training.labels.stored import label_files
from turnout.training.learn.learn import Learned, learn
from turnout.training.learn.predict import seen_rows
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import publish_learned, refuse_too_little
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.retrain.division import Division, divide
from turnout.training.retrain.judging import judge
from turnout.training.retrain.kept import KeptOrigin, write_kept
from turnout.training.retrain.kept_digests import write_kept_digests
from turnout.training.retrain.ladder import Learnt, learn_ladder_again
from turnout.training.retrain.pool import Pool, pool_rows
from turnout.training.retrain.settings import RetrainSettings


@dataclass(frozen=True)
class Retrained:
    """What a retraining leaves.

    Attributes:
        manifest: of the challenger.
        verdict: the same as in the manifest.
        folder: where the challenger lies; None after a dry run.
        is_promoted: whether it is in service now.
        n_new, n_old: labelled rows of the logs and of the store.
    """

    manifest: Manifest
    verdict: GateVerdict
    folder: Path | None
    is_promoted: bool
    n_new: int
    n_old: int


def retrain(
    paths: Sequence[LogFile],
    entry: Entry,
    kept: Path | None,
    encoder: EncoderModel,
    settings: RetrainSettings,
    reporter: Reporter,
) -> Retrained:
    """Learn a challenger, hold it against the champion, and put it into service when every check is met.

    Args:
        paths: the logs.
        entry: name in the registry whose `CURRENT` is the champion.
        kept: file of labelled rows from earlier runs, made where there is none; None learns from the logs alone.
        encoder: the challenger's.
        settings: what the operator chose.
        reporter: shows the stages.

    Raises:
        TooFewYet: too few rows that the champion has not seen.
        RetrainUnderWay: another retraining of the name, or with the store, is at work.
        DataRefused: the logs or the store can't be read, or are too little to learn from.
        BundleRefused: there is no champion, or another one by the time that the challenger is ready.
    """
    with contextlib.ExitStack() as held:
        if not settings.is_dry_run:
            for path in filter(None, (entry.folder, kept)):
                held.enter_context(alone(path))
        champion = load_bundle(entry.folder / entry.current())
        tables = [one for one in (settings.model_scores, kept) if one and one.exists()]
        digest = digest_files([*paths, *label_files(settings.reading.labels), *tables])
        trained_as = TrainSettings(
            champion.manifest.pair,
            entry.name,
            settings.seed,
            champion.manifest.match_margin,
            cache_dir=settings.cache_dir,
            fit=settings.fit,
            note=champion.manifest.training.note,
        )
        again = _pair_again if len(champion.manifest.ladder) == 2 else learn_ladder_again
        learnt = again(champion, paths, kept, encoder, settings, trained_as, digest, reporter)
        learned, verdict = learnt.learned, msgspec.structs.replace(learnt.verdict, is_forced=settings.is_forced)
        named = msgspec.structs.replace(learned.manifest, parent=champion.manifest.bundle_id, verdict=verdict)
        done = Retrained(named, verdict, None, False, learnt.n_new, learnt.n_old)  # noqa: FBT003
        if settings.is_dry_run:
            return done
        done = _published(entry, champion, replace(learned, manifest=named), encoder, settings, done)
        if kept is not None:
            learnt.keep(kept)
        return done


def _pair_again(
    champion: Bundle,
    paths: Sequence[LogFile],
    kept: Path | None,
    encoder: EncoderModel,
    settings: RetrainSettings,
    trained_as: TrainSettings,
    digest: str,
    reporter: Reporter,
) -> Learnt:
    """Learn a challenger of the champion's pair from old rows and new, and hold it against the champion."""
    origin = KeptOrigin(champion.manifest.pair, champion.manifest.match_margin)
    making = Making.of_champion(champion.manifest)
    pool = pool_rows(paths, kept, origin, settings.reading, settings.aging, reporter, making)
    if pool.features is not None:
        check_encoder(champion, encoder)
    division = _divided(champion, pool, settings)
    trained_as = replace(trained_as, harness_rules=pool.harness_rules)
    learned = learn(pool.data, division.part, encoder, trained_as, digest, reporter, pool.features)
    verdict = _verdict(champion, learned, encoder, pool, division, settings, reporter)
    n_old = len(pool.rows) - pool.n_new
    return Learnt(learned, verdict, pool.n_new, n_old, lambda path: _keep(path, pool, origin))


def _keep(path: Path, pool: Pool, origin: KeptOrigin) -> None:
    if pool.stored is None:
        write_kept(path, pool.rows, origin)
    else:
        write_kept_digests(path, pool.stored, origin)


def _divided(champion: Bundle, pool: Pool, settings: RetrainSettings) -> Division:
    data = pool.data
    created = np.array([np.nan if one.created is None else one.created for one in data.records])
    is_known = known_rows(champion, pool)
    division = divide(data.groups.group, created, is_known, test_share=settings.test_share, seed=settings.seed)
    n_test = int((division.part == Part.TEST).sum())
    if n_test < settings.min_test_rows:
        raise TooFewYet(
            f"{int((~is_known).sum())} labelled rows that are new, of which {n_test} to compare on; expected at least "
            f"{settings.min_test_rows}; log more requests with both models' answers, or lower --min-test-rows"
        )
    refuse_too_little(data)
    learned = data.match[division.part == Part.FIT]
    if np.unique(learned).size < 2:
        raise DataRefused(f"the {learned.size} rows to learn from hold one outcome only; log more requests")
    return division


def known_rows(champion: Bundle, pool: Pool) -> NDArray[np.bool_]:
    """Return (n,) which rows the champion may have learned from; it knows texts as its own harness rules left them."""
    is_known = pool.is_old | seen_rows(champion, pool.data)
    rules = champion.manifest.harness_rules
    if pool.features is None and rules != pool.harness_rules:
        groups = group_records(pool.data.records, rules)
        is_known |= seen_rows(champion, replace(pool.data, groups=groups))
    return is_known


def _verdict(
    champion: Bundle,
    learned: Learned,
    encoder: EncoderModel,
    pool: Pool,
    division: Division,
    settings: RetrainSettings,
    reporter: Reporter,
) -> GateVerdict:
    return judge(
        champion,
        learned,
        encoder,
        pool,
        np.flatnonzero(division.part == Part.TEST),
        policy=settings.policy,
        limits=settings.limits,
        seed=settings.seed,
        is_later=division.is_later,
        may_lose_second_look=settings.may_lose_second_look,
        reporter=reporter,
    )


def _published(
    entry: Entry,
    champion: Bundle,
    learned: Learned,
    encoder: EncoderModel,
    settings: RetrainSettings,
    judged: Retrained,
) -> Retrained:
    """Publish the challenger beside the champion, its golden prompts asked again, and promote it if it may be."""
    folder = entry.folder / learned.manifest.version
    if folder.exists():
        raise DataRefused(f"{folder}: the challenger is that very version; there is nothing new to learn from")
    manifest = publish_learned(folder, learned, encoder)
    if settings.signing_key is not None:
        sign_bundle(folder, settings.signing_key)
    is_promoted = judged.verdict.is_met or judged.verdict.is_forced
    if is_promoted:
        entry.promote(manifest.version, instead_of=champion.manifest.version)
    return replace(judged, manifest=manifest, folder=folder, is_promoted=is_promoted)
