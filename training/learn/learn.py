"""Learn: choose, fit on every row, and answer every row out of fold; `training.learn.flow` does the rest.

Comes in: labelled rows. Goes out: `Learned`, which `training.learn.train` publishes and `training.retrain` judges.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.bundle import Pair, Training
from turnout.serving.bundles.ladder import rung_of
from turnout.serving.router.features import Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.arrays import Floats, Ints
from turnout.training.assess.learning_curve import learning_curve
from turnout.training.bundle.manifest import LIBRARIES, Identity, tenants_of
from turnout.training.check.learn import learn_check
from turnout.training.check.signals import with_signals
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset, Loaded
from turnout.training.dataset.ladder import LadderRead
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.dataset.splits import Part, split_groups
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.evaluation.baselines import dense_logistic_baseline
from turnout.training.fit.difficulty import OPINION_SHARE, Difficulty, read_difficulty
from turnout.training.fit.fit import FitSettings, LinearRouter, outcome_classes
from turnout.training.fit.many_rows import JUDGED, choose_on_some, fit_and_answer, some_groups
from turnout.training.fit.out_of_fold import N_FOLDS, Lessons
from turnout.training.fit.router import HeadLogOdds
from turnout.training.fit.select import candidates_of
from turnout.training.fit.unfamiliar import rare_weight, share_without_own_group
from turnout.training.learn.flow import Answered, Learned, complete
from turnout.training.learn.ladder import Choices, LadderLessons
from turnout.training.learn.ladder import climb as climb_ladder
from turnout.training.learn.second_look import Looked, Looking, look_again
from turnout.training.logs.reading import Reading
from turnout.training.policy.default import carried
from turnout.training.policy.solve import LabelledLogOdds, Solved
from turnout.training.progress import Reporter

__all__ = ["Learned", "TrainSettings", "balance_weight", "embed_dataset", "features_of", "learn"]

BALANCED_ROWS = 600
"""Rows of a source up to which each counts once under `balance`; beyond, a source weighs by the root of its rows."""

NOT_LEARNED = (int(Part.TEST), -1)
"""Parts that do not teach: what a challenger is compared on, and what was left out (`training.retrain.division`)."""


@dataclass(frozen=True)
class TrainSettings:
    """What the operator chooses.

    Attributes:
        pair: names of the two models.
        name: name of the bundle, the first half of its id.
        seed: of the split, the draws and the bootstraps; same logs and seed give the same router.
        margin: by how much the weak score may fall below the strong one and still match.
        wide_search: search every form and the whole grid.
        reading: how the logs are to be read.
        cache_dir: folder of the dense cache; None for none.
        scores: table of other models' scores on the same prompts (`turnout.training.fit.difficulty`); None for none.
        signals: table of what came with the answers (`turnout.training.check.signals`); None for what the logs hold.
        learning_curve: fit on ever more rows too, and keep what each size was worth; takes as long again.
        fit: form, C and scales to fit with; None chooses them by cross-validation.
        harness_rules: version of the rules by which prompts lose their harness text (`turnout.serving.router.harness`).
        policy: name of the default policy; empty for the strictest promise that is met and of use.
        balance: `source` weighs large sources down, so that none dominates; empty lets every row count the same.
        note: for the card: intended use, origin and licences of the logs; Markdown.
        by_task: promise that is solved task by task too, such as `max_worse=0.02`; empty for none.
        max_wait_twice: largest share of past traffic that may wait for both models under a policy; None for no cap.
        models: names of a ladder's rungs, the cheapest first, the ends of which are the pair; empty for a pair.
        model_scores: table of scores of these models that the logs lack; None for none.
        max_rows: labelled rows that teach, at most about so many: groups by chance, of each source the same share; None
            for all.
    """

    pair: Pair = field(default_factory=Pair)
    name: str = "router"
    seed: int = 0
    margin: float = 0.0
    wide_search: bool = False
    reading: Reading = field(default_factory=Reading)
    cache_dir: Path | None = None
    scores: Path | None = None
    signals: Path | None = None
    learning_curve: bool = False
    fit: FitSettings | None = None
    harness_rules: int = LATEST_HARNESS_RULES
    policy: str = ""
    balance: str = ""
    note: str = ""
    by_task: str = ""
    max_wait_twice: float | None = None
    max_rows: int | None = None
    models: tuple[str, ...] = ()
    model_scores: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rungs, the cheapest first; of a pair its two models."""
        return self.models or (self.pair.weak, self.pair.strong)


def learn(
    data: Dataset,
    part: NDArray[np.int64],
    encoder: EncoderModel,
    settings: TrainSettings,
    data_sha256: str,
    reporter: Reporter,
    features: FeatureTable | None = None,
    answers: Answers | None = None,
    ladder: LadderRead | None = None,
) -> Learned:
    """Learn a router from labelled rows; nothing is written.

    Args:
        data: the rows.
        part: (n,) of `Part`; rows of the test, and of no part, are not looked at, all others teach.
        encoder: which reads the prompts.
        settings: what the operator chose.
        data_sha256: what the manifest says of where the rows come from.
        reporter: shows the stages.
        features: of the rows, where they hold no prompts; None embeds the prompts.
        answers: of the weak model, where the rows hold no text and features of their answers were kept.
        ladder: rows of more than two models, of whose ends `data` are the rows; None for a pair.

    Raises:
        DataRefused: the exported graph misses the Python path, or there is no policy of the name asked for.
    """
    if settings.signals is not None:
        data = with_signals(data, settings.signals, settings.pair, reporter)
    over_all = None if ladder is None else _over_all(replace(ladder, pair=data), encoder, settings, reporter)
    if over_all is not None:
        whole = over_all.table.take(over_all.read.in_pair)
    elif features is not None:
        whole = features
    else:
        whole = embed_dataset(data, encoder, settings.cache_dir, reporter, settings.harness_rules)
    kept = np.flatnonzero(~np.isin(part, NOT_LEARNED))
    table = whole if kept.size == len(data.rows) else whole.take(kept)
    reporter.say(carried(int(np.unique(data.groups.group[kept]).size)))
    fitted = _fit(data, kept, table, settings, reporter, over_all, has_text=features is None)
    answered = fitted.answered
    training = _training(data, data_sha256, kept, fitted.settings, settings)
    is_synthetic = any(record.source == "synthetic" for record in data.records)
    identity = Identity(settings.name, settings.pair, settings.margin, settings.harness_rules, is_synthetic)
    taught = (data.groups, kept)
    if over_all is not None:
        taught = over_all.read.groups, np.arange(over_all.read.group.size)
    seen = b"".join(sorted(taught[0].digests(taught[1], training.group_salt)))
    featurizer = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, settings.harness_rules)

    def look(solved: Solved) -> Looked | None:
        if answers is not None:
            known = answers.take(answered.kept)
        elif features is None:
            known = Answers.of([data.rows[row].record for row in answered.kept], featurizer.ngrams)
        else:
            return None  # decision logs without text keep no features of answers: docs/decisions/training/0016
        looking = Looking(
            data, answered.kept, answered.rows, known, settings.pair, settings.seed, settings.max_wait_twice
        )
        return look_again(looking, solved, learn_check, reporter)

    choices = Choices(settings.policy, settings.seed, settings.max_wait_twice)
    climb = None
    if over_all is not None:
        climb = partial(climb_ladder, over_all, answered.rows, fitted.settings, featurizer, choices, reporter)
    done = complete(
        fitted.linear,
        answered,
        encoder,
        identity,
        training,
        seen,
        seed=settings.seed,
        wanted=settings.policy,
        reporter=reporter,
        by_task=settings.by_task,
        look=look,
        climb=climb,
    )
    if not settings.learning_curve:
        return done
    curve = learning_curve(
        data, whole, split_groups(data.records, data.groups.group, settings.seed), seed=settings.seed, reporter=reporter
    )
    return dataclasses.replace(done, evaluation=msgspec.structs.replace(done.evaluation, learning_curve=curve))


@dataclass(frozen=True)
class _Fitted:
    """The regression, the settings behind it, and what rows were told by fits without their group."""

    linear: LinearRouter
    settings: FitSettings
    answered: Answered


def _fit(
    data: Dataset,
    kept: Ints,
    table: FeatureTable,
    settings: TrainSettings,
    reporter: Reporter,
    over_all: LadderLessons | None,
    *,
    has_text: bool,
) -> _Fitted:
    """Choose settings, fit on all rows, and answer them out of fold; of very many only `JUDGED`."""
    group = data.groups.group[kept]
    lessons = _lessons(data, kept, table, _difficulty(data, settings, reporter), settings)
    forms = list(lessons.targets)
    tried = [settings.fit] if settings.fit else candidates_of(forms, kept.size, wide=settings.wide_search)
    source = [data.rows[row].record.source or "" for row in kept]
    with reporter.stage(f"Choosing among {len(tried)} settings, every row answered without its group"):
        tried = choose_on_some(lessons, tried, source, settings.seed)
        found, linear = fit_and_answer(lessons, tried)
    chosen = found.settings
    judged = some_groups(group, source, JUDGED, settings.seed)
    if judged.size < kept.size:
        reporter.say(f"Calibrators, policies and figures rest on {judged.size} of {kept.size} rows, groups by chance")
    fold, all_kept, is_rounded = found.fold[judged], kept, table.is_rounded
    rare_share = share_without_own_group(table, group, judged)
    kept, table, group = kept[judged], table.take(judged), group[judged]
    records = [data.rows[row].record for row in kept]
    costs = request_costs(records, settings.pair) if over_all is None else over_all.costs_of_ends
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No cost policies: {costs.reason}")
    answered = Answered(
        data,
        kept,
        table,
        LabelledLogOdds(
            HeadLogOdds(found.fast[judged], found.full[judged]),
            data.match[kept],
            data.strong_score[kept],
            data.weak_score[kept],
            group,
            rare_share,
            costs if isinstance(costs, RequestCosts) else None,
            data.pair_propensity[kept],
            fold,
        ),
        {"encoder_lr": _encoder_only(table, data.match[kept], fold)},
        has_text=has_text,
        is_rounded=is_rounded,
        rare_idf=rare_weight(all_kept.size),
    )
    return _Fitted(linear, chosen, answered)


def _over_all(read: LadderRead, encoder: EncoderModel, settings: TrainSettings, reporter: Reporter) -> LadderLessons:
    """Return what all rungs are learned from: the features of all rows, and what each would cost at every rung."""
    if settings.by_task:
        raise DataRefused("--by-task: promises by task are solved for pairs; leave it out beside --models")
    with reporter.stage("Embedding prompts", len(read.requests)) as advance:
        prompts = [record.prompt for record in read.records]
        rules = settings.harness_rules
        table = embed(prompts, encoder, cache_dir=settings.cache_dir, harness_rules=rules, on_progress=advance)
    costs = ladder_costs(read.requests, [rung_of(name) for name in settings.names])
    return LadderLessons(read, settings.names, table, costs)


def balance_weight(sources: list[str]) -> Floats:
    """Return (n,) weights of mean 1 by which a source of many rows counts for less: the root of `BALANCED_ROWS` / rows.

    On the reference rows of two files it costs 0.002 AUROC on the rows of the first (95 % -0.005 to +0.001).
    """
    _, place, size = np.unique(sources, return_inverse=True, return_counts=True)
    weight = np.sqrt(np.minimum(1.0, BALANCED_ROWS / size))[place]
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def _lessons(
    data: Dataset, kept: Ints, table: FeatureTable, difficulty: Difficulty | None, settings: TrainSettings
) -> Lessons:
    match = data.match[kept]
    targets = {"binary": match}
    if data.has_scores:
        classes = outcome_classes(data.match, data.strong_score, data.weak_score)
        others = {} if difficulty else targets  # other models' scores soften the four outcomes, and no binary label
        targets = {"four_outcomes": classes[kept], **others}
    weight = data.weight[kept]
    if settings.balance:
        weight = weight * balance_weight([data.rows[row].record.source or "" for row in kept])
    return Lessons(table, targets, match, data.groups.group[kept], weight, difficulty and difficulty.take(kept))


def _encoder_only(table: FeatureTable, match: Ints, fold: Ints) -> Floats:
    """Return (n,) `p_match` of a plain regression on the sentence vectors, on the same folds."""
    p_match = np.empty(match.size)
    for one in range(N_FOLDS):
        others, held_out = fold != one, fold == one
        p_match[held_out] = dense_logistic_baseline(table.dense[others], match[others], table.dense[held_out])
    return p_match


def features_of(
    loaded: Loaded, encoder: EncoderModel, cache_dir: Path | None, reporter: Reporter, harness_rules: int
) -> FeatureTable:
    """Return the features of all rows: those that were read, or of the prompts, with a bar."""
    if loaded.table is not None:
        return loaded.table
    return embed_dataset(loaded.dataset, encoder, cache_dir, reporter, harness_rules)


def embed_dataset(
    data: Dataset, encoder: EncoderModel, cache_dir: Path | None, reporter: Reporter, harness_rules: int = 0
) -> FeatureTable:
    """Return the features of all rows, with a bar."""
    with reporter.stage("Embedding prompts", len(data.rows)) as advance:
        prompts = [record.prompt for record in data.records]
        return embed(prompts, encoder, cache_dir=cache_dir, harness_rules=harness_rules, on_progress=advance)


def _difficulty(data: Dataset, settings: TrainSettings, reporter: Reporter) -> Difficulty | None:
    if settings.scores is None:
        return None
    with reporter.stage("Reading other models' scores"):
        found = read_difficulty(settings.scores, settings.pair, data.records, data.groups.group)
    n_scored = int(np.isfinite(found.scores).any(axis=1).sum())
    reporter.say(f"Scores of {found.scores.shape[1]} other models on {n_scored} of {len(data.rows)} rows")
    return found


def _training(data: Dataset, data_sha256: str, kept: Ints, chosen: FitSettings, settings: TrainSettings) -> Training:
    groups = int(np.unique(data.groups.group[kept]).size)
    salt = data.groups.salt or secrets.token_hex(16)
    return Training(
        data_sha256=data_sha256,
        rows={"fit": int(kept.size)},
        groups={"fit": groups},
        group_salt=salt,
        seed=settings.seed,
        match_rate=float(data.match[kept].mean()),
        labellers=dict(Counter(data.rows[row].label.labeller for row in kept).most_common()),
        settings={
            "form": chosen.form,
            "c": chosen.c,
            "dense_scale": chosen.dense_scale,
            "structural_scale": chosen.structural_scale,
            "margin": settings.margin,
            **({"balance": settings.balance} if settings.balance else {}),
            **({} if settings.max_wait_twice is None else {"max_wait_twice": settings.max_wait_twice}),
            **({} if settings.max_rows is None else {"max_rows": settings.max_rows}),
            "effective_rows": round(data.effective_rows, 1),
            "opinion_share": OPINION_SHARE if settings.scores and chosen.form == "four_outcomes" else 0.0,
        },
        libraries={library: version(library) for library in LIBRARIES},
        note=settings.note,
        tenants=tenants_of([data.rows[row].record for row in kept], salt),
    )
