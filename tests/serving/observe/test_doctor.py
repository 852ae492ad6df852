"""What the doctor finds on a sound installation, and on each kind of trouble."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement

from tests.builders import BUNDLE_ID, tiny_bundle
from tests.running import ServerProcess, refusal
from tests.watching import watched_server
from turnout.serving.bundles.bundle import GRAPH, Bundle
from turnout.serving.cli.doctor.checkup import Patient, as_table, check_up, exit_code
from turnout.serving.cli.doctor.finding import Finding, Level, fail, ok, warn
from turnout.serving.cli.doctor.installation import check_installation, declared_requirements
from turnout.serving.cli.doctor.machine import check_cores, check_descriptors, check_instructions, usable_cores
from turnout.serving.cli.doctor.models import check_clock, check_golden, check_models, max_golden_deviation
from turnout.serving.cli.doctor.server import check_listen, check_metrics, check_server
from turnout.serving.cli.tables import console
from turnout.serving.observe.exposition import start_exposition
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.observe.supervised import SupervisorCounts

NOBODY = "127.0.0.1:1"


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


def test_sound_installation_with_a_running_server_is_all_ok(bundle_folder: Path, tmp_path: Path):
    with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, url):
        findings = list(check_up(Patient(bundle_folder, NOBODY, server.address, url)))
    assert [finding for finding in findings if finding.level is Level.FAIL] == []
    assert exit_code(findings) == 0
    found = {finding.check: finding.found for finding in findings}
    assert found["server"].endswith("SERVING")
    assert found["server's bundle"].startswith(BUNDLE_ID)
    assert found["metrics"].endswith("1 of 1 workers ready")
    assert "3 prompts" in found["golden answers"]
    assert "1 workers ready" in found["cores"]


def test_every_line_that_is_not_ok_says_what_to_do(bundle_folder: Path):
    findings = list(check_up(Patient(bundle_folder, NOBODY, NOBODY, f"http://{NOBODY}/")))
    assert {finding.check for finding in findings if finding.level is Level.FAIL} == {"server", "metrics"}
    assert exit_code(findings) == 1
    assert all(bool(finding.advice) == (finding.level is not Level.OK) for finding in findings)


def test_dependencies_are_held_against_the_declared_ranges():
    python, requirements = declared_requirements()
    names = {requirement.name for requirement in requirements}
    assert {"grpcio", "onnxruntime", "prometheus-client", "pytest", "scikit-learn"} <= names
    assert levels(list(check_installation()))["dependencies"] is Level.OK
    wrong = [Requirement("grpcio>=99"), Requirement("no-such-package-of-turnout"), *requirements]
    findings = {finding.check: finding for finding in check_installation((python, wrong))}
    assert findings["dependencies"].level is Level.FAIL
    assert "expected >=99" in findings["dependencies"].found
    assert "no-such-package-of-turnout is not installed" in findings["dependencies"].found
    assert {finding.check: finding for finding in check_installation((">=4", []))}["Python"].level is Level.FAIL


def test_extra_is_installed_absent_or_broken():
    def extra(*lines: str) -> Finding:
        declared = (">=3.11", [Requirement(f'{line}; extra == "otel"') for line in lines])
        return next(finding for finding in check_installation(declared) if finding.check == "extra otel")

    assert (extra("grpcio").level, extra("grpcio").found) == (Level.OK, "installed")
    assert (extra("no-such-a", "no-such-b").level, extra("no-such-a").found.split(" (")[0]) == (
        Level.OK,
        "not installed",
    )
    assert extra("grpcio", "no-such-a").level is Level.WARN


def test_requirements_come_from_the_metadata_where_there_is_no_checkout(tmp_path: Path):
    code = (
        "from pathlib import Path\n"
        "from turnout.serving.cli.doctor.installation import declared_requirements\n"
        f"print(len(declared_requirements(Path({str(tmp_path)!r}) / 'absent.toml')[1]))\n"
    )
    folder = tmp_path / "turnout-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: turnout\nVersion: 1\nRequires-Python: >=3.11\n"
        "Requires-Dist: grpcio>=1\nRequires-Dist: rich\nRequires-Dist: torch; extra == 'encoders'\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert ended.stdout == "3\n", ended.stderr


@pytest.mark.parametrize(
    ("cpuinfo", "level", "says"),
    [
        ("processor: 0\nflags\t: fpu avx2 avx512_vnni\n", Level.OK, "avx512_vnni"),
        ("Features\t: fp asimd asimddp\n", Level.OK, "asimddp"),
        ("flags\t: fpu sse2 avx2\n", Level.WARN, "without VNNI"),
        ("flags\t: fpu sse2\n", Level.WARN, "without VNNI and AVX2"),
    ],
)
def test_cpu_features_are_read(tmp_path: Path, cpuinfo: str, level: Level, says: str):
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    finding = check_instructions(path)
    assert finding.level is level
    assert says in finding.found
    assert check_instructions(tmp_path / "absent").level is Level.WARN


def test_container_quota_is_a_limit_on_cores(tmp_path: Path):
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert usable_cores(quota) == 0.5
    quota.write_text("max 100000\n")
    assert usable_cores(quota) == usable_cores(tmp_path / "absent") == len(os.sched_getaffinity(0))


def test_cores_are_held_against_workers():
    assert check_cores(2.0, None).level is check_cores(2.0, 2).level is check_cores(1.5, 2).level is Level.OK
    assert check_cores(2.0, 3).level is check_cores(0.5, None).level is Level.WARN


def test_few_descriptors_are_a_warning():
    assert check_descriptors(256).level is Level.WARN
    assert check_descriptors(1024).level is check_descriptors(resource.RLIM_INFINITY).level is Level.OK


def test_damaged_bundle_is_a_failure_that_names_the_file(tmp_path: Path):
    folder = tiny_bundle(tmp_path / "bundle")
    assert levels(list(check_models(folder)))["golden answers"] is Level.OK
    (folder / GRAPH).write_bytes((folder / GRAPH).read_bytes()[:-1])
    findings = list(check_models(folder))
    assert findings[-1].level is Level.FAIL
    assert GRAPH in findings[-1].found


def test_registry_without_a_champion_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TURNOUT_MODELS", str(tmp_path))
    findings = list(check_models(None))
    assert [finding.level for finding in findings] == [Level.OK, Level.FAIL]
    assert "CURRENT" in findings[1].found


def test_golden_deviation_is_measured(bundle: Bundle):
    assert max_golden_deviation(bundle) < 1e-6
    moved = tuple(msgspec.structs.replace(item, p_match=item.p_match + 8e-5) for item in bundle.golden)
    off = dataclasses.replace(bundle, golden=moved)
    assert max_golden_deviation(off) == pytest.approx(8e-5, abs=1e-6)
    assert (check_golden(bundle).level, check_golden(off).level) == (Level.OK, Level.WARN)


def test_clock_before_the_bundle_was_made_is_a_failure():
    created = "2026-11-21T00:00:00Z"
    assert check_clock(created, datetime(1970, 1, 1, tzinfo=UTC)).level is Level.FAIL
    assert check_clock(created, datetime(2026, 11, 21, 1, tzinfo=UTC)).level is Level.OK


def test_port_is_free_taken_by_a_server_or_by_another(server: ServerProcess):
    assert "free" in check_listen("127.0.0.1:0").found
    assert "says SERVING" in check_listen(server.address).found
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = check_listen(f"127.0.0.1:{other.getsockname()[1]}")
    assert (taken.level, "another process" in taken.found) == (Level.FAIL, True)
    assert check_listen("nonsense").level is Level.FAIL


def test_absent_server_is_a_failure():
    (finding,) = check_server(NOBODY)
    assert finding.level is Level.FAIL
    assert "nobody listens there" in finding.found


def test_ports_of_http_and_sockets_are_told_from_a_server_that_is_ill(bundle_folder: Path, tmp_path: Path):
    with watched_server(bundle_folder, tmp_path / "log", "--http", "127.0.0.1:0") as (server, url):
        (http,) = re.findall(r"http on (\S+)", server.log.read_text())
        for address in (http, url.split("/")[2]):
            (finding,) = check_server(address)
            assert (finding.level, "HTTP is spoken there" in finding.found) == (Level.FAIL, True)
            assert "--listen" in finding.advice
    for path, says in ((tmp_path / "none", "no such socket"), (tmp_path / "left", "nobody answers")):
        with socket.socket(socket.AF_UNIX) as left:
            if path.name == "left":
                left.bind(str(path))
        (finding,) = check_server(f"unix:{path}")
        assert (finding.level, says in finding.found) == (Level.FAIL, True)


def test_metrics_tell_of_incidents_and_of_workers_that_are_not_ready(bundle_folder: Path, tmp_path: Path):
    with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, url):
        refusal(server.address, b"\x12\x01\x37")  # text: 7
        findings, workers = check_metrics(url)
    assert workers == 1
    assert levels(findings) == {"metrics": Level.OK, "incidents": Level.WARN}
    exposition = start_exposition("127.0.0.1:0", ServerMetrics())
    try:
        assert check_metrics(exposition.url)[0][0].level is Level.WARN
    finally:
        exposition.close()


def test_workers_that_hung_or_died_and_a_supervisor_that_stands_still_are_told(monkeypatch: pytest.MonkeyPatch):
    counts = SupervisorCounts()
    exposition = start_exposition("127.0.0.1:0", ServerMetrics(), counts)
    try:
        assert "workers" not in levels(check_metrics(exposition.url)[0])
        counts.ended("hung")
        counts.ended("hung")
        counts.ended("ended")
        monkeypatch.setattr("turnout.serving.observe.supervised.time.time", lambda: 0.0)
        counts.turned()
        monkeypatch.undo()
        found = {(one.check, one.level): one.found for one in check_metrics(exposition.url)[0]}
        told = [one.found for one in check_metrics(exposition.url)[0] if one.check == "workers"]
    finally:
        exposition.close()
    assert told == [
        "2 hung and were replaced since the service started",
        "1 ended and were replaced since the service started",
    ]
    assert ("supervisor", Level.FAIL) in found


def test_table_shows_level_check_and_advice(capsys: pytest.CaptureFixture[str]):
    console().print(as_table([ok("a", "fine [x]"), warn("b", "slow", "wait"), fail("c", "gone", "call")]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["ok", "a", "fine", "[x]"]
    assert lines[1:3] == [["warn", "b", "slow"], ["->", "wait"]]
    assert lines[3][0] == "fail"


def run_doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "turnout.serving.cli.app", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_command_ends_with_0_or_1_and_prints_json(bundle_folder: Path, server: ServerProcess):
    sound = run_doctor("--bundle", str(bundle_folder), "--server", server.address, "--json")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert {line["level"] for line in json.loads(sound.stdout)} <= {"ok", "warn"}
    sick = run_doctor("--bundle", str(bundle_folder), "--server", NOBODY)
    assert sick.returncode == 1
    assert "fail  server" in sick.stdout
