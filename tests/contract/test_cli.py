"""The command line as an operator meets it: help, exit codes, JSON, one-line errors."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer

from serving import cli
from serving.bundle import GRAPH, MANIFEST, Pair
from serving.models.cli import models_app
from tests.builders import BUNDLE_ID
from tests.certificates import Authority
from tests.gateway_builders import chat_attributes, observation, otlp, span, spend_log
from tests.log_builders import flat_row, write_log
from tests.running import ServerProcess, server_process
from tests.training.runs import TrainingRun
from training.cli import add_commands
from training.sample import make_sample, write_sample

COMMANDS = [
    "assess",
    "bundle",
    "bundle show",
    "bundle sign",
    "bundle verify",
    "doctor",
    "encoder",
    "encoder export",
    "evaluate",
    "key",
    "key new",
    "label",
    "logs",
    "logs compact",
    "logs forget",
    "models",
    "models diff",
    "models list",
    "models promote",
    "models prune",
    "models rollback",
    "models show",
    "predict",
    "recalibrate",
    "replay",
    "report",
    "route",
    "rules",
    "rules check",
    "rules try",
    "sample",
    "serve",
    "spool",
    "spool show",
    "token",
    "token new",
    "top",
    "train",
]
ENCODER = "minilm-l3-int8"
NOBODY = "127.0.0.1:1"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Turnout = Callable[..., Ended]


@pytest.fixture
def turnout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Turnout:
    """Return a function that runs `turnout` in this process as its entry point does."""
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: object, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["turnout", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "log.jsonl.gz"
    write_sample(path, 60, seed=2)
    return path


@pytest.fixture
def damaged(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "damaged")


def commands_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{name} ")


def whole_app() -> dict[str, Any]:
    app = typer.Typer()
    app.add_typer(cli.bundle_app, name="bundle")
    app.add_typer(cli.rules_app, name="rules")
    app.add_typer(cli.spool_app, name="spool")
    app.add_typer(models_app, name="models")
    app.add_typer(cli.key_app, name="key")
    app.add_typer(cli.token_app, name="token")
    app.command()(cli.serve)
    app.command()(cli.route)
    app.command()(cli.top)
    app.command()(cli.doctor)
    add_commands(app, cli.rules_app)
    return dict(commands_of(typer.main.get_command(app)))


def test_all_commands_are_there():
    assert sorted(whole_app()) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_says_what_it_is_for(turnout: Turnout, command: str):
    ended = turnout(*command.split(), "--help")
    assert ended.code == 0
    assert ended.out.count("Usage: turnout") == 1
    for parameter in whole_app()[command].params:
        if parameter.name != "help":
            assert max(parameter.opts, key=len) in ended.out.lower()
            assert parameter.help, parameter.name


def test_help_of_all_lists_the_commands(turnout: Turnout):
    ended = turnout("--help")
    assert ended.code == 0
    for command in COMMANDS:
        if " " not in command:
            assert re.search(rf"\b{command}\b", ended.out)


def test_wrong_usage_is_exit_code_2(turnout: Turnout, log: Path, bundle_folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    for arguments, says in (
        (["route", "hello", "--no-such-option"], "--no-such-option"),
        (["frobnicate"], "frobnicate"),
        (["sample"], "--out"),
        (["sample", "--out", out, "--rows", "0"], "--rows"),
        (["label", log, "--out", out, "--column", "prompt"], "OURS=THEIRS"),
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
        (["serve", "--bundle", bundle_folder, "--workers", "0"], "--workers"),
        (["token", "new", "two words"], "two words"),
        (["bundle", "sign", bundle_folder, "--key", log], "Ed25519"),
    ):
        ended = turnout(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert says in ended.err
        assert "Traceback" not in ended.err
    assert not out.exists()


def test_refused_data_is_exit_code_1_and_one_line(turnout: Turnout, log: Path, bundle_folder: Path, tmp_path: Path):
    out, absent = tmp_path / "out", tmp_path / "absent.jsonl"
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b'{"prompt": \n' * 5)
    unlabelled = write_log(tmp_path / "unlabelled.jsonl", [flat_row("Why?"), flat_row("How?")])
    for arguments, says in (
        (["label", absent, "--out", out], str(absent)),
        (["label", broken, "--out", out], "5 of 5 rows"),
        (["label", log, "--out", out, "--column", "prompt=question"], "question"),
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


def test_sample_writes_what_it_says(turnout: Turnout, tmp_path: Path):
    out = tmp_path / "log.jsonl"
    ended = turnout("sample", "--out", out, "--rows", 30, "--seed", 4)
    assert ended.code == 0
    assert "30 synthetic rows" in ended.out
    assert [json.loads(line) for line in out.read_text().splitlines()] == make_sample(30, 4)


def test_label_writes_one_row_a_record_and_prints_a_ledger(turnout: Turnout, log: Path, tmp_path: Path):
    out = tmp_path / "labels.parquet"
    ended = turnout("label", log, "--out", out, "--quiet", "--json")
    ledger = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert ledger["rows"] == sum(ledger["labelled"].values()) == 60
    assert (ledger["abstained"], ledger["quarantined"]) == ({}, {})
    rows = pq.read_table(out).to_pylist()
    scores = [
        [row["responses"][model]["score"] for model in (Pair().strong, Pair().weak)] for row in make_sample(60, 2)
    ]
    assert [row["match"] for row in rows] == [int(weak >= strong) for strong, weak in scores]
    assert [row["line"] for row in rows] == list(range(1, 61))


def test_stored_labels_are_used_and_those_of_another_log_refused(
    turnout: Turnout, training_run: TrainingRun, log: Path, tmp_path: Path
):
    labels, figures = tmp_path / "labels.parquet", tmp_path / "figures.json"
    turnout("label", log, "--out", labels, "--quiet", "--json")
    evaluated = turnout("evaluate", training_run.bundle, log, "--labels", labels, "--out", figures, "--quiet", "--json")
    assert (evaluated.code, evaluated.err) == (0, "")
    assert json.loads(figures.read_bytes())["n"] == 60
    write_sample(tmp_path / "other.jsonl", 60, seed=3)
    refused = turnout("evaluate", training_run.bundle, tmp_path / "other.jsonl", "--labels", labels, "--quiet")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "none of the logs that these labels were made from" in refused.err


def test_label_for_people_prints_the_same_counts(turnout: Turnout, log: Path, tmp_path: Path):
    ended = turnout("label", log, "--out", tmp_path / "labels.parquet")
    assert ended.code == 0
    assert "60 rows in" in ended.out
    assert re.search(r"labelled: scores\W+60", ended.out)
    assert "Reading and labelling" in ended.err


def test_label_reads_gateway_logs_of_both_models_without_a_column_map(turnout: Turnout, tmp_path: Path):
    logs = tmp_path / "logs"
    logs.mkdir()
    write_log(
        logs / "spend.jsonl", [spend_log("2 + 2?", "It is 4"), spend_log("Who?", "I"), spend_log(status="failure")]
    )
    span_of_weak = span(chat_attributes("2 + 2?", "It is 4", "gpt-4o-mini"))
    write_log(logs / "spans.json", [otlp(span({}), span_of_weak)])
    ended = turnout("label", logs, "--out", tmp_path / "labels.parquet", "--quiet", "--json")
    ledger = json.loads(ended.out)
    assert (ledger["rows"], ledger["merged"], ledger["labelled"]) == (5, 1, {"agreement:identical": 1})
    assert (ledger["abstained"], ledger["quarantined"]) == ({"only_strong": 1}, {"not_chat": 1, "failed": 1})
    rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert [(Path(row["file"]).name, row["line"], row["index"], row["match"]) for row in rows] == [
        ("spend.jsonl", 1, 0, 1),
        ("spend.jsonl", 2, 0, None),
    ]


def test_label_takes_a_format_a_join_and_a_score(turnout: Turnout, tmp_path: Path):
    rows = [observation(id="1"), observation(id="1", model="gpt-4o-mini")]
    log = write_log(tmp_path / "log.jsonl", rows)
    for join, merged in (("none", 0), ("id", 1), ("prompt", 1)):
        ended = turnout("label", log, "--out", tmp_path / "o", "--quiet", "--json", "--join", join, "--score-name", "x")
        assert json.loads(ended.out)["merged"] == merged
    refused = turnout("label", log, "--out", tmp_path / "o", "--quiet", "--format", "helicone")
    assert (refused.code, "known are: auto" in refused.err) == (1, True)


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
    assert ended.code == 0
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
    write_sample(log, 150, seed=21)
    assert turnout("evaluate", bundle, log, "--out", figures, "--quiet").code == 0
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    written = turnout("report", bundle, "--evaluation", figures, "--replace")
    assert (written.code, written.out) == (0, f"{bundle / 'report' / 'index.html'}\n")
    assert turnout("bundle", "verify", bundle).code == 0
    assert json.loads((bundle / "report" / "evaluation.json").read_bytes()) == json.loads(figures.read_bytes())
    n = json.loads(figures.read_bytes())["n"]
    assert f"Every figure is from the {n} test requests" in (bundle / "report" / "index.html").read_text()
    for name, content in before.items():
        assert ((bundle / name).read_bytes() == content) == (not name.startswith("manifest.")), name
    assert turnout("report", bundle, "--replace", "--out", tmp_path).code == 2
    assert turnout("report", bundle, "--evaluation", log, "--out", tmp_path / "x").code == 1


def test_predict_evaluate_and_report_on_a_trained_bundle(turnout: Turnout, training_run: TrainingRun, tmp_path: Path):
    log, out = tmp_path / "fresh.jsonl", tmp_path / "out.parquet"
    write_sample(log, 150, seed=21)
    predicted = turnout("predict", training_run.bundle, log, "--out", out, "--policy", "max_worse=0.05", "--quiet")
    assert (predicted.code, predicted.err) == (0, "")
    assert "150 rows, policy max_worse=0.05" in predicted.out
    assert pq.read_table(out).num_rows == 150

    figures = tmp_path / "evaluation.json"
    evaluated = turnout("evaluate", training_run.bundle, log, "--out", figures, "--quiet", "--json")
    assert evaluated.code == 0
    assert json.loads(evaluated.out) == json.loads(figures.read_bytes())
    assert 130 < json.loads(evaluated.out)["n"] <= 150
    shown = turnout("evaluate", training_run.bundle, log, "--quiet", "--include-seen").out
    assert "150 rows" in shown
    assert "out of distribution" in shown

    report = turnout("report", training_run.bundle, "--out", tmp_path / "report")
    assert (report.code, Path(report.out.strip()).name) == (0, "index.html")
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000


def test_recalibrate_writes_a_bundle_that_serves(turnout: Turnout, training_run: TrainingRun, tmp_path: Path):
    log, out = tmp_path / "fresh.jsonl", tmp_path / "recalibrated"
    write_sample(log, 250, seed=22)
    ended = turnout("recalibrate", training_run.bundle, log, "--out", out, "--no-cache", "--quiet", "--json")
    result = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert result["parent"] == training_run.trained.manifest.bundle_id
    assert result["metrics"]["n"] + result["n_seen_in_training"] == 250
    verified = turnout("bundle", "verify", out)
    assert (verified.code, verified.out.split(":")[0]) == (0, result["bundle_id"])
    again = turnout("recalibrate", out, log, "--out", tmp_path / "again", "--no-cache", "--quiet")
    assert again.code == 1
    assert "250 rows were seen in its training" in again.err


def run_module(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
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
