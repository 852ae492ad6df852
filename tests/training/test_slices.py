"""Slices by language, length and depth; what they lose against the strong model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.outcomes import full_outcomes
from turnout.serving.router.languages import script_of
from turnout.training.evaluation.slices import length_bins, slice_all, turn_bins


@pytest.fixture(scope="module")
def found():
    return slice_all(full_outcomes(), threshold=0.8, seed=0, n_bootstraps=100)


def test_every_row_is_in_one_slice_of_each_way(found):
    for slices in (found.task, found.source, found.stage, found.language, found.length, found.turns):
        assert sum(one.n for one in slices) == 400
        assert len({one.name for one in slices}) == len(slices)


def test_drop_is_the_score_lost_by_what_goes_weak(found):
    outcomes = full_outcomes()
    rows = np.array(outcomes.language) == "hr"
    (croatian,) = [one for one in found.language if one.name == "hr"]
    weak = outcomes.p_match[rows] >= 0.8
    strong, other = outcomes.strong_score[rows], outcomes.weak_score[rows]
    assert croatian.share_weak == pytest.approx(weak.mean())
    assert croatian.drop == pytest.approx(1 - np.where(weak, other, strong).mean() / strong.mean())
    assert croatian.drop_if_weak == pytest.approx(1 - other.mean() / strong.mean())
    for name in ("match_rate", "auroc", "drop", "drop_if_weak"):
        low, high = croatian.intervals[name]
        assert low <= getattr(croatian, name) <= high


def test_nothing_is_said_of_a_policy_that_is_not_given():
    for one in slice_all(full_outcomes(60), threshold=None, seed=0, n_bootstraps=0).task:
        assert one.share_weak is None
        assert one.drop is None
        assert one.intervals["auroc"] is None


def test_slice_that_the_strong_model_scores_nothing_on_has_no_drop():
    outcomes = full_outcomes(60)
    outcomes.strong_score[:] = 0
    for one in slice_all(outcomes, threshold=0.5, seed=0, n_bootstraps=10).source:
        assert one.drop is None
        assert one.intervals["drop"] is None


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=200))
def test_length_bins_hold_what_their_names_say(tokens: list[int]):
    place, names = length_bins(np.array(tokens, dtype=np.float64))
    for length, name in zip(tokens, [names[at] for at in place], strict=True):
        numbers = [int(word) for word in name.split() if word.isdigit()]
        if name.startswith("over"):
            assert length > numbers[0]
        elif len(numbers) == 2:
            assert length <= numbers[1]
            assert length >= numbers[0] or numbers[0] == 1
        else:
            assert length <= numbers[0]


def test_depth_is_binned_by_user_messages():
    place, names = turn_bins(np.array([1, 2, 3, 5, 6, 40]))
    assert [names[at] for at in place] == ["1 turn", "2 turns", "3 to 5 turns", "3 to 5 turns", *["over 5 turns"] * 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is it?", "Latin script"),
        ("Dobar dan, čaša žive vode", "Latin script"),
        ("Сколько будет два плюс два, in words", "Cyrillic script"),
        ("日本の首都はどこですか", "Japanese script"),
        ("法国的首都是哪里", "Chinese script"),
        ("ما هي العاصمة", "Arabic script"),
        ("대한민국의 수도", "Hangul script"),
        ("12 + 30 = ?", ""),
    ],
)
def test_writing_system_stands_in_for_a_language_that_is_not_named(text: str, expected: str):
    assert script_of(text) == expected


@given(st.text())
def test_any_text_has_a_writing_system_or_none(text: str):
    assert script_of(text) == "" or script_of(text).endswith(" script")
