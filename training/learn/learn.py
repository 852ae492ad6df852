"""Learn: choose, fit on every row, and answer every row out of fold; `training.learn.flow` does the rest.

Comes in: labelled rows. Goes out: `Learned`, which `training.learn.train` publishes and `training.retrain` judges.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.ladder import rung_of
from turnout.serving.bundles.manifest import Training
from turnout.serving.router.features import Featurizer
from turnout.training.arrays import Ints
from turnout.training.assess.learning_curve import learning_curve
from turnout.training.bundle.manifest import LIBRARIES, Identity, tenants_of
from turnout.training.check.learn import learn_check
from turnout.training.check.signals import with_signals
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.dataset import Dataset, Loaded
from turnout.training.dataset.ladder import LadderRead
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.dataset.splits import Part, split_groups
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.fit.difficulty import OPINION_SHARE
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.fitting import fit
from turnout.training.learn.flow import Learned, complete
from turnout.training.learn.ladder import Choices, LadderLessons
from turnout.training.learn.ladder import climb as climb_ladder
from turnout.training.learn.rungs_between import learn_between
from turnout.training.learn.second_look import LearnedSecondLook, Looking, look_again
from turnout.training.learn.settings import TrainSettings
from turnout.training.policy.default import carried
from turnout.training.policy.solve import Solved
from turnout.training.progress import Reporter

__all__ = ["Learned", "embed_dataset", "features_of", "learn"]

NOT_LEARNED = (int(Part.TEST), -1)
"""Parts that do not teach: what a challenger is compared on, and what was left out (`training.retrain.division`)."""


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
    fitted = fit(data, kept, table, settings, reporter, over_all, has_text=features is None)
    for_curve = whole if settings.learning_curve else None
    del whole, table  # 2 GiB of a million rows; of what follows each row has its own part
    answered = fitted.answered
    training = _training(data, data_sha256, kept, fitted.settings, settings)
    is_synthetic = any(record.source == "synthetic" for record in data.records)
    identity = Identity(settings.name, settings.pair, settings.margin, settings.harness_rules, is_synthetic)
    taught = (data.groups, kept)
    if over_all is not None:
        taught = over_all.read.groups, np.arange(over_all.read.group.size)
    seen = b"".join(sorted(taught[0].digests(taught[1], training.group_salt)))
    featurizer = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, settings.harness_rules)

    def look(solved: Solved) -> LearnedSecondLook | None:
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

    choices = Choices(settings.policy, settings.seed, settings.max_wait_twice, settings.by_task)
    climb = None
    if over_all is not None:
        heads = partial(learn_between, settings=fitted.settings)
        climb = partial(climb_ladder, over_all, answered.rows, heads, featurizer, choices, reporter)
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
    if for_curve is None:
        return done
    curve = learning_curve(
        data,
        for_curve,
        split_groups(data.records, data.groups.group, settings.seed),
        seed=settings.seed,
        reporter=reporter,
    )
    return dataclasses.replace(done, evaluation=msgspec.structs.replace(done.evaluation, learning_curve=curve))


def _over_all(read: LadderRead, encoder: EncoderModel, settings: TrainSettings, reporter: Reporter) -> LadderLessons:
    """Return what all rungs are learned from: the features of all rows, and what each would cost at every rung."""
    with reporter.stage("Embedding prompts", len(read.requests)) as advance:
        prompts = [record.prompt for record in read.records]
        rules = settings.harness_rules
        table = embed(prompts, encoder, cache_dir=settings.cache_dir, harness_rules=rules, on_progress=advance)
    costs = ladder_costs(read.requests, [rung_of(name) for name in settings.names])
    return LadderLessons(read, settings.names, table, costs)


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
