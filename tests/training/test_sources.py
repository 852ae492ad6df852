"""What an operator may name as logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.training.errors import DataRefused
from turnout.training.logs.sources import check_out, find_logs
from turnout.training.logs.stored_files import StoredFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("b.jsonl", "a.jsonl.gz", ".hidden", "deep/c.jsonl", "odd[1].jsonl"):
        (tmp_path / name).write_text("")
    return tmp_path


def names(*named: str | Path) -> list[str]:
    return [path.name for path in find_logs([str(one) for one in named])]


def test_a_folder_stands_for_the_files_directly_in_it_by_name(folder: Path):
    assert names(folder) == ["a.jsonl.gz", "b.jsonl", "odd[1].jsonl"]


def test_a_pattern_stands_for_what_it_matches_and_two_stars_for_any_folders(folder: Path):
    assert names(folder / "*.jsonl") == ["b.jsonl", "odd[1].jsonl"]
    assert names(folder / "**" / "c.jsonl") == ["c.jsonl"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path):
    assert names(folder / "odd[1].jsonl") == ["odd[1].jsonl"]


def test_files_keep_the_order_of_the_arguments_and_come_once(folder: Path):
    assert names(folder / "b.jsonl", folder, "absent.jsonl") == [
        "b.jsonl",
        "a.jsonl.gz",
        "odd[1].jsonl",
        "absent.jsonl",
    ]


def test_a_file_named_in_two_ways_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    (folder / "link.jsonl").symlink_to("b.jsonl")
    assert find_logs(["b.jsonl", str(folder / "b.jsonl"), "deep/../b.jsonl", "link.jsonl"]) == [Path("b.jsonl")]


def test_a_result_is_written_neither_over_a_log_nor_over_a_folder(folder: Path):
    logs = [*find_logs([str(folder)]), StoredFile("s3://bucket/b.jsonl")]
    (folder / "link.jsonl").symlink_to("b.jsonl")
    for out in (folder / "b.jsonl", folder / "deep" / ".." / "b.jsonl", folder / "link.jsonl"):
        with pytest.raises(DataRefused, match="is one of the logs"):
            check_out(out, logs)
    with pytest.raises(DataRefused, match="is a folder"):
        check_out(folder, logs)
    for out in (folder / "labels.parquet", folder / "deep" / "c.jsonl", folder / "absent" / "labels.parquet"):
        check_out(out, logs)


def test_a_result_is_not_written_over_what_is_read_beside_the_logs(tmp_path: Path):
    bundle, labels = tmp_path / "bundle", tmp_path / "labels.parquet"
    bundle.mkdir()
    labels.touch()
    check_out(None, [], bundle, labels)
    check_out(tmp_path / "new.json", [], bundle, None)
    with pytest.raises(DataRefused, match="is one of the logs or other files"):
        check_out(labels, [], bundle, labels)
    with pytest.raises(DataRefused, match="lies in a folder"):
        check_out(bundle / "manifest.json", [], bundle, labels)


def test_a_pattern_or_a_folder_without_files_is_refused(folder: Path):
    (folder / "empty").mkdir()
    for named in (folder / "*.csv", folder / "empty"):
        with pytest.raises(DataRefused, match="no file there"):
            find_logs([str(named)])


def test_a_url_of_a_store_that_nobody_knows_is_refused():
    with pytest.raises(DataRefused, match="zz://bucket/logs: cannot be listed: Unrecognized filesystem type"):
        find_logs(["zz://bucket/logs"])
