"""A bundle appears whole or not at all, and says truly what it holds."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.bundles.manifest import MANIFEST, MANIFEST_DIGEST, Manifest
from turnout.training.bundle.publish import check_out, publish
from turnout.training.errors import DataRefused

Content = tuple[Manifest, dict[str, bytes]]


@pytest.fixture
def content(bundle_folder: Path) -> Content:
    """Return a manifest without digests, and the files of a bundle that loads."""
    manifest = msgspec.structs.replace(read_manifest(bundle_folder), files={})
    names = [path.name for path in bundle_folder.iterdir() if path.name not in (MANIFEST, MANIFEST_DIGEST)]
    files = {name: (bundle_folder / name).read_bytes() for name in names}
    return manifest, {**files, "card.md": b"# tiny\n", "report/index.html": b"<html></html>"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "registry" / "tiny"


def of_version(content: Content, version: str) -> Content:
    return msgspec.structs.replace(content[0], version=version), content[1]


def version_at(folder: Path) -> str:
    return load_bundle(folder).manifest.version


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail_at_call(monkeypatch: pytest.MonkeyPatch, target: str, call: int) -> None:
    """Let the operating system fail once, at the given call."""
    module, name = target.rsplit(".", 1)
    owner = {"os": os, "Path": Path}[module]
    real, seen = getattr(owner, name), []

    def failing(*args: object) -> object:
        seen.append(args)
        if len(seen) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(owner, name, failing)


def test_published_bundle_loads(content: Content, out: Path):
    published = publish(out, *content)
    assert load_bundle(out).manifest == published
    assert files_of(out).keys() == content[1].keys() | {MANIFEST, MANIFEST_DIGEST}
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_digests_in_the_manifest_are_those_of_the_files(content: Content, out: Path):
    published = publish(out, *content)
    assert published.files.keys() == content[1].keys()
    for name, digest in published.files.items():
        raw = (out / name).read_bytes()
        assert raw == content[1][name]
        assert (digest.size, digest.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    written = (out / MANIFEST_DIGEST).read_text().strip()
    assert written == hashlib.sha256((out / MANIFEST).read_bytes()).hexdigest()


def test_same_content_gives_the_same_bytes(content: Content, tmp_path: Path):
    manifest, files = content
    publish(tmp_path / "a", manifest, files)
    publish(tmp_path / "b", manifest, dict(reversed(files.items())))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_earlier_bundle_is_replaced_and_leaves_nothing_behind(content: Content, out: Path):
    manifest, files = content
    publish(out, *of_version((manifest, {**files, "report/old.png": b"old"}), "old"))
    publish(out, *of_version(content, "new"))
    assert version_at(out) == "new"
    assert not (out / "report" / "old.png").exists()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_loaded_bundle_outlives_its_replacement(content: Content, out: Path):
    publish(out, *of_version(content, "old"))
    loaded = load_bundle(out)
    publish(out, *of_version(content, "new"))
    assert loaded.manifest.version == "old"


@pytest.mark.parametrize("has_earlier", [False, True])
@pytest.mark.parametrize("call", [1, 3, 6])
def test_full_disk_leaves_no_half_bundle(
    content: Content, out: Path, monkeypatch: pytest.MonkeyPatch, call: int, has_earlier: bool
):
    if has_earlier:
        publish(out, *of_version(content, "old"))
    fail_at_call(monkeypatch, "os.fsync", call)
    with pytest.raises(OSError, match="No space"):
        publish(out, *of_version(content, "new"))
    monkeypatch.undo()
    assert [path.name for path in out.parent.iterdir()] == ([out.name] if has_earlier else [])
    if has_earlier:
        assert version_at(out) == "old"


@pytest.mark.parametrize("call", [1, 2])
def test_failed_rename_leaves_the_earlier_bundle(
    content: Content, out: Path, monkeypatch: pytest.MonkeyPatch, call: int
):
    publish(out, *of_version(content, "old"))
    fail_at_call(monkeypatch, "Path.rename", call)
    with pytest.raises(OSError, match="No space"):
        publish(out, *of_version(content, "new"))
    monkeypatch.undo()
    assert version_at(out) == "old"


def test_interrupted_run_leaves_no_draft(content: Content, out: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(out, *content)
    assert list(out.parent.iterdir()) == []


def test_folder_with_other_files_is_refused_untouched(content: Content, out: Path):
    out.mkdir(parents=True)
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(DataRefused, match="no bundle"):
        publish(out, *content)
    assert files_of(out) == {"thesis.txt": b"years of work"}


def test_folder_of_another_programs_manifest_is_refused_untouched(content: Content, out: Path):
    out.mkdir(parents=True)
    (out / MANIFEST).write_text('{"name": "my extension", "files": {}}')
    (out / "main.js").write_text("years of work")
    before = files_of(out)
    with pytest.raises(DataRefused, match="no bundle"):
        publish(out, *content)
    assert files_of(out) == before


def test_files_that_came_to_a_bundle_are_not_lost_with_it(content: Content, out: Path):
    publish(out, *content)
    (out / "notes").mkdir()
    (out / "notes" / "why.md").write_text("years of work")
    before = files_of(out)
    with pytest.raises(DataRefused, match=r"holds notes/why\.md"):
        publish(out, *of_version(content, "2"))
    with pytest.raises(DataRefused, match="lies in the bundle"):
        publish(out / "notes" / "inner", *content)
    assert files_of(out) == before
    (out / "notes" / "why.md").rename(out / ".why")  # as a file manager's own
    publish(out, *of_version(content, "2"))
    assert version_at(out) == "2"


def test_plain_file_is_refused_untouched(content: Content, out: Path):
    out.parent.mkdir()
    out.write_text("years of work")
    with pytest.raises(DataRefused, match="is a file"):
        publish(out, *content)
    assert out.read_text() == "years of work"


def test_empty_folder_is_taken(content: Content, out: Path):
    out.mkdir(parents=True)
    check_out(out)
    publish(out, *content)
    assert version_at(out) == "1"
