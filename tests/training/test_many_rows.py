"""Many rows: the folds share one design, and say what copies of the rows would, but for frequencies of n-grams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.training.runs import QUIET, SEED, fewer_candidates, light_run
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.dataset import load_dataset
from turnout.training.encoders import embeddings
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.fit import many_rows
from turnout.training.fit.fit import FitSettings, LinearRouter
from turnout.training.fit.many_rows import choose_on_some, fit_and_answer, some_groups
from turnout.training.fit.out_of_fold import LessonRows, OutOfFold
from turnout.training.learn import fitting
from turnout.training.learn.evaluating import evaluate_bundle
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train
from turnout.training.sample.sample import write_sample

N = 400
GROUP = np.arange(N) // 2
EASY = ("red", "green", "blue", "white")
FORMS = ("binary", "four_outcomes")


@pytest.fixture(scope="module")
def table(encoder: EncoderModel) -> FeatureTable:
    """Return features of prompts of which a word tells how easy they are, and a rare number each pair."""
    texts = [f"{EASY[row // 2 % 4]} things and {row // 2 * 7919}" for row in range(N)]
    return embed([prompt_from_text(text) for text in texts], encoder, cache_dir=None)


@pytest.fixture(scope="module")
def match() -> Ints:
    """Return labels, the same in a pair: red and green things are matched in 9 of 10 pairs, others in 3 of 10."""
    rate = np.where(GROUP % 4 < 2, 0.9, 0.3)
    return (np.random.default_rng(1).random(N // 2)[GROUP] < rate).astype(np.int64)


def lessons_of(table: FeatureTable, match: Ints, form: str = "binary", weight: Floats | None = None) -> LessonRows:
    outcome = match if form == "binary" else np.where(match == 0, 1, np.arange(N) % 2 * 2)
    return LessonRows(table, {form: outcome}, match, GROUP, weight)


def shared(lessons: LessonRows, **changes: float) -> tuple[OutOfFold, LinearRouter]:
    return fit_and_answer(lessons, [FitSettings(form=next(iter(lessons.targets)), **changes)], copied=0)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_shared_design_says_nearly_what_copies_say(table: FeatureTable, match: Ints, form: str, is_weighted: bool):
    lessons = lessons_of(table, match, form, 1.0 + GROUP % 3 if is_weighted else None)
    (ours, our_fit), (theirs, their_fit) = (
        shared(lessons),
        fit_and_answer(lessons, [FitSettings(form=form)], copied=N),
    )
    assert np.array_equal(ours.fold, theirs.fold)
    for one, other in ((ours.fast, theirs.fast), (ours.full, theirs.full)):
        assert np.corrcoef(one, other)[0, 1] > 0.98
        assert np.abs(one - other).mean() < 0.2
    for one, other in zip(our_fit.log_odds(table), their_fit.log_odds(table), strict=True):
        assert np.abs(one - other).mean() < 0.05


def test_labels_of_a_group_never_reach_its_own_answer(table: FeatureTable, match: Ints):
    before, _ = shared(lessons_of(table, match), c=20.0)
    held = before.fold == 2
    after, _ = shared(lessons_of(table, np.where(held, 1 - match, match)), c=20.0)
    for one, other in ((before.fast, after.fast), (before.full, after.full)):
        assert np.array_equal(one[held], other[held])
        assert not np.allclose(one[~held], other[~held])


def test_half_precision_changes_next_to_nothing(
    table: FeatureTable, match: Ints, encoder: EncoderModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embeddings, "WHOLE", 10)
    texts = [f"{EASY[row // 2 % 4]} things and {row // 2 * 7919}" for row in range(N)]
    rounded = embed([prompt_from_text(text) for text in texts], encoder, cache_dir=None)
    assert rounded.is_rounded
    assert not table.is_rounded
    assert (rounded.dense.dtype, rounded.counts.dtype) == (np.float16, np.uint16)
    some = rounded.take(np.arange(50))
    assert (some.dense.dtype, some.counts.dtype) == (np.float32, np.float32)
    assert (some.counts != table.counts[:50]).nnz == 0
    (one, _), (other, _) = shared(lessons_of(rounded, match)), shared(lessons_of(table, match))
    assert np.abs(one.full - other.full).max() < 0.01


def test_settings_of_few_rows_are_chosen_with_the_answers(table: FeatureTable, match: Ints):
    tried = [FitSettings(form="binary"), FitSettings(form="binary", c=2.0)]
    assert choose_on_some(lessons_of(table, match), tried, [""] * N, seed=0) == tried


@given(
    sizes=st.lists(st.integers(1, 6), min_size=20, max_size=200),
    share=st.floats(0.1, 1.0),
    seed=st.integers(0, 99),
)
@examples(max_examples=60, deadline=None)
def test_part_of_the_rows_holds_whole_groups_and_its_share_of_each_source(sizes: list[int], share: float, seed: int):
    group = np.repeat(np.arange(len(sizes)), sizes)
    source = np.array(["a", "b"])[(group % 3 == 0).astype(np.int64)]
    shuffled = np.random.default_rng(seed).permutation(group.size)
    group, source = group[shuffled], source[shuffled]
    wanted = int(share * group.size)
    found = some_groups(group, source.tolist(), wanted, seed)
    assert np.array_equal(found, np.unique(found))
    assert not np.isin(group[found], np.delete(group, found)).any()
    for name in ("a", "b"):
        whole, part = (source == name).sum(), (source[found] == name).sum()
        assert whole * wanted / group.size - 1e-9 <= part < whole * wanted / group.size + max(sizes)
    assert np.array_equal(some_groups(group, source.tolist(), group.size, seed), np.arange(group.size))


@pytest.mark.slow
def test_log_of_many_rows_becomes_a_bundle(encoder: EncoderModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embeddings, "WHOLE", 500)
    monkeypatch.setattr(many_rows, "CHOSEN_ON", 400)
    monkeypatch.setattr(fitting, "JUDGED", 800)
    monkeypatch.setitem(fit_and_answer.__kwdefaults__, "copied", 700)
    log = tmp_path / "log.jsonl"
    write_sample(log, 1200, seed=1)
    with fewer_candidates(), light_run():
        trained = train([log], tmp_path / "bundle", encoder, TrainSettings(seed=SEED), QUIET)
    assert trained.manifest.training.rows == {"fit": 1200}
    assert 800 <= trained.evaluation.n < 850
    assert trained.evaluation.auroc > 0.6
    assert load_bundle(tmp_path / "bundle").manifest == trained.manifest


@pytest.mark.slow
def test_at_most_so_many_rows_teach_and_the_others_count_as_unseen(encoder: EncoderModel, tmp_path: Path):
    log = tmp_path / "log.jsonl"
    write_sample(log, 1200, seed=1)
    settings = TrainSettings(seed=SEED, max_rows=700, fit=FitSettings(form="binary"))
    with light_run():
        trained = train([log], tmp_path / "bundle", encoder, settings, QUIET)
    taught = trained.manifest.training.rows["fit"]
    assert 700 <= taught < 750
    assert trained.evaluation.n == taught
    assert trained.manifest.training.settings["max_rows"] == 700
    bundle, data = load_bundle(tmp_path / "bundle"), load_dataset([log], Pair(), None, 0.0, QUIET).dataset
    policy = bundle.manifest.policy("")
    judged = evaluate_bundle(bundle, data, policy, early_exit=True, include_seen=False, seed=SEED, reporter=QUIET)
    assert (judged.n, judged.n_seen_in_training) == (1200 - taught, taught)
