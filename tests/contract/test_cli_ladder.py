"""`turnout train --models`: a ladder from a log and a table, and what is refused with the next step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.conftest import Turnout
from tests.training.ladders import TOP, three_model_rows, without, write_scores, write_wide
from turnout.serving.bundles.bundle import RUNGS, load_bundle
from turnout.serving.bundles.registry import locate, resolve
from turnout.serving.decision.prices import OWN_LIST

ROWS = three_model_rows(900, 21)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-ladder")
    write_scores(folder / "scores.jsonl", ROWS, TOP)
    return write_wide(folder / "log.jsonl", without(ROWS, TOP, 1.0, 0))


@pytest.mark.usefixtures("light_runs")
@pytest.mark.slow
def test_a_ladder_from_a_log_and_a_table_of_scores(
    turnout: Turnout, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prices = tmp_path / "own.toml"
    prices.write_text(
        '[[prices]]\nmodel = "o3"\nsince = 2025-06-10\ninput = 2.0\noutput = 8.0\nreasoning_tokens = 900\n'
        "effort = {high = 2.0}\n"
    )
    monkeypatch.setenv(OWN_LIST, str(prices))
    names = ("--models", "gpt-4o-mini,gpt-4o,o3", "--model-scores", log.parent / "scores.jsonl")
    by_task = ("--by-task", "max_worse=0.2")
    ended = turnout("train", log, *names, *by_task, "--out", tmp_path / "bundle", "--quiet", "--no-cache")
    assert (ended.code, ended.err) == (0, "")
    assert "Policies over all rungs" in ended.out
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert [rung.name for rung in manifest.ladder] == ["gpt-4o-mini", "gpt-4o", "o3"]
    assert any(policy.kind == "max_cost_usd_per_1k" for policy in manifest.policies)
    of_tasks = [policy for policy in manifest.policies if "@" in policy.name]
    assert of_tasks
    assert all(len(policy.t_rungs) == 1 for policy in of_tasks)
    figures = json.loads((tmp_path / "bundle" / "report" / "evaluation.json").read_text())["ladder"]
    assert [one["name"] for one in figures["rungs"]] == ["gpt-4o-mini", "gpt-4o", "o3"]
    assert figures["rungs"][0]["cost"] < figures["rungs"][1]["cost"] < figures["rungs"][2]["cost"] == 1.0
    scores = names[2:]
    ended = turnout("evaluate", tmp_path / "bundle", log, *scores, "--include-seen", "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)["ladder"]
    assert found["n"] == figures["n"]
    assert found["rungs"][1]["intervals"]["auroc"][0] < found["rungs"][1]["figures"]["auroc"]
    ended = turnout("recalibrate", tmp_path / "bundle", log, *scores, "--out", tmp_path / "again", "--quiet")
    assert ended.code != 0
    assert "that the bundle has not seen" in " ".join(ended.err.split())


@pytest.mark.parametrize("command", ["evaluate", "recalibrate"])
def test_scores_of_more_models_are_not_for_a_pair(
    turnout: Turnout, bundle_folder: Path, log: Path, tmp_path: Path, command: str
):
    more = ["--out", tmp_path / "again"] if command == "recalibrate" else []
    ended = turnout(command, bundle_folder, log, "--model-scores", log.parent / "scores.jsonl", "--quiet", *more)
    assert ended.code != 0
    assert "is a pair" in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "gpt-4o-mini,gpt-4o,o3", "--strong", "o1"], "leave out --strong and --weak"),
        (["--models", "gpt-4o-mini"], "two or more names"),
        (["--models", "a,b,a"], "each once"),
        (["--models", "gpt-4o-mini,gpt-4o,o9"], "o9"),
        (["--model-scores", "LOG"], "--models"),
    ],
)
def test_what_cannot_be_a_ladder_is_refused(
    turnout: Turnout, log: Path, tmp_path: Path, arguments: list[str], said: str
):
    names = {"LOG": str(log), "SCORES": str(log.parent / "scores.jsonl")}
    given = [names.get(one, one) for one in arguments]
    ended = turnout("train", log, "--out", tmp_path / "bundle", "--quiet", "--no-cache", *given)
    assert ended.code != 0
    assert said in " ".join(ended.err.split())
    assert not (tmp_path / "bundle").exists()


def test_the_ladder_that_ships_loads_and_says_what_it_rests_on():
    folder = resolve(locate(name="gpt-4o-mini_gpt-4o_o3"))
    bundle = load_bundle(folder)
    assert bundle.rung_heads is not None
    assert [rung.name for rung in bundle.manifest.ladder] == ["gpt-4o-mini", "gpt-4o", "o3"]
    assert bundle.manifest.files[RUNGS].size < 1 << 20
    assert all(len(policy.t_rungs) == 1 for policy in bundle.manifest.policies)
    card = (folder / "card.md").read_text()
    assert "Data and licences." in card
    assert "## Ladder" in card
    assert 'id="ladder"' in (folder / "report" / "index.html").read_text()
