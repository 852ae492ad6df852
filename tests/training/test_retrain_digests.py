"""Retraining from the log of a real server that keeps no text: a better router, and not a word of any prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.explored import explored_log
from tests.training.runs import QUIET, TrainingRun
from tests.training.test_digests import changed
from tests.training.test_kept import kept_rows
from tests.training.test_retrain import SETTINGS as FOR_TEXTS
from tests.training.test_retrain import check, later_rows, registry
from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.router.prompt import prompt_from_json
from turnout.training.compaction.forget import Whom, forget_kept
from turnout.training.dataset.digests.making import Making
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused, TooFewYet
from turnout.training.learn.predict import seen_rows
from turnout.training.logs.cells import encode
from turnout.training.retrain.kept import KeptOrigin, read_kept, write_kept
from turnout.training.retrain.pool import Aging, Pool, pool_rows
from turnout.training.retrain.run import Retrained, retrain

pytestmark = pytest.mark.slow

N_ROWS, BOTH = 600, 0.9
SETTINGS = replace(FOR_TEXTS, may_lose_second_look=True)
"""Digests hold no answers: nothing that a second look could be learned from."""


@dataclass
class Story:
    """A registry whose champion served traffic in digest mode, and what retraining from that log made of it."""

    folder: Path
    entry: Entry
    champion: str
    rows: list[dict]
    log: list[Path]
    kept: Path
    done: Retrained

    @property
    def origin(self) -> KeptOrigin:
        return KeptOrigin(self.done.manifest.pair, 0.0)

    def pool(self, log: list[Path], aging: Aging | None = None, kept: Path | None = None) -> Pool:
        making = Making.of_champion(self.done.manifest)
        return pool_rows(log, kept or self.kept, self.origin, SETTINGS.reading, aging or Aging(), QUIET, making)


@pytest.fixture(scope="module")
def story(
    training_run: TrainingRun,
    encoder: EncoderModel,
    tmp_path_factory: pytest.TempPathFactory,
    light_runs: None,  # noqa: ARG001  # that of the story
) -> Story:
    folder = tmp_path_factory.mktemp("digests")
    entry = registry(folder / "models", training_run)
    champion = entry.current()
    rows = later_rows(N_ROWS, 81, first_day=0)
    log = explored_log(entry.folder / champion, folder, rows, both=BOTH)
    kept = folder / "kept.parquet"
    done = retrain(log, entry, kept, encoder, SETTINGS, QUIET)
    return Story(folder, entry, champion, rows, log, kept, done)


def test_challenger_learned_without_any_text_is_promoted(story: Story):
    assert story.done.is_promoted
    assert story.entry.current() == story.done.manifest.version
    losses = check(story.done.verdict, "log loss")
    assert losses.challenger < losses.champion - 0.05
    assert 0.85 * N_ROWS < story.done.n_new < 0.95 * N_ROWS
    assert load_bundle(story.done.folder).manifest.harness_rules == story.done.manifest.harness_rules == 1


def test_no_text_of_any_request_is_on_the_disk(story: Story):
    texts = [prompt_from_json(encode(row["request"])).text for row in story.rows[::20]]
    needles = {text[start : start + 16] for text in texts for start in range(0, max(1, len(text) - 16), 16)}
    needles = {needle for needle in needles if len(needle) == 16}
    assert len(needles) > 100
    for path in [*story.log, story.kept, *(one for one in (story.folder / "spool").rglob("*") if one.is_file())]:
        plain = pa.BufferOutputStream()
        if path.suffix == ".parquet":
            pq.write_table(pq.read_table(path), plain, compression="none", use_dictionary=False)
        contents = path.read_bytes() + plain.getvalue().to_pybytes()
        assert not [needle for needle in needles if needle.encode() in contents]


def test_only_requests_whose_answers_were_both_wanted_bring_a_vector(story: Story):
    rows = [row for path in story.log for row in pq.read_table(path).to_pylist()]
    assert len(rows) == N_ROWS
    assert all(row["dense"] and row["text_key"] and row["key_salt"] for row in rows if row["wants_both"])
    assert {(row["dense"], row["text_key"], row["key_salt"]) for row in rows if not row["wants_both"]} == {
        (None, None, None)
    }


def test_challenger_carries_on_the_salt_so_that_the_next_one_knows_its_rows(story: Story):
    before = read_manifest(story.entry.folder / story.champion)
    assert story.done.manifest.training.group_salt == before.training.group_salt
    data = story.pool(story.log).data
    seen = seen_rows(load_bundle(story.done.folder), data)
    assert seen.mean() > 0.4
    assert not seen_rows(load_bundle(story.entry.folder / story.champion), data).any()
    other = replace(data, groups=replace(data.groups, salt="other"))
    with pytest.raises(DataRefused, match="have another salt than those of the rows"):
        seen_rows(load_bundle(story.done.folder), other)


def test_same_log_again_is_too_little(story: Story, encoder: EncoderModel):
    with pytest.raises(TooFewYet, match="0 labelled rows that are new"):
        retrain(story.log, story.entry, story.kept, encoder, SETTINGS, QUIET)


def test_window_and_half_life_hold_for_rows_without_text(story: Story):
    pool = story.pool(story.log)
    assert (pool.n_new, len(pool.rows)) == (0, story.done.n_new)
    moments = sorted(one.moment_s for one in pool.rows)
    window_days = (moments[-1] - (moments[99] + moments[100]) / 2) / 86_400
    narrow = story.pool(story.log, Aging(window_days=window_days, half_life_days=window_days))
    assert len(narrow.rows) == len(moments) - 100
    assert narrow.features is not None
    assert narrow.features.dense.shape[0] == len(narrow.rows)
    age_days = (moments[-1] - np.array([one.moment_s for one in narrow.rows])) / 86_400
    assert narrow.data.weight == pytest.approx(narrow.weight * 0.5 ** (age_days / window_days))


def test_champion_of_another_encoder_or_harness_version_is_refused(story: Story, encoder: EncoderModel, tmp_path: Path):
    (log,) = story.log
    table = pq.read_table(log)
    for column, value, message in (
        ("encoder_sha256", "0" * 64, "another encoder's vectors"),
        ("harness_rules", 0, "other harness rules"),
        ("key_salt", "other", "digests under another bundle's salt"),
    ):
        values = [None if one is None else value for one in table[column].to_pylist()]
        other = changed(log, tmp_path / f"{column}.parquet", **{column: values})
        with pytest.raises(DataRefused, match=message):
            retrain([other], story.entry, None, encoder, SETTINGS, QUIET)


def test_stores_of_rows_with_and_without_text_are_not_mixed(story: Story, tmp_path: Path):
    with pytest.raises(DataRefused, match="no store of kept rows with prompts"):
        read_kept(story.kept, story.origin)
    prompts = tmp_path / "prompts.parquet"
    write_kept(prompts, kept_rows(), story.origin)
    with pytest.raises(DataRefused, match="no store of kept rows without prompts, and the logs are digests"):
        story.pool(story.log, kept=prompts)


def test_kept_rows_without_text_can_be_forgotten(story: Story, tmp_path: Path):
    kept = tmp_path / "kept.parquet"
    kept.write_bytes(story.kept.read_bytes())
    first = pq.read_table(kept)["id"].to_pylist()[0]
    assert forget_kept(kept, Whom(request_id=first)) == 1
    pool = story.pool(story.log, kept=kept)
    assert (pool.n_new, len(pool.rows)) == (1, story.done.n_new)
