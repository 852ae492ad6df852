"""What can't be done ends with the exit code of its kind and one line on stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.conftest import Turnout
from tests.log_builders import flat_row, write_log
from turnout.serving.bundles.bundle import GRAPH
from turnout.serving.bundles.manifest import MANIFEST

ENCODER = "minilm-l3-int8"


def test_wrong_usage_is_exit_code_2(turnout: Turnout, log: Path, bundle_folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    for arguments, says in (
        (["route", "hello", "--no-such-option"], "--no-such-option"),
        (["frobnicate"], "frobnicate"),
        (["sample"], "--out"),
        (["sample", "--out", out, "--rows", "0"], "--rows"),
        (["label", log, "--out", out, "--column", "prompt"], "OURS=THEIRS"),
        (["label", log, "--out", out, "--margin", "nan"], "--margin"),
        (["label", log, "--out", out, "--margin", "-0.1"], "from 0 to 1"),
        (["label", log, "--out", out, "--judge-dry-run", "--judge-all", "9"], "--judge-dry-run, --judge-all"),
        (["train", log, "--out", out, "--column", "=question"], "OURS=THEIRS"),
        (["train", log, "--out", out, "--weak", "gpt-4o"], "gpt-4o"),
        (["route", "hello", "--bundle", bundle_folder, "--policy", "max_worse=7"], "max_worse=0.01"),
        (["route", "hello", "--bundle", bundle_folder, "--threshold", "1.5"], "[0, 1]"),
        (["route", "  ", "--bundle", bundle_folder], "no content"),
        (["predict", bundle_folder, log, "--out", out, "--policy", "nope"], "unknown policy"),
        (["serve", "--bundle", bundle_folder, "--listen", "nonsense"], "host:port"),
        (["serve", "--bundle", bundle_folder, "--listen", "0.0.0.0:0"], "insecure"),
        (["serve", "--bundle", bundle_folder, "--tls-cert", log], "tls_key"),
        (["serve", "--bundle", bundle_folder, "--listen", "127.0.0.1:0", "--tokens", log], "tokens"),
        (["serve", "--bundle", bundle_folder, "--workers", "-1"], "--workers"),
        (["token", "new", "two words"], "two words"),
        (["bundle", "sign", bundle_folder, "--key", log], "Ed25519"),
    ):
        ended = turnout(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert says in ended.err
        assert "Traceback" not in ended.err
    assert not out.exists()


def test_logs_may_be_named_after_an_option(turnout: Turnout, tmp_path: Path):
    logs = [
        write_log(tmp_path / f"{name}.jsonl", [flat_row(f"Why {name}?", strong_score=1, weak_score=0)])
        for name in ("one", "two", "three")
    ]
    out = tmp_path / "labels.parquet"
    ended = turnout("label", logs[0], "--out", out, logs[1], "--quiet", logs[2], "--json")
    assert (ended.code, json.loads(ended.out)["rows"]) == (0, 3)
    ended = turnout("label", logs[0], "--out", out, logs[1], "--no-such-option")
    assert (ended.code, "--no-such-option" in ended.err) == (2, True)


def test_a_log_without_rows_is_refused(turnout: Turnout, tmp_path: Path):
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n")
    ended = turnout("label", empty, "--out", tmp_path / "labels.parquet", "--quiet")
    assert (ended.code, "no rows" in ended.err) == (1, True)


def test_labels_that_are_there_are_not_lost_where_no_row_has_one(turnout: Turnout, log: Path, tmp_path: Path):
    labels, other = tmp_path / "labels.parquet", tmp_path / "other.jsonl"
    assert turnout("label", log, "--out", labels, "--quiet").code == 0
    before = labels.read_bytes()
    write_log(other, [flat_row("Why?"), flat_row("How?")])
    ended = turnout("label", other, "--out", labels, "--quiet")
    assert (ended.code, ended.out) == (1, "")
    assert "none of 2 rows has a label (" in ended.err
    assert "stays as it was" in ended.err
    assert labels.read_bytes() == before


def test_a_table_without_a_header_is_refused_without_its_texts(turnout: Turnout, tmp_path: Path):
    table = tmp_path / "table.csv"
    table.write_text('"My SSN is 123-45-6789, is that a canary in here?",Yes,1\n"And my name is Jo canary Doe",No,0\n')
    ended = turnout("label", table, "--out", tmp_path / "labels.parquet", "--quiet")
    assert ended.code == 1
    assert "canary" not in ended.err
    assert "is the header line missing?" in ended.err


def test_refused_data_is_exit_code_1_and_one_line(turnout: Turnout, log: Path, bundle_folder: Path, tmp_path: Path):
    out, absent, logged = tmp_path / "out", tmp_path / "absent.jsonl", log.read_bytes()
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b'{"prompt": \n' * 5)
    unlabelled = write_log(tmp_path / "unlabelled.jsonl", [flat_row("Why?"), flat_row("How?")])
    for arguments, says in (
        (["label", absent, "--out", out, "--quiet"], str(absent)),
        (["label", broken, "--out", out, "--quiet"], "5 of 5 rows"),
        (["label", log, "--out", out, "--quiet", "--column", "prompt=question"], "question"),
        (["label", log, "--out", log, "--quiet"], "is one of the logs"),
        (["label", log, "--out", tmp_path, "--quiet"], "is a folder"),
        (["replay", log, "--out", log, "--quiet"], "is one of the logs"),
        (["predict", bundle_folder, log, "--out", log, "--quiet"], "is one of the logs"),
        (["evaluate", bundle_folder, log, "--out", log, "--quiet"], "is one of the logs"),
        (["evaluate", bundle_folder, log, "--out", bundle_folder / "x.json", "--quiet"], "lies in a folder"),
        (["drift", log, "--bundle", bundle_folder, "--out", log, "--quiet"], "is one of the logs"),
        (["train", absent, "--out", out, "--quiet"], str(absent)),
        (["train", log, "--out", out, "--quiet", "--no-cache"], "at least 200 groups"),
        (["train", unlabelled, "--out", out, "--quiet"], "no row has a label"),
        (["train", log, "--out", out, "--quiet", "--encoder", tmp_path], "not an encoder folder"),
        (["predict", bundle_folder, absent, "--out", out, "--quiet"], str(absent)),
        (["evaluate", bundle_folder, absent, "--quiet"], str(absent)),
        (["recalibrate", bundle_folder, log, "--out", out, "--quiet", "--encoder", tmp_path], "not an encoder folder"),
        (["recalibrate", bundle_folder, log, "--out", out, "--quiet", "--encoder", ENCODER], "no constant"),
        (["report", bundle_folder, "--out", out], "evaluation.json"),
    ):
        ended = turnout(*arguments)
        assert (ended.code, ended.out) == (1, ""), arguments
        assert ended.err.startswith("turnout: ")
        assert ended.err.count("\n") == 1
        assert says in ended.err
    assert not out.exists()
    assert log.read_bytes() == logged


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "bundle verify",
        "bundle show",
        "route hello --bundle",
        "serve --listen 127.0.0.1:0 --bundle",
        "predict",
        "evaluate",
        "recalibrate",
        "report",
    ],
)
@pytest.mark.parametrize("damage", ["byte", "absent", "folder"])
def test_refused_bundle_is_exit_code_3_and_names_the_file(
    turnout: Turnout, damaged: Path, log: Path, tmp_path: Path, command: str, damage: str
):
    name = MANIFEST if command == "bundle show" else GRAPH
    path = damaged / name
    if damage == "byte":
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif damage == "absent":
        path.unlink()
    else:
        shutil.rmtree(damaged)
    out = [log, "--out", tmp_path / "out"]
    more = {"predict": out, "recalibrate": out, "evaluate": [log]}.get(command, [])
    ended = turnout(*command.split(), damaged, *more)
    assert (ended.code, ended.out) == (3, "")
    assert str(path if damage != "folder" else damaged) in ended.err
    assert ended.err.strip().count("\n") == 0


def test_folder_that_cannot_be_written_to_is_one_line(turnout: Turnout, log: Path, tmp_path: Path):
    out = tmp_path / "no" / "such" / "folder" / "out"
    for arguments in (["sample", "--out", out], ["label", log, "--out", out, "--quiet"]):
        ended = turnout(*arguments)
        assert ended.code == 1
        assert str(out.parent) in ended.err
        assert ended.err.count("\n") == 1


def run_module(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "turnout.serving.cli.app", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_process_of_its_own_ends_with_the_same_codes(bundle_folder: Path, damaged: Path):
    routed = run_module("route", "hello", "--bundle", bundle_folder, "--json")
    assert (routed.returncode, routed.stderr) == (0, "")
    assert json.loads(routed.stdout)["tier"] == "weak"
    (damaged / GRAPH).unlink()
    refused = run_module("bundle", "verify", damaged)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith("turnout: ")
    assert str(damaged / GRAPH) in refused.stderr
