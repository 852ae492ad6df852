"""A bundle that is damaged, incomplete, hostile or of another time is refused, and the file is named."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.builders import digest_of, tiny_bundle, write_raw_manifest
from tests.hostile import HOSTILE, signed
from tests.running import run_to_exit
from turnout.serving.bundles.bundle import GOLDEN, GRAPH, TOKENIZER, load_bundle, read_manifest
from turnout.serving.bundles.manifest import LADDER_FORMAT_VERSION, MANIFEST, MANIFEST_DIGEST, Golden
from turnout.serving.errors import BundleRefused
from turnout.serving.router.prompt import Prompt

FILES = (GRAPH, TOKENIZER, GOLDEN, MANIFEST, MANIFEST_DIGEST)


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def assert_refused(folder: Path, *says: str) -> None:
    with pytest.raises(BundleRefused) as refused:
        load_bundle(folder)
    for text in says:
        assert text in str(refused.value)


def changed(folder: Path, **fields: object) -> None:
    """Write the manifest again with other fields, and a digest that fits."""
    manifest = msgspec.to_builtins(read_manifest(folder))
    write_raw_manifest(folder, msgspec.json.encode(manifest | fields))


def test_undamaged_bundle_loads(folder: Path):
    assert load_bundle(folder).manifest.bundle_id == "tiny/1"


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_is_refused_by_name(folder: Path, name: str):
    path = folder / name
    raw = path.read_bytes()
    rng = random.Random(name)  # the same bits in every run
    for _ in range(40):
        position, bit = rng.randrange(len(raw)), 1 << rng.randrange(8)
        damaged = bytearray(raw)
        damaged[position] ^= bit
        if name == MANIFEST_DIGEST and bytes(damaged).strip() == raw.strip():
            continue  # white space after the digest carries nothing
        path.write_bytes(damaged)
        assert_refused(folder, MANIFEST if name == MANIFEST_DIGEST else name, "expected")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_file_is_refused_by_name(folder: Path, name: str, kept: float):
    path = folder / name
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw.strip()) * kept)])
    assert_refused(folder, MANIFEST if name == MANIFEST_DIGEST else name)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused_by_name(folder: Path, name: str):
    (folder / name).unlink()
    assert_refused(folder, name, "cannot be read")


@pytest.mark.parametrize("name", FILES)
def test_symbolic_link_is_refused_by_name(folder: Path, tmp_path: Path, name: str):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert_refused(folder, name, "symbolic link")


def test_folder_that_is_a_link_inside_the_bundle_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes").write_text("x")
    (folder / "report").symlink_to(tmp_path / "elsewhere")
    files = msgspec.to_builtins(read_manifest(folder).files)
    changed(folder, files=files | {"report/notes": msgspec.to_builtins(digest_of(tmp_path / "elsewhere" / "notes"))})
    assert_refused(folder, "report/notes", "symbolic link")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_what_is_no_plain_file_is_refused_and_does_not_block(folder: Path, make: Callable[[Path], None]):
    (folder / GRAPH).unlink()
    make(folder / GRAPH)
    assert_refused(folder, GRAPH)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "./x", "a//b", "a\\b", "a\0b", ""])
def test_name_that_leads_outside_is_refused_and_not_opened(folder: Path, name: str):
    (folder.parent / "outside").write_text("x")
    files = msgspec.to_builtins(read_manifest(folder).files)
    changed(folder, files=files | {name: msgspec.to_builtins(digest_of(folder.parent / "outside"))})
    assert_refused(folder, MANIFEST, "outside the bundle")


def test_newer_format_is_refused_with_the_next_step(folder: Path):
    changed(folder, format_version=LADDER_FORMAT_VERSION + 1, files={"of": "another shape"})
    assert_refused(folder, MANIFEST, f"format {LADDER_FORMAT_VERSION + 1}", "upgrade Turnout")


def test_other_feature_schema_is_refused_with_the_next_step(folder: Path):
    changed(folder, feature_schema=99)
    assert_refused(folder, MANIFEST, "feature schema 99", "retrain")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format_version": "1"}',
        b"\xff",
        b"[" * 100_000,
        b'{"format_version":1,"a":' * 50_000,
    ],
    ids=["empty", "cut", "list", "nothing", "type", "bytes", "deep list", "deep object"],
)
def test_manifest_that_is_none_is_refused_although_its_digest_fits(folder: Path, raw: bytes):
    write_raw_manifest(folder, raw)
    assert_refused(folder, MANIFEST)


def test_huge_manifest_is_refused_unread(folder: Path):
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(100 << 20)
    assert_refused(folder, MANIFEST, "at most")


def test_manifest_that_lists_no_graph_is_refused(folder: Path):
    files = msgspec.to_builtins(read_manifest(folder).files)
    del files[GRAPH]
    changed(folder, files=files)
    assert_refused(folder, MANIFEST, GRAPH, "incomplete")


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER])
def test_file_that_does_not_load_is_refused_although_its_digest_fits(folder: Path, name: str):
    (folder / name).write_bytes(b"not what it should be")
    assert_refused(signed(folder), name)


@pytest.mark.parametrize("raw", [b"", b"\n", b"7", b'{"prompt": "x"}', b"\xff"])
def test_golden_file_that_is_none_is_refused(folder: Path, raw: bytes):
    (folder / GOLDEN).write_bytes(raw)
    assert_refused(signed(folder), GOLDEN)


@pytest.mark.parametrize("field", ["p_match", "p_match_full"])
def test_missed_golden_answer_is_refused_by_line(folder: Path, field: str):
    lines = [msgspec.json.decode(line) for line in (folder / GOLDEN).read_bytes().splitlines()]
    lines[1][field] += 0.01
    (folder / GOLDEN).write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    assert_refused(signed(folder), GOLDEN, "line 2", "expected", "got")


def test_golden_answer_of_nan_is_refused_by_line(folder: Path):
    (folder / GOLDEN).write_bytes(msgspec.json.encode(Golden("7", 0.5, 0.5)))
    assert_refused(signed(folder), GOLDEN, "line 1", "nan")


def test_files_of_another_version_are_refused(folder: Path, tmp_path: Path):
    other = tiny_bundle(tmp_path / "other", work_per_question=1)
    shutil.copy(other / GRAPH, folder / GRAPH)
    assert_refused(folder, GRAPH)


@pytest.mark.parametrize("name", FILES)
def test_damage_after_loading_changes_no_answer(folder: Path, name: str):
    bundle = load_bundle(folder)
    prompt = Prompt("hello the word")
    before = bundle.model.predict(prompt, 0.75)
    (folder / name).write_bytes(b"")
    assert bundle.model.predict(prompt, 0.75) == before


@pytest.mark.parametrize("name", [GRAPH, MANIFEST])
def test_server_exits_3_and_names_the_damaged_file(folder: Path, name: str):
    raw = bytearray((folder / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / name).write_bytes(raw)
    done = run_to_exit(folder)
    assert done.returncode == 3
    assert str(folder / name) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bundle_is_refused_although_its_digests_fit(folder: Path, name: str):
    HOSTILE[name](folder)
    assert_refused(folder, str(folder))


def test_graph_that_loads_and_does_not_run_is_refused(folder: Path):
    HOSTILE["tensor of 10^18 elements"](folder)
    assert_refused(folder, GRAPH, "does not run")
