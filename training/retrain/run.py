"""Retrain: new logs and the champion in, a challenger out, in service when it has proved to be no worse.

    labels, kept rows -> pool -> division -> learn -> judge -> publish -> promote -> keep

Killed at any moment, `CURRENT` names a whole bundle: the challenger is published under its final name before the
pointer is replaced, and the pointer is replaced at once. Rows are kept last, so that after a run that was killed
they are new again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import Bundle, load_bundle, sign_bundle
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.verdict import GateVerdict
from turnout.training.bundle.reopen import check_encoder, refuse_ladder
from turnout.training.dataset.dataset import digest_files
from turnout.training.dataset.digests.making import Making
from turnout.training.dataset.splits import Part, group_records
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused, TooFewYet
from turnout.training.files import alone
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.learn import Learned, learn
from turnout.training.learn.predict import seen_rows
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import publish_learned, refuse_too_little
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.retrain.division import Division, divide
from turnout.training.retrain.gate import Limits
from turnout.training.retrain.judging import judge
from turnout.training.retrain.kept import Origin, write_kept
from turnout.training.retrain.kept_digests import write_kept_digests
from turnout.training.retrain.pool import Aging, Pool, pool_rows


@dataclass(frozen=True)
class RetrainSettings:
    """What the operator chooses.

    Attributes:
        policy: at whose thresholds the two are compared; empty for the champion's default one.
        limits: what the gate tolerates.
        test_share: share of the fresh groups to compare on, in (0, 1).
        min_test_rows: fewer rows to compare on are too few; nothing is learned then.
        aging: window and decay.
        reading: how the logs are to be read.
        seed: of draws and bootstraps.
        cache_dir: folder of the dense cache; None for none.
        fit: form, C and scales to fit with; None chooses them by cross-validation.
        is_dry_run: nothing is written.
        is_forced: promote whatever the gate says; noted in the bundle.
        may_lose_second_look: whether a challenger without a second look may take the place of a champion that has one.
        signing_key: private key to sign the challenger with; None leaves it unsigned.
    """

    policy: str = ""
    limits: Limits = field(default_factory=Limits)
    test_share: float = 0.4
    min_test_rows: int = 1000
    aging: Aging = field(default_factory=Aging)
    reading: Reading = field(default_factory=Reading)
    seed: int = 0
    cache_dir: Path | None = None
    fit: FitSettings | None = None
    is_dry_run: bool = False
    is_forced: bool = False
    may_lose_second_look: bool = False
    signing_key: Path | None = None


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
        refuse_ladder(champion)
        origin = Origin(champion.manifest.pair, champion.manifest.match_margin)
        making = Making.of_champion(champion.manifest)
        pool = pool_rows(paths, kept, origin, settings.reading, settings.aging, reporter, making)
        if pool.features is not None:
            check_encoder(champion, encoder)
        division = _divided(champion, pool, settings)
        digest = digest_files([*paths, *(one for one in (settings.reading.labels, kept) if one and one.exists())])
        trained_as = TrainSettings(
            origin.pair,
            entry.name,
            settings.seed,
            origin.margin,
            cache_dir=settings.cache_dir,
            fit=settings.fit,
            harness_rules=pool.harness_rules,
            note=champion.manifest.training.note,
        )
        learned = learn(pool.data, division.part, encoder, trained_as, digest, reporter, pool.features)
        verdict = _verdict(champion, learned, encoder, pool, division, settings, reporter)
        named = msgspec.structs.replace(learned.manifest, parent=champion.manifest.bundle_id, verdict=verdict)
        done = Retrained(named, verdict, None, False, pool.n_new, len(pool.rows) - pool.n_new)  # noqa: FBT003
        if settings.is_dry_run:
            return done
        done = _published(entry, champion, replace(learned, manifest=named), encoder, settings, done)
        if kept is not None:
            _keep(kept, pool, origin)
        return done


def _keep(path: Path, pool: Pool, origin: Origin) -> None:
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
    found = judge(
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
    return msgspec.structs.replace(found, is_forced=settings.is_forced)


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
