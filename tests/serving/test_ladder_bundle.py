"""A bundle of a ladder: it loads, says p of every rung, and is refused where its rungs are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import numpy_helper

from tests.builders import LADDER_NAMES, digest_of, tiny_ladder, tiny_rungs, write_manifest
from turnout.serving.bundles.bundle import RUNGS, Bundle, load_bundle, read_manifest
from turnout.serving.bundles.ladder import rung_of
from turnout.serving.bundles.manifest import LADDER_FORMAT_VERSION, MANIFEST
from turnout.serving.bundles.policy import NEVER
from turnout.serving.errors import BundleRefused
from turnout.serving.router.prompt import prompt_from_text


@pytest.fixture(scope="module")
def ladder(ladder_bundle_folder: Path) -> Bundle:
    return load_bundle(ladder_bundle_folder)


def test_a_ladder_says_p_of_every_rung_between(ladder: Bundle):
    assert ladder.rung_heads is not None
    assert [rung.name for rung in ladder.manifest.ladder] == list(LADDER_NAMES)
    assert ladder.manifest.format_version == LADDER_FORMAT_VERSION
    short, long = (
        ladder.rung_heads.p_rungs(ladder.model.featurize(prompt_from_text(text))) for text in ("Hello", "word " * 80)
    )
    assert len(short) == len(long) == 1
    assert 1 > short[0] > long[0] > 0


def test_any_level_of_a_ladder_names_what_its_rungs_need(ladder: Bundle):
    assert ladder.manifest.policy("max_worse=0.01").t_rungs == (0.8,)
    assert ladder.manifest.policy("max_worse=0.06").t_rungs == (0.6,)
    assert ladder.manifest.policy("max_worse=0.002").t_rungs == (NEVER,)


def test_a_pair_says_nothing_of_rungs(bundle: Bundle):
    assert bundle.rung_heads is None
    raw = (bundle.folder / MANIFEST).read_bytes()
    assert b"rungs" not in raw
    assert [rung.model for rung in bundle.manifest.ladder] == ["gpt-4o-mini", "gpt-4o"]


@pytest.mark.parametrize("wrong", ["absent", "one too many", "other weights"])
def test_rungs_that_are_not_those_of_the_manifest_are_refused(ladder_bundle_folder: Path, tmp_path: Path, wrong: str):
    folder = shutil.copytree(ladder_bundle_folder, tmp_path / "ladder")
    manifest = read_manifest(folder)
    files = dict(manifest.files)
    if wrong == "absent":
        del files[RUNGS]
    else:
        graph = tiny_rungs(2) if wrong == "one too many" else _shifted(tiny_rungs(1))
        (folder / RUNGS).write_bytes(graph)
        files[RUNGS] = digest_of(folder / RUNGS)
    write_manifest(folder, msgspec.structs.replace(manifest, files=files))
    with pytest.raises(BundleRefused, match=RUNGS):
        load_bundle(folder)


def _shifted(graph: bytes) -> bytes:
    model = onnx.load_from_string(graph)
    for one in model.graph.initializer:
        if one.name == "bias":
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) + 0.5, "bias"))
    return model.SerializeToString()


def test_four_rungs_load_too(tmp_path: Path):
    bundle = load_bundle(tiny_ladder(tmp_path / "four", "a", "b", "c", "d"))
    assert bundle.rung_heads is not None
    low, high = bundle.rung_heads.p_rungs(bundle.model.featurize(prompt_from_text("Hello there")))
    assert low < high


def test_only_known_efforts_are_efforts():
    assert rung_of("o3:high").model == "o3"
    assert rung_of("o3:high").effort == "high"
    assert rung_of("ft:gpt-4o-mini:org::id").model == "ft:gpt-4o-mini:org::id"
