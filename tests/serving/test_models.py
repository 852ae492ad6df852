"""The registry's commands: what is put into service is checked, noted, and can be taken back, also two at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.builders import tiny_bundle, write_manifest
from tests.running import environment, route, server_process
from turnout.serving.bundles.bundle import GRAPH, read_manifest
from turnout.serving.bundles.entry import HISTORY, Entry, names
from turnout.serving.bundles.registry import CURRENT, resolve
from turnout.serving.cli.models import differences, find, versions
from turnout.serving.errors import BundleRefused


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a registry with versions 1 to 5 of one name, each the parent of the next; none in service."""
    folder = tmp_path / "models"
    for number in range(1, 6):
        version = tiny_bundle(folder / "tiny" / f"{number}", version=f"{number}", bias=3.2 + number / 10)
        manifest = read_manifest(version)
        parent = f"tiny/{number - 1}" if number > 1 else None
        created = f"2026-11-{number:02d}T00:00:00Z"
        write_manifest(version, msgspec.structs.replace(manifest, parent=parent, created=created))
    (folder / "encoders" / "some").mkdir(parents=True)
    return folder


@pytest.fixture
def entry(models: Path) -> Entry:
    return Entry(models, "tiny")


def turnout(models: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "turnout.serving.cli.app", "models", *words, "--models", str(models)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())


def test_each_rollback_takes_back_one_promotion(entry: Entry):
    for version in ("1", "2", "4"):
        entry.promote(version)
    assert [entry.rollback().version, entry.rollback().version] == ["2", "1"]
    with pytest.raises(BundleRefused, match="no version before 1"):
        entry.rollback()
    entry.promote("3")
    assert (entry.rollback().version, entry.current(), resolve(entry.folder).name) == ("1", "1", "1")
    actions = [(change.action, change.before, change.version) for change in entry.history()]
    assert actions[2:5] == [("promote", "2", "4"), ("rollback", "4", "2"), ("rollback", "2", "1")]


def test_version_put_into_service_by_hand_is_no_dead_end(entry: Entry):
    entry.promote("1")
    (entry.folder / CURRENT).write_text("5\n")  # also what a crash between pointer and history leaves
    assert entry.before() == "1"
    entry.promote("2")
    assert [entry.rollback().version, entry.rollback().version] == ["5", "1"]


def test_version_that_can_not_be_served_is_refused_and_nothing_changes(entry: Entry):
    entry.promote("1")
    graph = entry.folder / "2" / GRAPH
    graph.write_bytes(graph.read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in entry.folder.iterdir() if path.is_file()}
    for version, why in (("2", GRAPH), ("9", "no such version"), ("../tiny/3", "no such version"), ("1", "already")):
        with pytest.raises(BundleRefused, match=why):
            entry.promote(version)
    assert {path.name: path.read_bytes() for path in entry.folder.iterdir() if path.is_file()} == before


def test_damaged_history_is_named_and_stops_the_promotion(entry: Entry):
    entry.promote("1")
    (entry.folder / HISTORY).write_text("nonsense\n")
    with pytest.raises(BundleRefused, match="not a history"):
        entry.promote("2")
    assert entry.current() == "1"


def test_promotions_of_many_processes_at_once_leave_pointer_and_history_whole(models: Path, entry: Entry):
    with ThreadPoolExecutor(5) as pool:
        ended = list(pool.map(lambda number: turnout(models, "promote", "tiny", f"{number}"), range(1, 6)))
    assert [one.returncode for one in ended] == [0] * 5, [one.stderr for one in ended]
    history = entry.history()
    assert sorted(change.version for change in history) == ["1", "2", "3", "4", "5"]
    assert [change.before for change in history] == ["", *(change.version for change in history[:-1])]
    assert entry.current() == history[-1].version


def test_prune_keeps_the_newest_and_what_is_still_needed(entry: Entry):
    entry.promote("1")
    entry.promote("3")
    (entry.folder / ".going-0").mkdir()  # of a run that was killed
    assert entry.prune(1) == ["4"]
    assert list(entry.versions()) == ["1", "2", "3", "5"]  # 3 in service, 2 its parent, 1 of before, 5 the newest
    assert not (entry.folder / ".going-0").exists()
    assert entry.prune(0) == ["5"]
    assert entry.rollback().version == "1"


def test_list_tells_versions_parents_and_what_is_in_service(models: Path, entry: Entry):
    entry.promote("2")
    entry.promote("3")
    assert names(models) == ["tiny"]
    found = versions(models)
    assert [(one.version, one.parent, one.is_current, one.is_before) for one in found][:3] == [
        ("1", None, False, False),
        ("2", "tiny/1", False, True),
        ("3", "tiny/2", True, False),
    ]
    with pytest.raises(BundleRefused, match="the registry has: tiny"):
        Entry(models, "encoders")


def test_differences_are_the_fields_that_differ(models: Path):
    one, two = read_manifest(find(models, "tiny/1")), read_manifest(find(models, "tiny/2"))
    assert {found.field for found in differences(one, two)} == {"version", "created", "parent"}
    assert differences(one, one) == []
    other = msgspec.structs.replace(two, metrics={"auroc": 0.7})
    (figure,) = [found for found in differences(one, other) if found.field == "auroc"]
    assert (figure.a, figure.b) == (None, 0.7)


@pytest.mark.slow
def test_commands_print_json_and_exit_3_for_what_is_not_there(models: Path):
    assert json.loads(turnout(models, "promote", "tiny", "1", "--json").stdout)["version"] == "1"
    assert json.loads(turnout(models, "promote", "tiny", "2", "--json").stdout)["before"] == "1"
    shown = json.loads(turnout(models, "show", "tiny", "--json").stdout)
    assert (shown["lineage"], len(shown["versions"]), len(shown["history"])) == (["tiny/2", "tiny/1"], 5, 2)
    different = json.loads(turnout(models, "diff", "tiny", "tiny/1", "--json").stdout)
    assert {row["field"] for row in different} == {"version", "created", "parent"}
    assert json.loads(turnout(models, "rollback", "tiny", "--json").stdout)["version"] == "1"
    assert json.loads(turnout(models, "prune", "tiny", "--keep", "2", "--json").stdout) == ["2", "3"]
    assert [row["version"] for row in json.loads(turnout(models, "list", "--json").stdout)] == ["1", "4", "5"]
    refused = turnout(models, "promote", "tiny", "9")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    for words in (("list",), ("show", "tiny"), ("diff", "tiny", "tiny/4")):
        assert "tiny/" in turnout(models, *words).stdout


def test_running_server_follows_a_promotion_and_its_rollback(models: Path, entry: Entry, tmp_path: Path):
    entry.promote("1")
    with server_process(entry.folder, tmp_path / "stderr.log") as server:

        def serves(bundle_id: str) -> bool:
            deadline_s = time.monotonic() + 60
            while (seen := route(server.address, text="hello").bundle) != bundle_id and time.monotonic() < deadline_s:
                time.sleep(0.05)
            return seen == bundle_id

        assert serves("tiny/1")
        assert turnout(models, "promote", "tiny", "5").returncode == 0
        assert serves("tiny/5")
        assert turnout(models, "rollback", "tiny").returncode == 0
        assert serves("tiny/1")


def test_a_bundle_is_added_whole_and_not_put_into_service(models: Path, tmp_path: Path):
    made = tiny_bundle(tmp_path / "made", version="6")
    ended = turnout(models, "add", str(made), "tiny")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "turnout models promote tiny 6" in ended.stdout
    assert not (models / "tiny" / CURRENT).exists()
    assert Entry(models, "tiny").promote("6").version == "6"
    again = turnout(models, "add", str(made), "tiny")
    assert (again.returncode, "never replaced" in again.stderr) == (3, True)
    assert [path.name for path in (models / "tiny").iterdir() if path.name.startswith(".")] == []


def test_a_bundle_of_another_name_or_a_damaged_one_is_not_added(models: Path, tmp_path: Path):
    made = tiny_bundle(tmp_path / "made", version="6")
    renamed = turnout(models, "add", str(made), "other")
    assert (renamed.returncode, "--name other" in renamed.stderr) == (3, True)
    (made / GRAPH).write_bytes(b"damaged")
    assert turnout(models, "add", str(made), "tiny").returncode == 3
    assert not (models / "other").exists()
    assert sorted(path.name for path in (models / "tiny").iterdir()) == ["1", "2", "3", "4", "5"]
