"""Recalibrate: a bundle and a few hundred new labelled rows in, a new bundle with the same regression and encoder out.

    bundle, logs -> reopen -> labels -> groups -> leave seen rows out -> embed -> `training.learn.flow` -> publish

For traffic whose match rate has moved while what is hard has not: the ranking stays. The probabilities, the
thresholds and the limit of what is out of distribution are fitted again, since the new rows are what is to be served.
The regression has seen none of them, so that all of them calibrate and all of them solve the policies; the figures
are cross-fitted, as those of training are (`training.learn.flow`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import CHECKER, SEEN_GROUPS, Bundle
from turnout.serving.bundles.manifest import Training
from turnout.serving.router.features import Featurizer
from turnout.training.arrays import Floats
from turnout.training.bundle.manifest import LIBRARIES, Identity, tenants_of
from turnout.training.bundle.publish import check_out
from turnout.training.bundle.reopen import check_encoder, refuse_ladder, reopen, reopen_rare_weight
from turnout.training.check.learn import FirstLook, LearnedCheck, NoCheck, Rows, recalibrate_check
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset, digest_files, load_dataset
from turnout.training.dataset.splits import key_digests
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.router import HeadLogOdds
from turnout.training.fit.unfamiliar import rare_share
from turnout.training.learn.flow import Answered, complete
from turnout.training.learn.predict import DIGEST_BYTES, seen_rows
from turnout.training.learn.second_look import Looked, Looking, look_again
from turnout.training.learn.train import Trained, publish_learned
from turnout.training.logs.quarantine import write_quarantine
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
    """

    seed: int = 0
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None
    policy: str = ""


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
    refuse_ladder(parent)
    linear, rare_idf = reopen(parent), reopen_rare_weight(parent)
    check_encoder(parent, encoder)
    margin = parent.manifest.match_margin
    rules = parent.manifest.harness_rules
    loaded = load_dataset(paths, parent.manifest.pair, settings.reading, margin, reporter, rules)
    data, seen = loaded.dataset, seen_rows(parent, loaded.dataset)
    kept = np.flatnonzero(~seen)
    _refuse_too_little(data, kept)
    prompts = [data.rows[row].record.prompt for row in kept]
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        table = embed(prompts, encoder, cache_dir=settings.cache_dir, harness_rules=rules, on_progress=advance)

    costs = request_costs([data.rows[row].record for row in kept], parent.manifest.pair)
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
    answered = Answered(
        data,
        kept,
        table,
        rows,
        {"parent": _said_before(parent, data, kept, reporter)},
        has_text=True,
        rare_idf=rare_idf,
        n_seen=len(data.rows) - kept.size,
    )
    stored = [settings.reading.labels] if settings.reading.labels else []
    digest = digest_files([*paths, *stored])
    labellers = dict(Counter(data.rows[row].label.labeller for row in kept))
    is_synthetic = parent.manifest.synthetic or any(data.rows[row].record.source == "synthetic" for row in kept)
    old = parent.manifest
    featurizer = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, rules)
    answers = Answers.of([data.rows[row].record for row in kept], featurizer.ngrams)
    looking = Looking(data, kept, rows, answers, parent.manifest.pair, settings.seed)
    learned = complete(
        linear,
        answered,
        encoder,
        Identity(old.name, old.pair, margin, rules, is_synthetic, old.bundle_id),
        _training(parent, digest, labellers, rows, settings.seed, [data.rows[row].record for row in kept]),
        _seen(parent, data, kept),
        seed=settings.seed,
        wanted=settings.policy,
        reporter=reporter,
        look=_look(parent, looking, reporter),
    )
    published = publish_learned(out, learned, encoder)
    if loaded.read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", loaded.read.quarantine)
    unlabelled = {str(why): count for why, count in loaded.labelled.unlabelled.items()}
    n_quarantined, n_groups = len(loaded.read.quarantine), int(np.unique(rows.group).size)
    return Trained(published, learned.evaluation, out, n_quarantined, unlabelled, carried(n_groups))


def _look(parent: Bundle, looking: Looking, reporter: Reporter) -> Callable[[Solved], Looked | None]:
    """Return what calibrates the parent's second look again; where it has none, nothing."""
    if parent.checker is None:
        return lambda _: None
    graph = (parent.folder / CHECKER).read_bytes()

    def again(answers: Answers, rows: Rows, first: FirstLook) -> LearnedCheck | NoCheck:
        return recalibrate_check(graph, answers, rows, first)

    return lambda solved: look_again(looking, solved, again, reporter)


def _refuse_too_little(data: Dataset, kept: NDArray[np.int64]) -> None:
    n_groups, n_non_matches = np.unique(data.groups.group[kept]).size, int((data.match[kept] == 0).sum())
    if n_groups < MIN_GROUPS or n_non_matches < MIN_NON_MATCHES:
        raise DataRefused(
            f"{kept.size} labelled rows in {n_groups} groups that the bundle has not seen, {n_non_matches} with a "
            f"worse weak answer ({len(data.rows) - kept.size} rows were seen in its training and left out); "
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


def _seen(parent: Bundle, data: Dataset, kept: NDArray[np.int64]) -> bytes:
    """Digests of the groups that the parent has seen and of these, under the parent's salt."""
    raw = (parent.folder / SEEN_GROUPS).read_bytes()
    known = {raw[start : start + DIGEST_BYTES] for start in range(0, len(raw), DIGEST_BYTES)}
    fresh = key_digests((data.groups.keys[row] for row in kept), parent.manifest.training.group_salt)
    return b"".join(sorted(known | fresh))
