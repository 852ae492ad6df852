"""Recalibrate: a bundle and a few hundred new labelled rows in, a new bundle with the same regression and encoder out.

    bundle, logs -> reopen -> labels -> groups -> leave seen rows out -> embed -> `training.learn.flow` -> publish

For traffic whose match rate has moved while what is hard has not: the ranking stays. The probabilities, the
thresholds and the limit of what is out of distribution are fitted again, since the new rows are what is to be served.
The regression has seen none of them, so that all of them calibrate and all of them solve the policies; the figures
are cross-fitted, as those of training are (`training.learn.flow`). Of a ladder the rungs between are calibrated again
too, and its policies solved over all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import CHECKER, SEEN_GROUPS, Bundle
from turnout.serving.bundles.manifest import Training
from turnout.serving.router.features import Featurizer
from turnout.training.arrays import Floats, Ints
from turnout.training.bundle.manifest import LIBRARIES, Identity, tenants_of
from turnout.training.bundle.publish import check_out
from turnout.training.bundle.reopen import check_encoder, reopen, reopen_rare_weight, reopen_rungs
from turnout.training.check.learn import FirstLook, LearnedCheck, NoCheck, Rows, recalibrate_check
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset, digest_files, load_dataset
from turnout.training.dataset.ladder import LadderRead, load_ladder
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.dataset.splits import key_digests
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.router import HeadLogOdds
from turnout.training.fit.unfamiliar import rare_share
from turnout.training.labels.stored import label_files
from turnout.training.learn.flow import AnsweredRows, complete
from turnout.training.learn.ladder import Choices, LadderLessons
from turnout.training.learn.ladder import climb as climb_ladder
from turnout.training.learn.predict import DIGEST_BYTES, seen_rows
from turnout.training.learn.rungs_between import recalibrate_between
from turnout.training.learn.second_look import LearnedSecondLook, Looking, look_again
from turnout.training.learn.train import Trained, publish_learned
from turnout.training.logs.quarantine import Rejected, write_quarantine
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record
from turnout.training.logs.stored_files import LogFile
from turnout.training.policy.default import carried
from turnout.training.policy.solve import LabelledLogOdds, Solved
from turnout.training.progress import Reporter

MIN_GROUPS = 100
MIN_NON_MATCHES = 10
"""Fewer leave the rate that is to be put right unknown."""


@dataclass(frozen=True)
class RecalibrateSettings:
    """What the operator chooses.

    Attributes:
        seed: of the draws and the bootstraps.
        reading: how the logs are to be read.
        cache_dir: folder of the dense cache; None for none.
        policy: name of the default policy; empty for the strictest promise that is met and of use.
        model_scores: of a ladder, table of scores of its models that the logs lack; None for none.
    """

    seed: int = 0
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None
    policy: str = ""
    model_scores: Path | None = None


def recalibrate(
    parent: Bundle,
    paths: Sequence[LogFile],
    out: Path,
    encoder: EncoderModel,
    settings: RecalibrateSettings,
    reporter: Reporter,
) -> Trained:
    """Calibrate a bundle again on new logs and publish the result in `out`; the parent stays as it is.

    The labels use the parent's margin: `p_match` keeps its meaning.

    Raises:
        DataRefused: the logs can't be read or hold too little that the parent has not seen, the encoder is
            another one, `out` is the parent or holds something else, or the graph misses the Python path.
    """
    check_out(out)
    if out.resolve() == parent.folder.resolve():
        raise DataRefused(f"{out}: is the bundle to recalibrate; name another folder, so that it can be gone back to")
    linear, rare_idf = reopen(parent), reopen_rare_weight(parent)
    check_encoder(parent, encoder)
    old, rules = parent.manifest, parent.manifest.harness_rules
    read = _read(parent, paths, settings, reporter)
    data, kept = read.data, read.kept
    _refuse_too_little(read)
    records = [data.rows[row].record for row in kept]
    table, lessons = _embedded(parent, read, encoder, settings, reporter)
    costs = request_costs(records, old.pair) if lessons is None else lessons.costs_of_ends
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No cost policies: {costs.reason}")
    rows = LabelledLogOdds(
        HeadLogOdds(*linear.log_odds(table)),
        data.match[kept],
        data.strong_score[kept],
        data.weak_score[kept],
        data.groups.group[kept],
        None if rare_idf is None else rare_share(linear.scaler, rare_idf, table),
        costs if isinstance(costs, RequestCosts) else None,
        data.pair_propensity[kept],
    )
    answered = AnsweredRows(
        data,
        kept,
        table,
        rows,
        {"parent": _said_before(parent, data, kept, reporter)},
        has_text=True,
        rare_idf=rare_idf,
        n_seen=read.n_seen,
    )
    tables = [settings.model_scores] if settings.model_scores else []
    digest = digest_files([*paths, *label_files(settings.reading.labels), *tables])
    labellers = dict(Counter(data.rows[row].label.labeller for row in kept))
    is_synthetic = old.synthetic or any(record.source == "synthetic" for record in records)
    featurizer = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, rules)
    looking = Looking(data, kept, rows, Answers.of(records, featurizer.ngrams), old.pair, settings.seed)
    climb = None
    if lessons is not None:
        heads = partial(recalibrate_between, fit=reopen_rungs(parent), rungs=old.ladder, reporter=reporter)
        choices = Choices(settings.policy, settings.seed, None)
        climb = partial(climb_ladder, lessons, rows, heads, featurizer, choices, reporter)
    learned = complete(
        linear,
        answered,
        encoder,
        Identity(old.name, old.pair, old.match_margin, rules, is_synthetic, old.bundle_id),
        _training(parent, digest, labellers, rows, settings.seed, records),
        _seen(parent, read),
        seed=settings.seed,
        wanted=settings.policy,
        reporter=reporter,
        look=_look(parent, looking, reporter),
        climb=climb,
    )
    published = publish_learned(out, learned, encoder)
    if read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", read.quarantine)
    n_groups = int(np.unique(rows.group).size)
    return Trained(published, learned.evaluation, out, len(read.quarantine), read.unlabelled, carried(n_groups))


@dataclass(frozen=True)
class _Read:
    """Rows of the logs.

    Attributes:
        data: of the pair, or of the two ends of a ladder.
        kept: numbers of those that the parent has not seen.
        n_seen: rows left out for having been seen.
        quarantine: rows that could not be read.
        unlabelled: rows without a label, by why.
        ladder: of a ladder the rows of all rungs, those that the parent has seen left out already.
    """

    data: Dataset
    kept: Ints
    n_seen: int
    quarantine: list[Rejected]
    unlabelled: dict[str, int]
    ladder: LadderRead | None = None


def _read(parent: Bundle, paths: Sequence[LogFile], settings: RecalibrateSettings, reporter: Reporter) -> _Read:
    old = parent.manifest
    how = settings.reading, old.match_margin
    if len(old.ladder) > 2:
        names = [rung.name for rung in old.ladder]
        ladder = load_ladder(
            paths, names, *how, old.harness_rules, reporter, settings.model_scores, may_lack_between=True
        )
        seen = seen_rows(parent, ladder)
        ladder = ladder.take(np.flatnonzero(~seen))
        every = np.arange(ladder.in_pair.size)
        return _Read(ladder.pair, every, int(seen.sum()), ladder.quarantine, ladder.unlabelled, ladder)
    loaded = load_dataset(paths, old.pair, *how, reporter, old.harness_rules)
    seen = seen_rows(parent, loaded.dataset)
    unlabelled = {str(why): count for why, count in loaded.labelled.unlabelled.items()}
    return _Read(loaded.dataset, np.flatnonzero(~seen), int(seen.sum()), loaded.read.quarantine, unlabelled)


def _embedded(
    parent: Bundle, read: _Read, encoder: EncoderModel, settings: RecalibrateSettings, reporter: Reporter
) -> tuple[FeatureTable, LadderLessons | None]:
    """Return the features of the kept rows, and of a ladder what all rungs are calibrated on."""
    records = [read.data.rows[row].record for row in read.kept] if read.ladder is None else read.ladder.records
    rules = parent.manifest.harness_rules
    with reporter.stage("Embedding prompts", len(records)) as advance:
        prompts = [record.prompt for record in records]
        table = embed(prompts, encoder, cache_dir=settings.cache_dir, harness_rules=rules, on_progress=advance)
    if read.ladder is None:
        return table, None
    rungs = parent.manifest.ladder
    lessons = LadderLessons(
        read.ladder, tuple(rung.name for rung in rungs), table, ladder_costs(read.ladder.requests, rungs)
    )
    return table.take(read.ladder.in_pair), lessons


def _look(parent: Bundle, looking: Looking, reporter: Reporter) -> Callable[[Solved], LearnedSecondLook | None]:
    """Return what calibrates the parent's second look again; where it has none, nothing."""
    if parent.checker is None:
        return lambda _: None
    graph = (parent.folder / CHECKER).read_bytes()

    def again(answers: Answers, rows: Rows, first: FirstLook) -> LearnedCheck | NoCheck:
        return recalibrate_check(graph, answers, rows, first)

    return lambda solved: look_again(looking, solved, again, reporter)


def _refuse_too_little(read: _Read) -> None:
    data, kept = read.data, read.kept
    n_groups, n_non_matches = np.unique(data.groups.group[kept]).size, int((data.match[kept] == 0).sum())
    if n_groups < MIN_GROUPS or n_non_matches < MIN_NON_MATCHES:
        raise DataRefused(
            f"{kept.size} labelled rows in {n_groups} groups that the bundle has not seen, {n_non_matches} with a "
            f"worse weak answer ({read.n_seen} rows were seen in its training and left out); "
            f"recalibration needs at least {MIN_GROUPS} groups and {MIN_NON_MATCHES} such rows"
        )


def _said_before(parent: Bundle, data: Dataset, kept: NDArray[np.int64], reporter: Reporter) -> Floats:
    """Return (n,) `p_match` of the parent as served on the rows that are kept."""
    threshold = parent.manifest.policy("").threshold
    said = np.empty(kept.size)
    with reporter.stage("Asking the parent", kept.size) as advance:
        for place, row in enumerate(kept):
            said[place] = parent.model.predict(data.rows[row].record.prompt, threshold).p_match
            advance(1)
    return said


def _training(
    parent: Bundle, digest: str, labellers: dict[str, int], rows: LabelledLogOdds, seed: int, records: list[Record]
) -> Training:
    """Say what the calibrators and policies rest on; the rows of the regression stand in the parent's manifest."""
    return msgspec.structs.replace(
        parent.manifest.training,
        data_sha256=digest,
        rows={"calibrate": int(rows.match.size)},
        groups={"calibrate": int(np.unique(rows.group).size)},
        seed=seed,
        match_rate=float(rows.match.mean()),
        labellers=labellers,
        libraries={library: version(library) for library in LIBRARIES},
        tenants=tenants_of(records, parent.manifest.training.group_salt),
    )


def _seen(parent: Bundle, read: _Read) -> bytes:
    """Digests of the groups that the parent has seen and of these, under the parent's salt."""
    raw = (parent.folder / SEEN_GROUPS).read_bytes()
    known = {raw[start : start + DIGEST_BYTES] for start in range(0, len(raw), DIGEST_BYTES)}
    keys = (read.data.groups.keys[row] for row in read.kept) if read.ladder is None else read.ladder.groups.keys
    return b"".join(sorted(known | key_digests(keys, parent.manifest.training.group_salt)))
