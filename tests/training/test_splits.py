"""Groups and split: what belongs together stays together, and the parts have the sizes they should."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.log_builders import record
from turnout.serving.router.ties import normalised
from turnout.training.dataset.splits import WEEK_S, Part, group_records, key_digests, split_groups
from turnout.training.logs.records import Record

SHARES = {Part.FIT: 0.6, Part.CALIBRATE: 0.1, Part.POLICY: 0.1, Part.TEST: 0.2}


def words(rng: random.Random, n: int) -> str:
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=7)) for _ in range(n))


def distinct(n: int, seed: int = 0, **fields: object) -> list[Record]:
    rng = random.Random(seed)
    return [record(words(rng, 8), **fields) for _ in range(n)]


def groups_of(*records: Record) -> list[int]:
    return group_records(records).group.tolist()


def straddling(group: np.ndarray, part: np.ndarray) -> list[int]:
    return [one for one in np.unique(group) if np.unique(part[group == one]).size > 1]


@pytest.mark.parametrize("field", ["group_id", "session_id"])
def test_rows_that_share_an_id_share_a_group(field: str):
    first, second = record("one thing", **{field: "a"}), record("quite another", **{field: "a"})
    assert groups_of(first, second, record("a third", **{field: "b"})) == [0, 0, 1]


def test_a_group_id_is_no_session_id():
    assert groups_of(record("one thing", group_id="a"), record("quite another", session_id="a")) == [0, 1]


@pytest.mark.parametrize("other", ["WHAT is it?", "  what   is\n it? ", "What\tis it?"])
def test_rows_that_differ_in_case_or_white_space_share_a_group(other: str):
    assert groups_of(record("What is it?"), record("Why is it?"), record(other)) == [0, 1, 0]
    assert normalised(other) == "what is it?"


def test_the_last_user_text_ties_rows_whatever_came_before():
    assert groups_of(record("user:\nhi\n\nuser:\nWhy?", user_text="Why?"), record("Why?")) == [0, 0]


def test_ties_are_transitive():
    rows = (
        record("one", group_id="a"),
        record("two", session_id="s"),
        record("three"),
        record("two", group_id="a"),
        record("Three", session_id="s"),
    )
    assert groups_of(*rows) == [0, 0, 0, 0, 0]


def test_near_duplicates_share_a_group():
    rng = random.Random(1)
    text = words(rng, 60)
    groups = group_records([record(text), record(words(rng, 60)), record(f"{text} please")])
    assert groups.group.tolist() == [0, 1, 0]
    assert groups.n_near_duplicates == 1


def test_three_near_duplicates_in_a_small_log_are_no_template():
    rng = random.Random(9)
    text = words(rng, 60)
    groups = group_records([*(record(f"{text}{end}") for end in ("", " please", " thanks")), *distinct(200)])
    assert groups.group[:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("n_shared", "is_joined"), [(57, True), (51, False), (30, False)])
def test_near_means_four_fifths_of_the_shingles(n_shared: int, *, is_joined: bool):
    # 62 words are 60 shingles; 57 words shared give 55 / 65 = 0.85, 51 give 49 / 71 = 0.69.
    rng = random.Random(n_shared)
    pairs = []
    for _ in range(10):
        shared = words(rng, n_shared)
        pairs += [record(f"{shared} {words(rng, 62 - n_shared)}") for _ in range(2)]
    groups = group_records(pairs)
    assert groups.n_near_duplicates == (10 if is_joined else 0)
    assert groups.n_groups == (10 if is_joined else 20)


def test_different_questions_in_one_long_template_stay_apart():
    rng = random.Random(3)
    template = words(rng, 200)
    texts = [f"{template} {words(rng, 5)}" for _ in range(400)]
    groups = group_records([record(text) for text in texts] + distinct(400, seed=4))
    assert groups.n_groups == 800
    assert groups.n_near_duplicates == 0


def test_oversized_component_is_split_by_exact_text_and_reported():
    rng = random.Random(5)
    tied = [record(text, session_id="everyone") for text in (words(rng, 8) for _ in range(40)) for _ in range(2)]
    groups = group_records([*tied, *distinct(200, seed=6)])
    assert groups.split_sizes == [80]
    assert groups.group[:80].tolist() == [row // 2 for row in range(80)]
    assert groups.n_groups == 240


def test_component_of_a_tolerable_size_is_kept_whole():
    tied = distinct(10, seed=7, session_id="few")
    groups = group_records([*tied, *distinct(200, seed=8)])
    assert groups.split_sizes == []
    assert set(groups.group[:10].tolist()) == {0}


def test_no_rows_have_no_groups():
    groups = group_records([])
    assert groups.n_groups == 0
    assert groups.keys == []


@given(
    ties=st.lists(
        st.tuples(
            st.sampled_from(["", "g1", "g2", "g3"]), st.sampled_from(["", "s1", "s2"]), st.sampled_from(range(40))
        ),
        min_size=1,
        max_size=80,
    ),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_no_tie_ever_straddles_two_parts(ties: list[tuple[str, str, int]], seed: int):
    rows = [record(f"question {text}", group_id=g or None, session_id=s or None) for g, s, text in ties]
    groups = group_records(rows)
    part = split_groups(rows, groups.group, seed)
    assert part.shape == (len(rows),)
    assert straddling(groups.group, part) == []
    if not groups.split_sizes:
        for position, key in ((0, "group"), (1, "session"), (2, "text")):
            for value in {row[position] for row in ties} - {""}:
                tied = [row for row, row_ties in enumerate(ties) if row_ties[position] == value]
                assert np.unique(part[tied]).size == 1, key


@given(
    sizes=st.lists(st.integers(1, 4), min_size=100, max_size=160),
    n_sources=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25)
def test_parts_are_six_one_one_two_tenths_of_the_groups(sizes: list[int], n_sources: int, seed: int):
    group = np.repeat(np.arange(len(sizes)), sizes)
    rows = [record(source=f"source-{one % n_sources}") for one in group]
    part = split_groups(rows, group, seed)
    assert straddling(group, part) == []
    of_group = np.array([part[group == one][0] for one in range(len(sizes))])
    for one, share in SHARES.items():
        # Blocks of ten are whole but for the last one.
        assert abs((of_group == one).sum() - share * len(sizes)) <= 6


def test_every_source_has_the_same_mix_of_parts():
    group = np.arange(1000)
    rows = [record(source=f"source-{one % 4}") for one in group]
    part = split_groups(rows, group, seed=11)
    for source in range(4):
        for one, share in SHARES.items():
            assert (part[group % 4 == source] == one).mean() == pytest.approx(share, abs=0.05)


def test_same_seed_gives_the_same_parts_and_another_seed_others():
    rows, group = [record()] * 300, np.arange(300)
    first = split_groups(rows, group, seed=5)
    assert np.array_equal(first, split_groups(rows, group, seed=5))
    assert not np.array_equal(first, split_groups(rows, group, seed=6))


def dated(n: int, span_s: float) -> tuple[list[Record], np.ndarray]:
    order = np.random.default_rng(0).permutation(n)
    return [record(created=1.7e9 + span_s * position / (n - 1)) for position in order], order


def test_rows_of_a_week_or_more_leave_the_latest_to_policy_and_test():
    rows, order = dated(200, WEEK_S)
    part = split_groups(rows, np.arange(200), seed=0)[np.argsort(order)]
    assert set(part[:140].tolist()) == {Part.FIT, Part.CALIBRATE}
    assert (part[:140] == Part.FIT).sum() == 120
    assert set(part[140:160].tolist()) == {Part.POLICY}
    assert set(part[160:].tolist()) == {Part.TEST}


def test_a_group_is_as_late_as_its_latest_row():
    rows, order = dated(200, 2 * WEEK_S)
    group = np.arange(200)
    earliest, latest = int(np.argmin(order)), int(np.argmax(order))
    group[earliest] = group[latest]
    group = np.unique(group, return_inverse=True)[1]
    assert split_groups(rows, group, seed=0)[earliest] == Part.TEST


@pytest.mark.parametrize("span_s", [0.0, WEEK_S - 1])
def test_rows_of_less_than_a_week_are_split_at_random(span_s: float):
    rows, order = dated(200, span_s)
    part = split_groups(rows, np.arange(200), seed=0)[np.argsort(order)]
    assert {Part.POLICY, Part.TEST} <= set(part[:100].tolist())


def test_one_row_without_a_date_makes_the_split_random():
    rows, order = dated(200, 2 * WEEK_S)
    part = split_groups([record(), *rows[1:]], np.arange(200), seed=0)[np.argsort(order)]
    assert {Part.POLICY, Part.TEST} <= set(part[:100].tolist())


def test_digests_of_keys_depend_on_the_salt_and_hide_the_key():
    keys = group_records([record("My secret", session_id="s")]).keys
    digests = key_digests(keys, "salt")
    assert len(digests) == 2
    assert {len(digest) for digest in digests} == {8}
    assert digests == key_digests(keys, "salt")
    assert digests.isdisjoint(key_digests(keys, "pepper"))
    assert not any(b"secret" in digest for digest in digests)


def test_rows_of_two_files_meet_through_their_digests():
    ours, theirs = (group_records([record(text)]).keys for text in ("What is it?", "what  IS it?"))
    assert key_digests(ours, "salt") == key_digests(theirs, "salt")
    assert key_digests(ours, "salt").isdisjoint(key_digests(group_records([record("Why?")]).keys, "salt"))
