"""`turnout rules` as an operator meets it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from tests.checkers import checked_folder
from tests.contract.conftest import Turnout
from tests.log_builders import gateway_row, write_log

RULES = '[[rules]]\nname = "acme stays"\ntenants = ["acme"]\nroute = "strong"\n'


@pytest.fixture
def rules_command(turnout: Turnout) -> Turnout:
    return functools.partial(turnout, "rules", columns=160)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = [gateway_row("hello", tenant="acme"), gateway_row("hello there"), gateway_row("hello", tenant="acme")]
    return write_log(tmp_path / "log.jsonl.gz", [*rows, {"request": 7}])


def test_check_says_ok_or_what_is_wrong(rules_command: Turnout, file: Path, bundle_folder: Path):
    good = rules_command("check", file, "--bundle", bundle_folder)
    assert (good.code, good.out, good.err) == (0, f"{file}: ok for tiny/1; rules: 1\n", "")
    file.write_text('policy = "max_worse=7"')
    bad = rules_command("check", file, "--bundle", bundle_folder)
    assert (bad.code, bad.out) == (2, "")
    expected = "expected a policy of bundle tiny/1 (max_worse=0.01, max_worse=0.05), got 'max_worse=7'"
    assert bad.err == f"turnout: {file}: policy: {expected}\n"


def test_try_prints_a_line_for_each_rule(rules_command: Turnout, file: Path, log: Path, bundle_folder: Path):
    ended = rules_command("try", file, log, "--bundle", bundle_folder, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert "Against no rules: 2 of 3 requests change" in ended.out
    for words in ("acme stays", "(no rule)", "RULE 2", "all", "1 of 4 rows could not be read"):
        assert words in ended.out


def test_try_against_the_rules_in_force_as_json(
    rules_command: Turnout, file: Path, log: Path, bundle_folder: Path, tmp_path: Path
):
    old = tmp_path / "old.toml"
    old.write_text('otherwise = "strong"')
    ended = rules_command("try", file, log, "--bundle", bundle_folder, "--against", old, "--quiet", "--json")
    trial = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert (trial["total"]["requests"], trial["total"]["changed"]) == (3, 1)
    assert [effect["rule"] for effect in trial["rules"]] == ["acme stays", ""]
    assert trial["total"]["share_weak_before"] == 0


def test_try_refuses_bad_rules_and_empty_logs(
    rules_command: Turnout, file: Path, log: Path, bundle_folder: Path, tmp_path: Path
):
    empty = write_log(tmp_path / "empty.jsonl", [])
    assert rules_command("try", file, empty, "--bundle", bundle_folder).code == 1
    file.write_text("nonsense")
    refused = rules_command("try", file, log, "--bundle", bundle_folder)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"turnout: {file}: not TOML")


def test_try_follows_both_looks_where_it_can_and_says_so(rules_command: Turnout, file: Path, tmp_path: Path):
    rows = [gateway_row("hello there", id=str(number)) for number in range(3)]
    rows = [
        row | {"responses": {"gpt-4o-mini": {"content": "Paris.", "mean_logprob": logprob}}}
        for row, logprob in zip(rows, (-0.01, -2.0, -0.01), strict=True)
    ]
    log = write_log(tmp_path / "log.jsonl", [*rows, gateway_row("hello there", id="3")])
    bundle = checked_folder(tmp_path / "checked")
    ended = rules_command("try", file, log, "--bundle", bundle, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    for words in ("66.7%", "wait", "two looks", "to be tried without an answer of the weak model in the log: 1"):
        assert words in ended.out
    both = rules_command("try", file, log, "--bundle", bundle, "--quiet", "--json")
    total = json.loads(both.out)["total"]
    assert (total["no_answer"], total["share_tried_after"]) == (1, 1.0)
    assert total["share_waits_twice_after"] == pytest.approx(1 / 3)
    one = rules_command("try", file, log, "--bundle", bundle, "--quiet", "--no-can-check")
    assert "one look" in one.out
    assert "wait twice" not in one.out
