"""What a bundle keeps of answers that its default policy would try, for `turnout drift` to hold live ones against."""

from __future__ import annotations

import numpy as np
import pytest

from tests.checkers import checked_policy
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.check.learn import FirstLook
from turnout.training.learn.spreads import MIN_ROWS, second_look_spreads
from turnout.training.logs.records import Record, Response

N = 1000


def records(share_signals: float) -> list[Record]:
    prompt = prompt_from_text("hello")
    logprob = [-0.1 - row / N if row < share_signals * N else None for row in range(N)]
    return [
        Record(str(row), prompt, "hello", weak=Response("x" * (row % 7), None, mean_logprob=logprob[row]))
        for row in range(N)
    ]


def first(p_route: np.ndarray, is_unlike: np.ndarray) -> FirstLook:
    return FirstLook(np.zeros(N), p_route, is_unlike)


def test_spreads_are_of_the_rows_that_would_be_tried():
    p_route, unlike = np.linspace(0.0, 1.0, N), np.zeros(N, dtype=bool)
    unlike[:100] = True
    p_checked = np.full(N, 0.6)
    p_checked[:50] = -1.0  # nothing vouches for them
    p_checked[500:510] = np.nan  # without an answer
    found = second_look_spreads(
        records(0.8), p_checked, first(p_route, unlike), checked_policy(t_strong=0.2, t_weak=0.9)
    )
    tried = (((p_route >= 0.2) & (p_route < 0.9)) | unlike) & ~np.isnan(p_checked)
    assert found["n_tried"] == tried.sum()
    sums = {one.name: sum(one.n) for one in found["spreads"]}
    assert sums == {
        "p_match_checked": (tried & (p_checked >= 0)).sum(),
        "log_characters": tried.sum(),
        "mean_logprob": tried[:800].sum(),
    }


@pytest.mark.parametrize("checked", [None, checked_policy(is_met=False), checked_policy(t_strong=0.9, t_weak=0.9)])
def test_a_policy_that_tries_nothing_has_no_spreads(checked: object):
    found = second_look_spreads(
        records(1.0), np.full(N, 0.5), first(np.linspace(0.0, 1.0, N), np.zeros(N, dtype=bool)), checked
    )
    assert (found["n_tried"], found["spreads"]) == (0, [])


def test_too_few_rows_with_a_signal_are_no_baseline():
    everything = checked_policy(t_strong=0.0, t_weak=2.0)
    n_few = (MIN_ROWS - 1) / N
    found = second_look_spreads(
        records(n_few), np.full(N, 0.5), first(np.full(N, 0.5), np.zeros(N, dtype=bool)), everything
    )
    assert "mean_logprob" not in {one.name for one in found["spreads"]}
