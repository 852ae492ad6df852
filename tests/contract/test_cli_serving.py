"""Commands around a bundle and a server: route, verify, show, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.builders import BUNDLE_ID
from tests.certificates import Authority
from tests.contract.conftest import Turnout
from tests.running import ServerProcess, server_process
from tests.training.runs import TrainingRun, blank_figures
from turnout.serving.bundles.manifest import MANIFEST
from turnout.training.sample.sample import write_sample

NOBODY = "127.0.0.1:1"


def test_route_in_this_process(turnout: Turnout, bundle_folder: Path):
    ended = turnout("route", "hello", "--bundle", bundle_folder)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("gpt-4o-mini (weak)  p_match 0.933 >= 0.750")
    as_json = json.loads(turnout("route", "hello", "--bundle", bundle_folder, "--json").out)
    assert (as_json["tier"], as_json["bundle"], as_json["policy"]) == ("weak", BUNDLE_ID, "max_worse=0.01")


def test_route_reads_standard_input(turnout: Turnout, bundle_folder: Path):
    piped = turnout("route", "-", "--bundle", bundle_folder, "--json", stdin="hello")
    assert piped.out == turnout("route", "hello", "--bundle", bundle_folder, "--json").out


def test_route_takes_policy_threshold_and_early_exit(turnout: Turnout, bundle_folder: Path):
    def routed(*options: object) -> dict:
        return json.loads(turnout("route", "hello", "--bundle", bundle_folder, "--json", *options).out)

    assert routed("--policy", "max_worse=0.05")["threshold"] == 0.5
    strict = routed("--threshold", "0.99")
    assert (strict["tier"], strict["policy"], strict["stage"]) == ("strong", "threshold=0.99", "FULL")
    assert routed("--no-early-exit")["stage"] == "FULL"


def test_route_against_a_server_says_the_same(turnout: Turnout, bundle_folder: Path, server: ServerProcess):
    local = json.loads(turnout("route", "hello there", "--bundle", bundle_folder, "--json").out)
    ended = turnout("route", "hello there", "--server", server.address, "--json")
    remote = json.loads(ended.out)
    assert ended.code == 0
    assert remote["fallback_reason"] is None
    assert {name: remote[name] for name in local} == local | {
        name: pytest.approx(local[name], abs=1e-9) for name in ("p_match", "confidence")
    }
    assert "gpt-4o-mini (weak)" in turnout("route", "hello there", "--server", server.address).out


def test_route_without_a_server_falls_back_to_the_strong_model(turnout: Turnout):
    ended = turnout("route", "hello", "--server", NOBODY, "--json")
    routed = json.loads(ended.out)
    assert ended.code == 1  # scripts see it; whoever reads the line has a model all the same
    assert (routed["tier"], routed["p_match"], routed["reason"]) == ("strong", None, "FALLBACK")
    assert "fallback: unavailable" in turnout("route", "hello", "--server", NOBODY).out


def test_route_over_tls_with_a_token(turnout: Turnout, bundle_folder: Path, tmp_path: Path):
    authority = Authority("authority")
    cert, key = authority.leaf("server").write(tmp_path)
    ca, token_file, tokens = tmp_path / "ca.pem", tmp_path / "token", tmp_path / "tokens.toml"
    ca.write_bytes(authority.pem)
    made = turnout("token", "new", "me")
    assert made.code == 0
    token_file.write_text(made.out.splitlines()[0].split()[-1] + "\n")
    tokens.write_text(made.out)
    options = ("--tls-cert", cert, "--tls-key", key, "--tokens", tokens)
    with server_process(bundle_folder, tmp_path / "log", *options) as server:

        def fallback(*arguments: object) -> str | None:
            ended = turnout("route", "hello", "--server", server.address, "--json", *arguments)
            return json.loads(ended.out)["fallback_reason"]

        assert fallback("--tls-ca", ca, "--token-file", token_file) is None
        assert fallback("--tls-ca", ca) == "unauthenticated"
        assert fallback("--token-file", token_file) in {"unavailable", "deadline_exceeded"}
        assert token_file.read_text().strip() not in server.log.read_text()


def test_bundle_verify_and_show(turnout: Turnout, bundle_folder: Path):
    verified = turnout("bundle", "verify", bundle_folder)
    assert (verified.code, verified.out) == (0, f"{BUNDLE_ID}: 3 files and 3 golden prompts ok\n")
    shown = turnout("bundle", "show", bundle_folder)
    assert shown.code == 0
    assert "SYNTHETIC" in shown.out
    assert "max_worse=0.01 (default)" in shown.out
    manifest = json.loads(turnout("bundle", "show", bundle_folder, "--json").out)
    assert manifest == json.loads((bundle_folder / MANIFEST).read_bytes())


def test_fresh_report_goes_into_the_bundle_and_leaves_the_rest_as_it_was(
    turnout: Turnout, training_run: TrainingRun, tmp_path: Path
):
    bundle = shutil.copytree(training_run.bundle, tmp_path / "bundle")
    log, figures = tmp_path / "fresh.jsonl", tmp_path / "evaluation.json"
    write_sample(log, 100, seed=21)
    assert turnout("evaluate", bundle, log, "--out", figures, "--quiet").code == 0
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    with blank_figures():
        written = turnout("report", bundle, "--evaluation", figures, "--replace")
    assert (written.code, written.out) == (0, f"{bundle / 'report' / 'index.html'}\n")
    assert turnout("bundle", "verify", bundle).code == 0
    assert json.loads((bundle / "report" / "evaluation.json").read_bytes()) == json.loads(figures.read_bytes())
    n = json.loads(figures.read_bytes())["n"]
    assert f"Every figure is from the {n} requests measured here" in (bundle / "report" / "index.html").read_text()
    for name, content in before.items():
        assert ((bundle / name).read_bytes() == content) == (not name.startswith("manifest.")), name
    assert turnout("report", bundle, "--replace", "--out", tmp_path).code == 2
    assert turnout("report", bundle, "--evaluation", log, "--out", tmp_path / "x").code == 1


def test_small_results_are_json_alone(turnout: Turnout, bundle_folder: Path, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('salt = "s"\n', encoding="utf-8")
    asked = {
        ("bundle", "verify", bundle_folder): {"bundle", "files", "golden", "signed"},
        ("rules", "check", rules, "--bundle", bundle_folder): {"file", "bundles", "rules"},
        ("key", "new", tmp_path / "release"): {"private", "public"},
        ("token", "new", "gateway"): {"token", "lines"},
        ("sample", "--rows", "5", "--out", tmp_path / "log.jsonl"): {"out", "rows", "seed", "synthetic"},
    }
    for words, fields in asked.items():
        done = turnout(*words, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out).keys() == fields
